"""Targets against numbers worked out by hand, and errors for labels that do not fit the data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bitter_retrieval.labels.soft import LabelError
from bitter_retrieval.labels.targets import (
    NEGATIVES_FILE,
    Targets,
    binary_targets,
    mined_negatives,
    scored_rows,
    soft_targets,
    with_empty,
    with_labelled,
)
from bitter_retrieval.records import NEGATIVES, NO_PASSAGE, Row, write_rows
from bitter_retrieval.training.losses import FUNCTIONS, LabelledBatch, LossSettings, UtilityMap
from bitter_retrieval.training.settings import LOSSES

ROWS: list[Row] = [
    {"query_id": "q", "passages": [{"passage_id": "a"}, {"passage_id": "b"}]},
    {"query_id": "r", "passages": [{"passage_id": "c"}, {"passage_id": "a"}, {"passage_id": "d"}]},
]


def soft(query: str, passage: str, nll_sum: float | None, n_tokens: int = 1, index: int = 0) -> Row:
    return {"query_id": query, "passage_id": passage, "answer_index": index, "nll_sum": nll_sum, "n_tokens": n_tokens}


def labels() -> list[Row]:
    """Gains over no passage: q 1.5, -1; r 0, 3, 1. Losses are sums over two tokens; labels are in no order."""
    return [
        *(soft("r", passage, 2 * loss, 2) for passage, loss in [("a", 1), ("d", 3), (NO_PASSAGE, 4), ("c", 4)]),
        *(soft("q", passage, 2 * loss, 2) for passage, loss in [(NO_PASSAGE, 2), ("b", 3), ("a", 0.5)]),
    ]


def lists(arrays: list[np.ndarray]) -> list[list[float]]:
    return [array.tolist() for array in arrays]


def test_soft_targets_stand_in_the_order_of_the_candidates() -> None:
    found = soft_targets(ROWS, labels(), "s", "mean", "first")
    assert lists(found.nll) == [[0.5, 3], [4, 1, 3]]
    assert found.no_passage_nll.tolist() == [2, 4]
    assert lists(found.relevant) == [[False, False], [False, False, False]]
    assert found.scale == pytest.approx(np.quantile([1.5, 3, 1], 0.95)) and found.scale == pytest.approx(2.85)
    wanted = [[1.5 / 2.85, 0], [0, 1, 1 / 2.85]]  # gain over scale, between 0 and 1
    assert [u.tolist() for u in found.utility] == [pytest.approx(w) for w in wanted]
    assert {array.dtype for array in (*found.nll, *found.utility, found.no_passage_nll)} == {np.dtype(np.float32)}


def test_sums_give_another_scale() -> None:
    found = soft_targets(ROWS, labels(), "s", "sum", "first")
    assert lists(found.nll) == [[1, 6], [8, 2, 6]] and found.scale == pytest.approx(5.7)


def test_validation_takes_the_scale_of_training() -> None:
    found = soft_targets(ROWS, labels(), "s", "mean", "first", scale=6.0)
    assert found.scale == 6.0
    assert [u.tolist() for u in found.utility] == [pytest.approx([0.25, 0]), pytest.approx([0, 0.5, 1 / 6])]


def test_a_scale_is_enough_where_no_passage_helps() -> None:
    useless = [{**label, "nll_sum": 8.0} for label in labels()]
    with pytest.raises(ValueError, match="utilities have no scale"):
        soft_targets(ROWS, useless, "s", "mean", "first")
    assert not np.concatenate(soft_targets(ROWS, useless, "s", "mean", "first", scale=1.0).utility).any()


def test_binary_targets_stand_in_the_order_of_the_candidates() -> None:
    keys = {("r", "d"): 1, ("r", "a"): 0, ("q", "b"): 1, ("q", "a"): 0, ("r", "c"): 0}
    given = [{"query_id": query, "passage_id": passage, "relevant": value} for (query, passage), value in keys.items()]
    found = binary_targets(ROWS, given, "human")
    assert lists(found.relevant) == [[False, True], [False, False, True]]
    assert {array.dtype for array in found.relevant} == {np.dtype(bool)}
    assert lists(found.nll) == lists(found.utility) == [[0, 0], [0, 0, 0]]
    assert found.no_passage_nll.tolist() == [0, 0] and found.scale is None


@pytest.mark.parametrize("lost", [("r", "d"), ("q", NO_PASSAGE)])
def test_a_candidate_without_a_soft_label_is_named(lost: tuple[str, str]) -> None:
    given = [label for label in labels() if (label["query_id"], label["passage_id"]) != lost]
    with pytest.raises(
        LabelError, match=rf"labels reader_a: query {lost[0]}, passage '{lost[1]}' .*`dvc repro label@reader_a`"
    ):
        soft_targets(ROWS, given, "reader_a", "mean", "first")


def test_a_candidate_without_a_binary_label_is_named() -> None:
    given = [{"query_id": "q", "passage_id": passage, "relevant": 0} for passage in ("a", "b")]
    with pytest.raises(LabelError, match=r"labels human: query r, passage 'c' has no label.*`dvc repro label@human`"):
        binary_targets(ROWS, given, "human")


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_is_named(loss: float) -> None:
    given = [*labels()[1:], soft("r", "a", loss)]
    with pytest.raises(LabelError, match=rf"labels reader_a: query 'r', passage 'a', answer 0: loss {loss} "):
        soft_targets(ROWS, given, "reader_a", "mean", "first")


# -- what could not be scored ----------------------------------------------------------------------------------------


def test_a_candidate_that_lacks_the_loss_of_a_reference_is_left_out() -> None:
    losses = {0: 2.0, 1: 0.1}
    given = [soft("q", passage, losses[index], 1, index) for passage in ("a", NO_PASSAGE) for index in losses]
    given += [soft("q", "b", None, 1, 0), soft("q", "b", 0.1, 1, 1)]
    (row,), queries, candidates = scored_rows(ROWS[:1], given)
    assert [passage["passage_id"] for passage in row["passages"]] == ["a"] and (queries, candidates) == (0, 1)


def test_a_reference_without_a_loss_for_no_passage_counts_for_none() -> None:
    given = [soft("q", passage, None, 1, 0) for passage in ("a", NO_PASSAGE)]
    given += [soft("q", passage, loss, 1, 1) for passage, loss in {"a": 0.5, "b": 1.5, NO_PASSAGE: 2.5}.items()]
    given += [soft("q", "b", 9.0, 1, 0)]
    assert scored_rows(ROWS[:1], given) == (ROWS[:1], 0, 0)
    assert soft_targets(ROWS[:1], given, "s", "mean", "first").nll[0].tolist() == [0.5, 1.5]
    assert lists(soft_targets(ROWS[:1], given, "s", "mean", "first", gain=True).nll) == [[-2.0, -1.0]]


def test_a_query_goes_with_its_loss_without_a_passage() -> None:
    given = [*labels(), soft("x", "a", 1.0), soft("x", NO_PASSAGE, None)]
    rows = [*ROWS, {"query_id": "x", "passages": [{"passage_id": "a"}]}]
    assert scored_rows(rows, given) == (ROWS, 1, 1)


# -- gain over no passage --------------------------------------------------------------------------------------------


def test_gain_leaves_utility_and_scale_where_there_is_one_reference() -> None:
    plain, gain = (soft_targets(ROWS, labels(), "s", "mean", "first", gain=gain) for gain in (False, True))
    assert lists(gain.nll) == [[-1.5, 1], [0, -3, -1]] and gain.no_passage_nll.tolist() == [0, 0]
    assert gain.scale == plain.scale and lists(gain.utility) == lists(plain.utility)


def batch_of(targets: Targets) -> LabelledBatch:
    """Candidates side by side: a query's own are the others' in-batch passages."""
    sizes = [len(nll) for nll in targets.nll]
    own = torch.block_diag(*(torch.ones(1, size) for size in sizes)).bool()
    nll, utility = (torch.block_diag(*(torch.tensor(x)[None] for x in part)) for part in (targets.nll, targets.utility))
    similarity = torch.linspace(-0.9, 0.9, own.numel()).reshape(own.shape).sin()
    return LabelledBatch(
        similarity, own, ~own, torch.zeros_like(own), nll, torch.from_numpy(targets.no_passage_nll), utility
    )


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.labels == "soft"])
@pytest.mark.parametrize("in_batch", ["no_passage", "zero", "none"])
def test_no_loss_is_changed_by_gain_with_one_reference(name: str, in_batch: str) -> None:
    """As profiles/default.yaml says: L0 is the same for all of a query's passages, and no loss compares queries."""
    settings = LossSettings(0.05, 0.2, 0.2, in_batch)
    values = [
        FUNCTIONS[name](batch_of(soft_targets(ROWS, labels(), "s", "mean", "first", gain=gain)), settings, UtilityMap())
        for gain in (False, True)
    ]
    assert values[0].mean.item() == pytest.approx(values[1].mean.item(), abs=1e-5) and values[0].used.any()


