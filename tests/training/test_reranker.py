"""The cross-encoder: its loss against a loop, its learning, and that it never labels what it has learnt from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from bitter_retrieval.labels.settings import RerankerFit
from bitter_retrieval.labels.targets import soft_targets, with_empty
from bitter_retrieval.records import Row
from bitter_retrieval.training import reranker
from bitter_retrieval.training.reranker import (
    CrossEncoder,
    RerankerError,
    cross_fitted,
    fit_cross_encoder,
    listwise,
    start,
)

ROWS = with_empty(tiny.world(12))
LOSSES = soft_targets(ROWS, tiny.soft(tiny.world(12)), "reader_a", "mean", "first").nll
FIT = RerankerFit(steps=40, batch=6, learning_rate=0.01, temperature=0.5, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bi-encoder's checkpoint that takes 32 tokens."""
    path = tmp_path_factory.mktemp("encoder")
    tiny.tiny_encoder().save(path)
    return path


def fit(folder: Path, **changes: Any) -> CrossEncoder:
    return fit_cross_encoder(folder, ROWS, LOSSES, replace(FIT, **changes), 256, lambda _: None)


def test_loss_is_the_mean_divergence_of_each_question() -> None:
    rng, losses = np.random.default_rng(0), [np.array([0.2, 1.0, 3.0]), np.array([0.5, 0.4]), np.array([1.0] * 4)]
    scores, wanted, at = rng.normal(size=9).astype(np.float32), 0.0, 0
    for of_question in losses:
        own = scores[at : at + len(of_question)].astype(np.float64)
        p, q = (np.exp(x) / np.exp(x).sum() for x in (-of_question / 0.5, own))
        wanted += (p * np.log(p / q)).sum() / 3
        at += len(of_question)
    found = listwise(torch.from_numpy(scores), [each.astype(np.float32) for each in losses], 0.5)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_scores_do_not_depend_on_what_else_is_scored(folder: Path) -> None:
    encoder = start(folder)
    alone = [encoder.scores([row], 10**6)[0] for row in ROWS]
    assert [len(scores) for scores in alone] == [4] * 12  # with the empty passage
    for one, other in zip(encoder.scores(ROWS, 64), alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert encoder.scores([], 64) == []


def test_pair_that_is_too_long_is_cut(folder: Path) -> None:
    encoder, long = start(folder), "goat " * 99
    row = {"query": ROWS[0]["query"], "passages": [{"text": long}, {"text": ""}]}
    (pairs,) = encoder.pairs([row])
    assert len(pairs[0]["input_ids"]) == 32 == encoder.max_length and len(pairs[1]["input_ids"]) < 32
    assert np.isfinite(encoder.scores([row], 64)[0]).all()


def test_it_learns_which_passage_helps(folder: Path) -> None:
    def mean_loss(encoder: CrossEncoder) -> float:
        return listwise(torch.from_numpy(np.concatenate(encoder.scores(ROWS, 256))), LOSSES, 0.5).item()

    torch.manual_seed(0)
    before, after = mean_loss(start(folder)), mean_loss(fit(folder, steps=100, batch=12, learning_rate=0.003))
    assert after < 0.3 * before


def test_same_seed_same_weights(folder: Path) -> None:
    first, second, other = (fit(folder, steps=2, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(value.equal(second[name]) for name, value in first.items())
    assert not all(value.equal(other[name]) for name, value in first.items())


def test_the_first_step_learns(folder: Path) -> None:
    torch.manual_seed(0)
    before, after = start(folder).state_dict(), fit(folder, steps=1, seed=0).state_dict()
    assert not all(value.equal(after[name]) for name, value in before.items())


class Remembers:
    """Stands for a cross-encoder: its score says which groups it was fitted on, and it refuses to score them."""

    def __init__(self, rows: list[Row]) -> None:
        self.groups = {row["group_id"] for row in rows}

    def scores(self, rows: Sequence[Row], _: int) -> list[np.ndarray]:
        assert not self.groups & {row["group_id"] for row in rows}
        return [np.full(len(row["passages"]), float("g0" in self.groups)) for row in rows]


def test_what_is_labelled_was_not_learnt_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Remembers] = []

    def remember(_: Path, rows: list[Row], losses: list[np.ndarray], *__: Any) -> Remembers:
        assert [len(row["passages"]) for row in rows] == [len(each) for each in losses]
        fitted.append(Remembers(rows))
        return fitted[-1]

    monkeypatch.setattr(reranker, "fit_cross_encoder", remember)
    validation = with_empty(tiny.world(4, first=24))
    asked = {"train": ROWS, "validation": validation}
    taught = ROWS[2:], LOSSES[2:]  # the first group has no labels to learn from
    found = cross_fitted(folder, taught, asked, FIT, 256, lambda _: None)
    assert fitted[0].groups | fitted[1].groups == {f"g{number}" for number in range(1, 6)}
    assert not fitted[0].groups & fitted[1].groups
    assert [len(scores) for scores in found["train"]] == [4] * 12 and len(found["validation"]) == 4


def test_halves_are_averaged_where_neither_has_seen_the_question(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranker, "fit_cross_encoder", lambda _, rows, *__: Remembers(rows))
    asked = {"train": ROWS, "validation": with_empty(tiny.world(4, first=24))}
    found = cross_fitted(folder, (ROWS, LOSSES), asked, FIT, 256, lambda _: None)
    assert [scores[0] for scores in found["validation"]] == [0.5] * 4
    assert [scores[0] for scores in found["train"]] == [0, 0, 1, 1] * 3  # g0, g2 and g4 by the one that saw g1, g3, g5


def test_one_group_cannot_be_halved(folder: Path) -> None:
    with pytest.raises(RerankerError, match="1 groups have labels: cross-fitting needs two"):
        cross_fitted(folder, (ROWS[:2], LOSSES[:2]), {}, FIT, 256, lambda _: None)
