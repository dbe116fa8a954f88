"""The rules of soft labels against numbers worked out by hand, and utilities against their formula in torch."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bitter_retrieval.labels.soft import (
    LabelError,
    best_passages,
    candidate_losses,
    passage_losses,
    share_outside,
    utility,
    utility_scale,
)
from bitter_retrieval.records import NO_PASSAGE, Row

SOURCE = Path(__file__).parents[2] / "src"


def soft(query: str, passage: str, nll_sum: float | None, n_tokens: int | None = 1, index: int = 0) -> Row:
    return {"query_id": query, "passage_id": passage, "answer_index": index, "nll_sum": nll_sum, "n_tokens": n_tokens}


def test_tables_of_labels_do_without_torch() -> None:
    """torch takes seconds to load, and compare does not need it otherwise."""
    modules = "labels.soft, bitter_retrieval.labels.targets, bitter_retrieval.statistics.outcomes"
    code = f"import sys, bitter_retrieval.{modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE).returncode == 0


# -- one loss a passage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nll", "references", "loss"),
    [
        ("mean", "first", 6 / 3),
        ("sum", "first", 6.0),
        ("mean", "best", 1.5),
        ("sum", "best", 1.5),
        ("mean", "mean", (2 + 4 + 1.5) / 3),
        ("sum", "mean", (6 + 8 + 1.5) / 3),
    ],
)
def test_a_loss_from_three_references(nll: str, references: str, loss: float) -> None:
    rows = [soft("q", "a", 8.0, 2, index=1), soft("q", "a", 1.5, 1, index=2), soft("q", "a", 6.0, 3, index=0)]
    assert passage_losses(rows, nll, references) == {"q": {"a": pytest.approx(loss)}}


def test_best_by_the_mean_is_not_best_by_the_sum() -> None:
    rows = [soft("q", "a", 3.0, 1, index=0), soft("q", "a", 4.0, 4, index=1)]
    assert passage_losses(rows, "mean", "best") == {"q": {"a": 1.0}}
    assert passage_losses(rows, "sum", "best") == {"q": {"a": 3.0}}


def test_by_default_a_loss_is_the_mean_of_the_best_reference() -> None:
    rows = [soft("q", "a", 3.0, 1, index=0), soft("q", "a", 4.0, 4, index=1)]
    assert passage_losses(rows) == passage_losses(rows, "mean", "best") == {"q": {"a": 1.0}}


def test_losses_of_one_passage_for_two_queries_stay_apart() -> None:
    assert passage_losses([soft("r", "a", 1.0), soft("q", "a", 0.5)]) == {"r": {"a": 1.0}, "q": {"a": 0.5}}


def test_means_without_token_counts_are_losses_already() -> None:
    assert passage_losses([soft("q", "p", 1.5, None)]) == {"q": {"p": 1.5}}


@pytest.mark.parametrize(("loss", "why"), [(3e38, "beyond 1,000,000 nats"), (-3e38, "beyond 1,000,000 nats")])
def test_a_label_with_a_flipped_bit_is_named(loss: float, why: str) -> None:
    """Of its exponent: training would end in `Lower the learning rate`."""
    with pytest.raises(
        LabelError, match=rf"^labels a: query 'q', passage 'p', answer 0: loss {re.escape(str(loss))} is {why}. Make"
    ):
        passage_losses([soft("q", "p", 1.0, 1), soft("q", "p", loss, 1)], source="a")
    assert passage_losses([soft("q", "p", -2.5, 1)]) == {"q": {"p": -2.5}}  # of a cross-encoder


@pytest.mark.parametrize("loss", [math.inf, math.nan])
@pytest.mark.parametrize(("source", "told"), [("reader_a", "labels reader_a: query 'q'"), ("", "query 'q'")])
def test_a_loss_that_is_not_finite_is_named(loss: float, source: str, told: str) -> None:
    rows = [soft("q", "a", 1.0), soft("q", "a", loss, index=1)]
    with pytest.raises(LabelError, match=rf"^{told}, passage 'a', answer 1: loss {loss} is not finite"):
        passage_losses(rows, references="first", source=source)


# -- what could not be scored ----------------------------------------------------------------------------------------


def test_a_passage_is_never_compared_by_another_reference_than_its_neighbours() -> None:
    """Reference 0 is hard, 1 is easy: b, scored for 1 alone, would seem the best passage."""
    losses = {0: 2.0, 1: 0.1}
    given = [soft("q", passage, losses[index], 1, index) for passage in ("a", NO_PASSAGE) for index in losses]
    given += [soft("q", "b", None, 1, 0), soft("q", "b", 0.1, 1, 1)]
    for references, loss in {"first": 2.0, "best": 0.1, "mean": 1.05}.items():
        wanted = {"q": {"a": pytest.approx(loss), NO_PASSAGE: pytest.approx(loss)}}
        assert passage_losses(given, "mean", references) == wanted


def test_a_reference_without_a_loss_for_no_passage_counts_for_none() -> None:
    given = [soft("q", "a", 0.5, 1, 1), soft("q", "a", 9.0, 1, 0), soft("q", NO_PASSAGE, 2.5, 1, 1)]
    assert passage_losses(given, references="first") == {"q": {"a": 0.5, NO_PASSAGE: 2.5}}


def test_without_a_loss_for_no_passage_every_reference_of_a_passage_is_wanted_of_all() -> None:
    given = [soft("q", "a", 2.0, 1, 0), soft("q", "a", 1.0, 1, 1), soft("q", "b", 0.5, 1, 1), soft("r", "c", 3.0, 1, 1)]
    assert passage_losses(given) == {"q": {"a": 1.0}, "r": {"c": 3.0}}


# -- gain over no passage --------------------------------------------------------------------------------------------


def test_best_by_gain_is_the_reference_that_the_passage_helps_most() -> None:
    """Reference 0 is easy to guess and not helped; reference 1 is hard and helped by 3."""
    rows = [soft("q", "a", loss, 1, index) for index, loss in enumerate([0.5, 2.0])]
    rows += [soft("q", NO_PASSAGE, loss, 1, index) for index, loss in enumerate([0.4, 5.0])]
    assert passage_losses(rows, "mean", "best") == {"q": {"a": 0.5, NO_PASSAGE: 0.4}}
    assert passage_losses(rows, "mean", "best", gain=True) == {"q": {"a": -3.0, NO_PASSAGE: 0.0}}


def test_gain_is_over_the_loss_of_the_same_reference_in_the_same_unit() -> None:
    rows = [soft("q", "a", 6.0, 3), soft("q", NO_PASSAGE, 9.0, 3), soft("q", "a", 1.0, 1, 1)]  # 1: no loss without
    assert passage_losses(rows, "mean", "mean", gain=True)["q"]["a"] == pytest.approx(-1.0)
    assert passage_losses(rows, "sum", "mean", gain=True)["q"]["a"] == pytest.approx(-3.0)


def test_a_query_without_a_loss_for_no_passage_has_no_gain() -> None:
    assert passage_losses([soft("x", "a", 1.0), soft("x", NO_PASSAGE, None)], gain=True) == {}


# -- the best passages -----------------------------------------------------------------------------------------------


def test_passages_closer_than_a_tie_are_all_best() -> None:
    assert best_passages({"a": 0.2 + 5e-7, "b": 0.2, "c": 0.2 + 2e-6}) == {"a", "b"}
    assert best_passages({"a": 0.2, "b": 0.2 + 2e-6}) == {"a"}
    assert best_passages({}) == frozenset()


def test_ties_count_in_fractions() -> None:
    assert share_outside({"a", "b", "c"}, {"a", "d"}) == pytest.approx(2 / 3)
    assert (share_outside({"a"}, {"a", "b"}), share_outside({"c"}, {"a", "b"})) == (0, 1)


def test_candidates_keep_their_order_and_no_passage_is_none_of_them() -> None:
    row = {"query_id": "q", "passages": [{"passage_id": name} for name in ("b", "x", "a")]}
    assert list(candidate_losses(row, {"q": {"a": 1.0, NO_PASSAGE: 0.1, "b": 2.0}}).items()) == [("b", 2.0), ("a", 1.0)]
    assert candidate_losses(row, {}) == {}


# -- utility ---------------------------------------------------------------------------------------------------------


def test_utilities_are_gains_over_no_passage_clipped() -> None:
    nll = np.array([[0.5, 2.0, 3.0], [1.0, 0.9, 0.0]])
    assert utility(nll, np.array([2.5, 1.0]), 2.0).tolist() == [[1.0, 0.25, 0.0], pytest.approx([0.0, 0.05, 0.5])]
    with pytest.raises(ValueError, match="utility scale is 0"):
        utility(nll, np.array([2.5, 1.0]), 0.0)


@pytest.mark.parametrize("scale", [1 / 3, 2.85, 1e-6, np.float64(0.7)])
def test_utilities_are_those_of_torch_bit_by_bit(scale: float) -> None:
    """Training once took them from torch: the same float32 operations, so that no run changes."""
    draw = np.random.default_rng(0)
    nll, without = draw.gamma(1, 2, (500, 11)).astype(np.float32), draw.gamma(1, 2, 500).astype(np.float32)
    nll[draw.random(nll.shape) < 0.05] = np.nan
    expected = ((torch.from_numpy(without)[:, None] - torch.from_numpy(nll)) / float(scale)).clamp(0, 1)
    found = utility(nll, without, scale)
    assert found.dtype == np.float32 and found.tobytes() == expected.numpy().tobytes()


def test_utility_scale_is_a_high_percentile_of_the_positive_gains() -> None:
    assert utility_scale(np.array([[-9.0, 0.0], [-1.0, -2.0], [2.0, 4.0]])) == pytest.approx(3.9)  # 2 + .95 (4 - 2)
    for gains, message in (([-1.0, 0.0], "none of 2 passages"), ([1.0, math.nan], "gain 1 of 2 is nan")):
        with pytest.raises(ValueError, match=message):
            utility_scale(np.array(gains))
