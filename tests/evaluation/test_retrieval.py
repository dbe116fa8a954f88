"""Retrieval against slow loops: every ranking, every rank of a candidate, and BM25's formula written out."""

import os
import re
import subprocess
import sys
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from any_values import FEW, broken_texts
from hypothesis import given
from hypothesis import strategies as st

from bitter_retrieval.evaluation import retrieval
from bitter_retrieval.evaluation.retrieval import Ranking, RetrievalError, rank_by_bm25, rank_by_vectors, without_word

IDS = [f"p{number}" for number in (7, 3, 9, 1, 4, 8, 0, 2, 6, 5)]  # ids in another order than places
TEXTS = [
    "Aldan Brenley was born in Caldbury.",
    "The birthplace of Aldan Brenley is Caldbury. Aldan Brenley works as a baker.",
    "Old Crowby lies on the Arava.",
    "the river of old crowby is the Arava, the river Arava",
    "Nothing tastes better to her than stew.",
    "Stew stew stew.",
    "Aldan keeps a goat.",
    "Old Crowby lies on the Arava.",
    "A b c",
    "Brenley",
]


def slow(scores: list[list[float]], ids: list[str], candidates: list[list[str]], k: int) -> list[Ranking]:
    """Sort whole rows; the earlier place wins a tie."""
    rankings = []
    for row, own in zip(scores, candidates, strict=True):
        order = sorted(range(len(ids)), key=lambda place: (-row[place], place))
        rank = {ids[place]: at + 1 for at, place in enumerate(order)}
        rankings.append(Ranking([ids[p] for p in order[:k]], [row[p] for p in order[:k]], [rank[p] for p in own]))
    return rankings


def bm25(query: str, texts: list[str]) -> list[float]:
    """Lucene's BM25: idf = ln(1 + (N - n + .5) / (n + .5)); a word of one letter is no word."""
    documents = [re.findall(r"\b\w\w+\b", text.lower()) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(texts)
    for word in re.findall(r"\b\w\w+\b", query.lower()):
        having = sum(word in document for document in documents)
        idf = log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        for place, document in enumerate(documents):
            count = Counter(document)[word]
            scores[place] += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
    return scores


def blocks(monkeypatch: pytest.MonkeyPatch, queries: int, passages: int) -> None:
    monkeypatch.setattr(retrieval, "QUERIES_AT_ONCE", queries)
    monkeypatch.setattr(retrieval, "PASSAGES_AT_ONCE", passages)


@pytest.mark.parametrize(("queries_at_once", "passages_at_once"), [(1, 40), (3, 7), (256, 1), (2, 39), (256, 4096)])
@pytest.mark.parametrize("k", [1, 4, 50])
def test_vectors_rank_like_a_sort_ties_included(
    queries_at_once: int, passages_at_once: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks(monkeypatch, queries_at_once, passages_at_once)
    rng = np.random.default_rng(0)
    queries = rng.integers(-1, 2, size=(7, 3)).astype(np.float32)  # few values: ties everywhere
    passages = rng.integers(-1, 2, size=(40, 3)).astype(np.float32)
    ids = [f"p{place}" for place in rng.permutation(40)]
    candidates = [[ids[place] for place in rng.permutation(40)[:size]] for size in (3, 1, 0, 10, 5, 40, 2)]
    scores = [[float(sum(a * b for a, b in zip(q, p, strict=True))) for p in passages] for q in queries]
    assert any(len(set(row)) < 20 for row in scores)
    assert rank_by_vectors(queries, passages, ids, candidates, k) == slow(scores, ids, candidates, k)


@pytest.mark.parametrize("kind", ["distinct", "ties", "nothing found", "odd"])
@pytest.mark.parametrize("k", [1, 7, 299, 300, 301])
def test_best_are_those_of_a_sort_of_the_whole_row(kind: str, k: int) -> None:
    rng = np.random.default_rng(0)
    odd = [0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 1.5, np.nextafter(np.float32(1.5), np.float32(2))]
    rows = {
        "distinct": rng.normal(size=(9, 300)),
        "ties": rng.integers(-2, 3, size=(9, 300)) / 4,
        "nothing found": np.where(rng.random((9, 300)) < 0.01, 1.0, 0.0),
        "odd": rng.choice(odd, size=(9, 300)),
    }
    scores = rows[kind].astype(np.float32)
    best = retrieval._largest(retrieval._keys(torch.from_numpy(scores), torch.arange(1000, 1000 + scores.shape[1])), k)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(retrieval._place_of(best), order + 1000)
    np.testing.assert_array_equal(retrieval._score_of(best), np.take_along_axis(scores, order, 1))


def test_no_more_scores_are_computed_at_once_than_a_block_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a block without candidates is computed once, however many candidates there are elsewhere."""
    blocks(monkeypatch, 2, 10)
    rng = np.random.default_rng(1)
    queries, passages = (rng.normal(size=(size, 4)).astype(np.float32) for size in (5, 95))
    ids, asked = [str(place) for place in range(95)], []
    products = retrieval._products

    def counted(*vectors: object) -> retrieval.Scores:
        scores = products(*vectors)

        def told(some: slice, block: slice) -> torch.Tensor:
            asked.append((some.start, block.start))
            found = scores(some, block)
            assert found.shape[0] <= 2 and found.shape[1] <= 10
            return found

        return told

    monkeypatch.setattr(retrieval, "_products", counted)
    found = rank_by_vectors(queries, passages, ids, [["3", "8"]] * 4 + [["94"]], 3)
    assert len(asked) == 3 * 10 + 2 + 1 and asked.count((0, 0)) == 2 and asked.count((0, 10)) == 1
    scores = queries @ passages.T
    assert found[4].candidate_ranks == [1 + int((scores[4] > scores[4, 94]).sum())]


def test_a_memory_map_ranks_like_what_it_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    queries, passages = (rng.normal(size=(size, 8)).astype(np.float32) for size in (3, 20))
    np.save(tmp_path / "passages.npy", passages)
    ids = [str(place) for place in range(20)]
    mapped = np.load(tmp_path / "passages.npy", mmap_mode="r")
    found = [rank_by_vectors(queries, vectors, ids, [ids[:2]] * 3, 5) for vectors in (passages, mapped)]
    assert found[0] == found[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_similarity_that_is_no_number_is_refused(bad: float) -> None:
    passages = np.eye(3, dtype=np.float32)
    passages[1, 1] = bad
    with pytest.raises(RetrievalError, match="not a finite number.*lower learning rate"):
        rank_by_vectors(np.ones((1, 3), dtype=np.float32), passages, list("abc"), [["a"]], k=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_ranks_like_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small whole numbers: both compute them exactly, with ties."""
    blocks(monkeypatch, 3, 64)
    rng = np.random.default_rng(0)
    queries, passages = (rng.integers(-2, 3, size=(size, 16)).astype(np.float32) for size in (10, 300))
    ids = [f"p{place}" for place in range(300)]
    candidates = [ids[at : at + 40 : 5] for at in range(10)]
    found = [rank_by_vectors(queries, passages, ids, candidates, 10, device) for device in ("cpu", "cuda")]
    assert found[0] == found[1]


def test_vectors_by_hand() -> None:
    passages = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 1]], dtype=np.float32)
    [ranking] = rank_by_vectors(np.array([[0, 1]], dtype=np.float32), passages, list("abcd"), [["d", "a", "b"]], k=3)
    assert ranking.ids == ["b", "d", "c"] and ranking.scores == pytest.approx([1, 1, 0.8])
    assert ranking.candidate_ranks == [2, 4, 1]


