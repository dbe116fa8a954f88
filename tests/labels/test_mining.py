"""Mined negatives and retrieved candidates against a slow search, and their use in training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from bitter_retrieval.labels.mining import first_checkpoint, mine, positives, retrieved
from bitter_retrieval.labels.targets import soft_targets, with_empty
from bitter_retrieval.records import NO_PASSAGE, Row, passage_texts
from bitter_retrieval.training.objective import Objective
from bitter_retrieval.training.sets import TrainingError, TrainingSet, training_set

ROWS = tiny.world(12)
TRUE = positives(tiny.truth(ROWS), False, "truth")
TEXTS = passage_texts(ROWS)


class Given:
    """An encoder whose vectors are given by text."""

    model = SimpleNamespace(device=torch.device("cpu"))

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors

    def embed(self, texts: list[str], *_: Any) -> np.ndarray:
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)


def scattered() -> Given:
    """A unit vector at random for each text: a tiny transformer finds all passages alike."""
    texts = [*TEXTS.values(), *(row["query"] for row in ROWS)]
    vectors = np.random.default_rng(0).normal(size=(len(texts), 4))
    return Given(dict(zip(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True)))


def similarities() -> np.ndarray:
    """[queries, passages], one pair at a time."""
    vectors = scattered().vectors
    return np.array([[np.dot(vectors[row["query"]], vectors[text]) for text in TEXTS.values()] for row in ROWS])


def mined(**changes: Any) -> list[Row]:
    settings = {"per_query": 3, "depth": len(TEXTS), "below": 0.95, "budget": 64}
    return mine(ROWS, TRUE, scattered(), **(settings | changes))


def by_query(rows: list[Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["query_id"], []).append(row["passage_id"])
    return found


# -- mining ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_query", "depth", "below"), [(3, 14, 0.95), (1, 5, 0.9), (14, 14, 1.0)])
def test_negatives_are_those_of_a_slow_search(per_query: int, depth: int, below: float) -> None:
    scores, ids, wanted = similarities(), list(TEXTS), {}
    for row, own_scores in zip(ROWS, scores, strict=True):
        score = dict(zip(ids, own_scores, strict=True))
        (positive,) = TRUE[row["query_id"]]
        bound = score[positive] * (below if score[positive] > 0 else 2 - below)
        own = {passage["passage_id"] for passage in row["passages"]}
        best = sorted(ids, key=lambda passage_id: -score[passage_id])[:depth]
        kept = [p for p in best if p not in own and score[p] <= bound][:per_query]
        wanted |= {row["query_id"]: kept} if kept else {}
    found = mined(per_query=per_query, depth=depth, below=below)
    assert by_query(found) == wanted and wanted
    place = {row["query_id"]: at for at, row in enumerate(ROWS)}
    expected = [scores[place[row["query_id"]], ids.index(row["passage_id"])] for row in found]
    assert [row["score"] for row in found] == pytest.approx(expected, abs=1e-6)


def test_what_stands_too_near_the_positive_is_left_out() -> None:
    near, far = by_query(mined(below=1.0, per_query=14)), by_query(mined(below=0.8, per_query=14))
    assert sum(map(len, far.values())) < sum(map(len, near.values()))
    assert all(set(passages) <= set(near[query]) for query, passages in far.items())


def test_same_input_same_negatives() -> None:
    assert mined() == mined()


def test_question_without_a_positive_gets_none() -> None:
    fewer = {query: passages for query, passages in TRUE.items() if query != "q3"}
    found = mine(ROWS, fewer, scattered(), 3, len(TEXTS), 0.95, 64)
    assert by_query(found) == {query: own for query, own in by_query(mined()).items() if query != "q3"}


def test_of_several_positives_the_least_similar_counts() -> None:
    scores, ids = similarities()[0], list(TEXTS)
    own = sorted((p["passage_id"] for p in ROWS[0]["passages"]), key=lambda p: scores[ids.index(p)])
    both = mine(ROWS, {"q0": own}, scattered(), 9, len(TEXTS), 0.95, 64)
    lowest = mine(ROWS, {"q0": own[:1]}, scattered(), 9, len(TEXTS), 0.95, 64)
    highest = mine(ROWS, {"q0": own[-1:]}, scattered(), 9, len(TEXTS), 0.95, 64)
    assert both == lowest != highest


def test_positive_of_negative_similarity_still_lies_above_its_negatives() -> None:
    rows = [{"query_id": "q", "query": "q", "passages": [{"passage_id": "p", "text": "p"}]}]
    rows += [{"query_id": "r", "query": "q", "passages": [{"passage_id": x, "text": x} for x in ("near", "far")]}]
    encoder = Given({"q": [1, 0], "p": [-0.4, 0.9], "near": [-0.39, 0.9], "far": [-0.43, 0.9]})
    assert by_query(mine(rows, {"q": ["p"]}, encoder, 3, 3, 0.95, 64)) == {"q": ["far"]}


def test_positives_of_a_source() -> None:
    assert TRUE["q4"] == {"p4"}
    assert positives(tiny.soft(ROWS), True, "reader_a") == TRUE
    cheap = {"query_id": "q4", "passage_id": NO_PASSAGE, "answer_index": 0, "nll_sum": 0.0, "n_tokens": 2}
    assert positives([cheap, *tiny.soft(ROWS)], True, "reader_a") == TRUE  # no passage is no positive
    lost = [{**label, "nll_sum": None} if label["passage_id"] == "p4" else label for label in tiny.soft(ROWS)]
    assert positives(lost, True, "reader_a")["q4"] in ({"p5"}, {"p9"})  # of what was scored
    level = [{**label, "nll_sum": 1.0 + 1e-7 * place} for place, label in enumerate(tiny.soft(ROWS[:1]))]
    assert positives(level, True, "reader_a") == {"q0": {p["passage_id"] for p in ROWS[0]["passages"]}}  # they tie


# -- retrieving ------------------------------------------------------------------------------------------------------


def test_retrieved_passages_follow_the_candidates() -> None:
    scores, ids = similarities(), list(TEXTS)
    found = retrieved(ROWS, scattered(), 4, 64)
    for row, before, own_scores in zip(found, ROWS, scores, strict=True):
        given = [passage["passage_id"] for passage in before["passages"]]
        best = [ids[at] for at in np.argsort(-own_scores)[:4]]
        assert [p["passage_id"] for p in row["passages"]] == given + [p for p in best if p not in given]
        assert all(passage["text"] == TEXTS[passage["passage_id"]] for passage in row["passages"])
    assert any(len(row["passages"]) > 3 for row in found)


def test_first_checkpoint_is_the_lowest_seed_or_the_encoder_itself(tmp_path: Path) -> None:
    assert first_checkpoint(tmp_path) == tmp_path
    for seed in (10, 9):
        (tmp_path / f"seed{seed}").mkdir()
    assert first_checkpoint(tmp_path) == tmp_path / "seed9"


# -- training --------------------------------------------------------------------------------------------------------


def test_mined_negatives_are_in_batch_passages() -> None:
    encoder, targets = tiny.tiny_encoder().eval(), tiny.truth_labelled(ROWS)
    hard = {"q0": [{"passage_id": "p9", "text": TEXTS["p9"]}, {"passage_id": "new", "text": "Nobody owns a mule."}]}
    plain, data = training_set(ROWS, targets, encoder), training_set(ROWS, targets, encoder, hard)
    assert data.passages == [*plain.passages, *encoder.tokens(["Nobody owns a mule."], "passage")]

    def outcome(data: TrainingSet, *places: int) -> Any:
        return Objective(tiny.RUNS["infonce"], 64)(encoder, data, np.array(places))

    mined, without = outcome(data, 0, 2), outcome(plain, 0, 2)
    assert mined.batch.similarity.shape[1] == without.batch.similarity.shape[1] + 2  # no candidates of q0 or q2
    assert mined.batch.own.sum(1).tolist() == without.batch.own.sum(1).tolist() == [3, 3]
    assert mined.batch.others.sum(1).tolist() == [count + 2 for count in without.batch.others.sum(1).tolist()]
    query = encoder.embed([ROWS[0]["query"]], "query", 64)[0]
    found = mined.batch.similarity[0][mined.batch.others[0]].tolist()
    for text in (TEXTS["p9"], "Nobody owns a mule."):
        score = float(query @ encoder.embed([text], "passage", 64)[0])
        assert min(abs(score - other) for other in found) < 1e-6
    assert mined.total > without.total  # the denominator has grown
    assert outcome(data, 1, 2).total.equal(outcome(plain, 1, 2).total)  # the negatives of q0 stay with q0


# -- the empty passage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("prefix", ["", "passage: "])
def test_empty_passage_has_a_unit_vector_and_trains(pooling: str, prefix: str) -> None:
    encoder = tiny.tiny_encoder(pooling=pooling, passage_prefix=prefix)
    empty = encoder.embed([""], "passage", 64)
    assert np.linalg.norm(empty) == pytest.approx(1, abs=1e-6)
    together = encoder.embed(["", TEXTS["p1"]], "passage", 64)[0]
    assert together == pytest.approx(empty[0], abs=1e-6)
    rows = with_empty(ROWS)
    data = training_set(rows, soft_targets(rows, tiny.soft(ROWS), "reader_a", "mean", "first"), encoder)
    found = Objective(tiny.RUNS["full_modular"], 256)(encoder, data, np.arange(4))
    found.total.backward()
    assert (found.batch.own.sum(1) == 4).all()  # three passages, and the empty one for every query
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_text_without_tokens_is_refused() -> None:
    encoder, rows = tiny.tiny_encoder(), with_empty(ROWS)
    targets = soft_targets(rows, tiny.soft(ROWS), "reader_a", "mean", "first")
    encoder.tokenizer = lambda texts, **_: type("Tokens", (), {"input_ids": [[5] * len(text) for text in texts]})
    with pytest.raises(TrainingError, match=r"passage '', text '': no tokens.*passage_prefix.*empty_candidate"):
        training_set(rows, targets, encoder)