# -- candidates beyond the prepared ones -----------------------------------------------------------------------------


def test_empty_passage_is_a_candidate_with_the_loss_without_a_passage() -> None:
    found = soft_targets(with_empty(ROWS), labels(), "s", "mean", "first")
    assert lists(found.nll) == [[0.5, 3, 2], [4, 1, 3, 4]]
    assert [utility[-1] for utility in found.utility] == [0, 0]
    assert found.scale == soft_targets(ROWS, labels(), "s", "mean", "first").scale
    gain = soft_targets(with_empty(ROWS), labels(), "s", "mean", "first", gain=True)
    assert lists(gain.nll) == [[-1.5, 1, 0], [0, -3, -1, 0]]


TEXTS: list[Row] = [
    {"query_id": "q", "passages": [{"passage_id": "a", "text": "A"}, {"passage_id": "b", "text": "B"}]},
    {"query_id": "r", "passages": [{"passage_id": "c", "text": "C"}]},
]


def test_labelled_passages_become_candidates_after_the_prepared_ones() -> None:
    given = [soft("r", passage, 1) for passage in ("b", "c", NO_PASSAGE, "a", "b")] + [soft("z", "a", 1)]
    found = with_labelled(TEXTS, given)
    assert found[0] is TEXTS[0]  # nothing beyond its own: the row as it was
    assert [(p["passage_id"], p["text"]) for p in found[1]["passages"]] == [("c", "C"), ("b", "B"), ("a", "A")]
    assert len(TEXTS[1]["passages"]) == 1


def test_labelled_passage_without_a_text_is_named() -> None:
    with pytest.raises(LabelError, match=r"query r: passage 'x' of its labels is in no row of the split.*`dvc repro`"):
        with_labelled(TEXTS, [soft("r", "x", 1)])


def test_mined_negatives_come_with_their_texts(tmp_path: Path) -> None:
    assert mined_negatives(tmp_path, TEXTS) == {}  # a source that does not mine
    pairs = [("r", "b"), ("q", "c"), ("r", "a")]
    rows = [{"query_id": query, "passage_id": passage, "score": 0.5} for query, passage in pairs]
    write_rows(tmp_path / NEGATIVES_FILE, rows, NEGATIVES)
    found = mined_negatives(tmp_path, TEXTS)
    assert {query: [p["text"] for p in passages] for query, passages in found.items()} == {"r": ["B", "A"], "q": ["C"]}
    write_rows(tmp_path / NEGATIVES_FILE, [rows[0] | {"passage_id": "x"}], NEGATIVES)
    with pytest.raises(LabelError, match="query r: passage 'x'"):
        mined_negatives(tmp_path, TEXTS)