def test_a_candidate_outside_the_corpus_is_refused() -> None:
    one = np.ones((1, 2), dtype=np.float32)
    with pytest.raises(KeyError, match="elsewhere"):
        rank_by_vectors(one, one, ["p0"], [["elsewhere"]], k=1)
    with pytest.raises(KeyError, match="elsewhere"):
        rank_by_bm25(["stew"], TEXTS, IDS, [["elsewhere"]], k=1)


@pytest.mark.parametrize("given", [1, 3])
def test_as_many_candidate_lists_as_queries_are_wanted(given: int) -> None:
    two = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError):
        rank_by_vectors(two, two, ["a", "b"], [["a"]] * given, k=1)
    with pytest.raises(ValueError):
        rank_by_bm25(["stew", "goat"], TEXTS, IDS, [["p7"]] * given, k=1)


QUERIES = [
    "Where was Aldan Brenley born?",
    "What is the river of Old Crowby?",
    "STEW, stew!",  # a word that is asked twice counts twice
    "goat",
    "Who is Zaphod?",  # one known word
    "Zaphod Beeblebrox",  # none: ties all over
    "",
    "a",
]


def test_bm25_is_the_formula() -> None:
    candidates = [IDS[at : at + 4] for at in range(len(QUERIES) - 1)] + [IDS]
    found = rank_by_bm25(QUERIES, TEXTS, IDS, candidates, k=len(IDS))
    scores = [bm25(query, TEXTS) for query in QUERIES]
    assert max(scores[0]) > 0 and scores[1][2] == scores[1][7] > 0 and not any(scores[5])
    for ranking, row, own, query in zip(found, scores, candidates, QUERIES, strict=True):
        by_id = dict(zip(IDS, row, strict=True))
        assert ranking.scores == pytest.approx([by_id[passage] for passage in ranking.ids], rel=1e-5, abs=1e-6), query
        [wanted] = slow([row], IDS, [own], len(IDS))
        assert ranking.ids == wanted.ids and ranking.candidate_ranks == wanted.candidate_ranks, query
    assert found[5].ids == IDS  # nothing found: the order of the corpus


