"""Fitting a small encoder from scratch: the same each time, and pieces of one passage come closer."""

from dataclasses import replace
from typing import Any

import numpy as np
import tiny

from bitter_retrieval.encoders.encoder import Encoder, Usage
from bitter_retrieval.encoders.fit import fit_encoder
from bitter_retrieval.records import passage_texts

ROWS = tiny.world(36)
SIZE = {"width": 32, "layers": 1, "heads": 2, "feed_forward": 48, "vocabulary": 300, "steps": 30, "batch": 16}
SETTINGS = replace(tiny.PARAMS.encoders["mini"].fit, **SIZE, learning_rate=0.005)


def fit(**changes: Any) -> tuple[Encoder, list[float]]:
    losses: list[float] = []
    settings = replace(SETTINGS, **changes)
    return fit_encoder(ROWS, Usage("mean", "", "", 32), settings, lambda _, loss: losses.append(loss)), losses


def test_loss_falls_and_pieces_of_one_passage_come_closer() -> None:
    encoder, losses = fit()
    assert len(losses) == 30 and np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    pieces = [text.split(". ") for text in passage_texts(tiny.world(8)).values()]
    left, right = (encoder.embed([piece[side] for piece in pieces], "passage", 512) for side in (0, 1))
    assert np.mean((left @ right.T).argmax(1) == np.arange(len(pieces))) > 0.8
    assert not encoder.training


def test_same_seed_same_encoder_and_other_seed_another() -> None:
    (first, _), (again, _), (other, _) = fit(seed=3, steps=5), fit(seed=3, steps=5), fit(seed=4, steps=5)
    weights = {name: (again.state_dict()[name], other.state_dict()[name]) for name in first.state_dict()}
    assert all(value.equal(weights[name][0]) for name, value in first.state_dict().items())
    assert not first.model.embeddings.word_embeddings.weight.equal(other.model.embeddings.word_embeddings.weight)
    assert first.tokenizer.get_vocab() == again.tokenizer.get_vocab()
