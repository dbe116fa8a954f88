"""Ranking metrics against loops written out from their definitions, on random rankings."""

import random
from math import log2

import pytest
from any_values import FEW, texts
from hypothesis import given
from hypothesis import strategies as st

from bitter_retrieval.statistics.metrics import of_family
from bitter_retrieval.statistics.ranking_metrics import ranking_metrics


def slow(ranking: list[str], relevant: set[str]) -> dict[str, float]:
    """nDCG@10 = sum over relevant ranks r <= 10 of 1 / log2(r + 1), over what the best order would give."""
    gained, first = 0.0, 0.0
    for rank in range(1, 11):
        if rank <= len(ranking) and ranking[rank - 1] in relevant:
            gained += 1 / log2(rank + 1)
            first = first or 1 / rank
    best = 0.0
    for rank in range(1, min(10, len(relevant)) + 1):
        best += 1 / log2(rank + 1)
    found = {"ndcg_10": gained / best, "mrr_10": first}
    for cutoff in (1, 5, 10):
        found[f"recall_{cutoff}"] = sum(passage in relevant for passage in ranking[:cutoff]) / len(relevant)
    return found


def test_random_rankings_with_missing_passages_and_labels() -> None:
    draw = random.Random(0)
    corpus = [f"p{number}" for number in range(40)] + [""]
    rankings, relevant = {}, {}
    for number in range(300):
        query = f"q{number}"
        rankings[query] = draw.sample(corpus, draw.choice([1, 3, 10, 15]))
        labelled = draw.sample(corpus[:-1], draw.choice([0, 1, 1, 2, 5, 14]))  # many are in no ranking
        relevant[query] = {*labelled, *(["elsewhere"] if draw.random() < 0.2 else [])}  # and one is in no corpus
    relevant["not asked"] = {"p0"}
    del relevant["q7"]
    found = ranking_metrics(rankings, relevant)
    assert set(found) == {query for query in rankings if relevant.get(query)} and 200 < len(found) < 290
    for query, metrics in found.items():
        assert metrics == pytest.approx(slow(rankings[query], relevant[query])), query
    hits = [metrics["mrr_10"] for metrics in found.values()]
    assert 0.0 in hits and 1.0 in hits and len(set(hits)) > 5


def test_the_order_of_a_ranking_counts_and_no_passages_name() -> None:
    """trec_eval breaks ties of score by name; our rankings count by rank alone."""
    for ranking in (["a", "b", "c"], ["c", "b", "a"]):
        assert ranking_metrics({"q": ranking}, {"q": {"b"}})["q"]["mrr_10"] == 0.5


@pytest.mark.parametrize("name", ["a\0b", "\0", "", " ", "\x1b[31m", "/etc", "नदी", "😀", "\u202e", "x" * 100_000])
def test_any_id_will_do(name: str) -> None:
    """trec_eval cuts ids off at a NUL: those of two passages may become one, and a question is then unknown."""
    found = ranking_metrics({name: ["other", name], "q": [name]}, {name: {name, f"{name}2"}, "q": {"other"}})
    assert found[name] == pytest.approx(slow(["other", name], {name, f"{name}2"})) and found["q"]["mrr_10"] == 0


def test_nothing_ranked_is_nothing_measured() -> None:
    assert ranking_metrics({}, {"q": {"a"}}) == {} == ranking_metrics({"q": ["a"]}, {"q": set()})
    assert set(ranking_metrics({"q": ["a"]}, {"q": {"a"}})["q"]) == {row.name for row in of_family("ranking")}


ASKED = st.dictionaries(
    texts,
    st.tuples(st.lists(texts, min_size=1, max_size=12, unique=True), st.sets(texts, min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@FEW
@given(asked=ASKED, order=st.randoms(use_true_random=False))
def test_any_ranking_has_metrics_within_bounds_whatever_the_order_of_questions(
    asked: dict[str, tuple[list[str], set[str]]], order: random.Random
) -> None:
    shuffled = order.sample(list(asked), len(asked))
    relevant = {query: order.sample(sorted(asked[query][1]), len(asked[query][1])) for query in shuffled}
    found = ranking_metrics({query: asked[query][0] for query in shuffled}, relevant)
    again = ranking_metrics({query: own[0] for query, own in asked.items()}, {q: own[1] for q, own in asked.items()})
    assert found == again and list(found) == shuffled
    for query, metrics in found.items():
        assert all(0 <= value <= 1 for value in metrics.values())
        assert metrics == pytest.approx(slow(asked[query][0], asked[query][1]))
        assert metrics["recall_1"] <= metrics["recall_5"] <= metrics["recall_10"]