CHINESE = [("华沙位于维斯瓦河畔。", "哪条河流经华沙"), ("东京是日本的首都。", "日本的首都是什么")]
JAPANESE = [("東京タワーは高い。", "タワーの高さは"), ("ネコは魚を食べる。", "ｈｏｗ：ﾈｺは何を食べますか")]
THAI = [("กรุงเทพมหานครเป็นเมืองหลวง", "เมืองหลวงคืออะไร"), ("แมวกินปลา", "ปลาอะไร")]
HINDI = [("दिल्ली भारत की राजधानी है।", "राजधानी क्या है"), ("गंगा एक नदी है", "नदी कौन सी")]
MIXED = [("请用PyTorch的DataLoader加载数据。", "DataLoader怎么用"), ("The Vistula is a river.", "vistula是什么")]


@pytest.mark.parametrize("pairs", [CHINESE, JAPANESE, THAI, HINDI, MIXED])
def test_bm25_finds_words_of_any_script(pairs: list[tuple[str, str]]) -> None:
    texts = [*TEXTS, *(text for text, _ in pairs)]
    ids = [str(place) for place in range(len(texts))]
    found = rank_by_bm25([query for _, query in pairs], texts, ids, [[]] * len(pairs), k=3)
    assert [ranking.ids[0] for ranking in found] == ids[len(TEXTS) :]
    assert without_word(ranking.scores for ranking in found) == 0


def test_bm25_does_not_take_one_vowel_for_another() -> None:
    [ranking] = rank_by_bm25(["की नदि"], ["वह कि नाद", "x"], ["a", "b"], [[]], k=2)
    assert without_word([ranking.scores]) == 1
    [composed] = rank_by_bm25(["ता\u0301 u\u0308ber"], ["über alles", "uber"], ["a", "b"], [[]], k=2)
    assert composed.ids[0] == "a" and composed.scores[0] > 0


def test_a_foreign_name_in_a_passage_changes_no_figure_of_plain_questions() -> None:
    foreign = [f"{text} 樞密院 नदी" for text in TEXTS]
    scores = [bm25(query, foreign) for query in QUERIES]
    for row, ranking in zip(scores, rank_by_bm25(QUERIES, foreign, IDS, [[]] * len(QUERIES), k=10), strict=True):
        by_id = dict(zip(IDS, row, strict=True))
        assert ranking.scores == pytest.approx([by_id[passage] for passage in ranking.ids], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("texts", [["?", "!"], ["", ""], ["😀", "."]])
def test_queries_without_a_matching_word_are_counted(texts: list[str]) -> None:
    found = rank_by_bm25(["stew", "?", "", "華"], texts, ["a", "b"], [["b"]] * 4, k=2)
    assert [ranking.ids for ranking in found] == [["a", "b"]] * 4 and [one.candidate_ranks for one in found] == [
        [2]
    ] * 4
    assert without_word(ranking.scores for ranking in found) == 4
    found = rank_by_bm25(["stew", "goat", "none such"], TEXTS, IDS, [[]] * 3, k=2)
    assert without_word(ranking.scores for ranking in found) == 1


def test_bm25_keeps_the_best() -> None:
    [ranking] = rank_by_bm25(["goat of Aldan"], TEXTS, IDS, [["p0", "p4"]], k=2)
    assert len(ranking.ids) == len(ranking.scores) == 2
    assert ranking.ids[0] == "p0" and ranking.candidate_ranks[0] == 1 and ranking.candidate_ranks[1] > 2


MEMORY = """
import resource, sys
import numpy as np
from bitter_retrieval.evaluation.retrieval import rank_by_vectors
from bitter_retrieval.models.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
draw = np.random.default_rng(0)
queries, passages = (draw.standard_normal((count, 16), dtype=np.float32) for count in (1024, 33_000))
ids = [str(place) for place in range(len(passages))]
own = [ids[:5]] * len(queries)
rank_by_vectors(queries[:2], passages[:99], ids[:99], own[:2], 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rank_by_vectors(queries, passages, ids, own, 10)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("how", ["keep", "free"])
def test_ranking_takes_little_memory_whether_freed_memory_is_kept_or_not(how: str) -> None:
    """MiB on top of what the process has; all keys of a block at once took 400."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", MEMORY, how], env=environment, capture_output=True, check=True)
    assert int(done.stdout) < 200


@FEW
@given(
    passages=st.lists(broken_texts | st.sampled_from(TEXTS), min_size=1, max_size=6),
    queries=st.lists(broken_texts | st.sampled_from(TEXTS), min_size=1, max_size=3),
)
def test_bm25_ranks_any_texts_in_one_order(passages: list[str], queries: list[str]) -> None:
    ids = [f"p{number}" for number in range(len(passages))]
    found = rank_by_bm25(queries, passages, ids, [ids] * len(queries), len(ids))
    assert found == rank_by_bm25(queries, passages, ids, [ids] * len(queries), len(ids))
    for ranking in found:
        assert sorted(ranking.ids) == ids and sorted(ranking.candidate_ranks) == list(range(1, len(ids) + 1))
        assert all(0 <= score < float("inf") for score in ranking.scores)
        ranked = list(zip(ranking.scores, ranking.ids, strict=True))
        assert ranked == sorted(ranked, key=lambda one: (-one[0], one[1]))
