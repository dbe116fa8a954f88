"""Embeddings are the encoder's, are computed once, and are keyed by all that decides them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from bitter_retrieval.encoders.encoder import Encoder, load_encoder, save_passage_encoder
from bitter_retrieval.evaluation import embeddings
from bitter_retrieval.evaluation.embeddings import Embeddings, EmbeddingsError
from bitter_retrieval.records import passage_texts

TEXTS = list(passage_texts(tiny.world(12)).values())
BUDGET = 128


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.tiny_encoder().save(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of texts in the calls of an encoder."""
    embed, told = Encoder.embed_tokens, []

    def counted(self: Encoder, sequences: list[list[int]], *rest: Any) -> np.ndarray:
        told.append(len(sequences))
        return embed(self, sequences, *rest)

    monkeypatch.setattr(Encoder, "embed_tokens", counted)
    return told


def known(folder: Path, texts: list[str] = TEXTS, kind: str = "passage", budget: int = BUDGET) -> np.ndarray:
    return Embeddings(folder, budget, folder.parent / "known").of(texts, kind)


def test_they_are_the_encoders_and_are_computed_once(folder: Path, calls: list[int]) -> None:
    for kind in ("query", "passage"):
        wanted = load_encoder(folder).embed(TEXTS, kind, BUDGET)
        calls.clear()
        found = [known(folder, kind=kind), known(folder, kind=kind)]
        assert calls == [len(TEXTS)]
        for vectors in found:
            assert vectors.dtype == np.float32 and isinstance(vectors, np.memmap)
            np.testing.assert_array_equal(vectors, wanted)


def test_texts_that_lose_their_tail_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    known(folder)
    assert caplog.text == ""
    longest = load_encoder(folder).usage.max_length
    known(folder, [*TEXTS, "goat " * 2 * longest, "goat " * 3 * longest])
    assert f"2 of {len(TEXTS) + 2} texts lost their tail at {longest} tokens" in caplog.text


def test_a_file_may_go_as_soon_as_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes room in that very moment."""
    monkeypatch.setattr(embeddings, "_make_room", lambda there: [file.unlink() for file in there.glob("*.npy")])
    np.testing.assert_array_equal(known(folder), load_encoder(folder).embed(TEXTS, "passage", BUDGET))


@pytest.mark.parametrize("damage", ["cut", "header", "flipped", "empty"])
def test_a_damaged_file_is_named_and_made_again(folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    wanted = known(folder).copy()
    (file,) = (folder.parent / "known").glob("*.npy")
    whole = bytearray(file.read_bytes())
    damaged = {"cut": whole[: len(whole) // 2], "header": b"x" * 64 + whole[64:], "flipped": whole.copy(), "empty": b""}
    for place in range(200, 264):
        damaged["flipped"][place * 4] ^= 1  # the last bit of 64 numbers
    file.unlink()  # another process may have it mapped
    file.write_bytes(damaged[damage])
    np.testing.assert_array_equal(known(folder), wanted)
    assert f"{file}: damaged (" in caplog.text and "It is made again." in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(known(folder), wanted)
    assert caplog.text == "" and file.read_bytes() == whole


def test_known_texts_do_not_load_the_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(folder)
    monkeypatch.setattr(embeddings, "load_encoder", None)
    known(folder)


CHANGES = ["weights", "usage", "tokenizer", "texts", "order", "ends", "kind", "budget", "versions", "method"]


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_them_decides_the_file(
    change: str, folder: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, kind, budget = ["Aldan", "owns", "a goat"], "passage", BUDGET
    known(folder, texts)
    if change == "weights":
        tiny.tiny_encoder(seed=1).save(folder)
    elif change == "usage":
        tiny.tiny_encoder(pooling="cls").save(folder)
    elif change == "tokenizer":
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    elif change == "versions":
        monkeypatch.setattr(embeddings, "version", lambda package: "0.0")
    elif change == "method":
        monkeypatch.setattr(embeddings, "METHOD", embeddings.METHOD + 1)
    elif change == "kind":
        kind = "query"
    elif change == "budget":
        budget = 2 * BUDGET
    else:
        texts = {"texts": [*texts[:2], "a hen"], "order": texts[::-1], "ends": ["Aldano", "wns", "a goat"]}[change]
    known(folder, texts, kind, budget)
    assert calls == [3, 3]


def test_runs_of_the_query_side_share_the_passages_that_they_started_from(folder: Path, calls: list[int]) -> None:
    known(folder)
    for seed in (1, 2):
        run = folder.parent / f"run{seed}"
        tiny.tiny_encoder(seed=seed).save(run)
        save_passage_encoder(run, folder)
        np.testing.assert_array_equal(known(run), load_encoder(folder).embed(TEXTS, "passage", BUDGET))
        assert known(run, TEXTS[:2], "query").shape == (2, 32)
    assert calls == [len(TEXTS), len(TEXTS), 2, len(TEXTS), 2]  # the whole lists after the first are this test's own


def test_more_texts_than_are_embedded_at_once(folder: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "TEXTS_AT_ONCE", 5)
    found = known(folder, TEXTS[:12])
    assert calls == [5, 5, 2]
    np.testing.assert_allclose(found, load_encoder(folder).embed(TEXTS[:12], "passage", BUDGET), atol=1e-6)


def test_those_used_longest_ago_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = folder.parent / "known"
    texts = [[f"{name} owns a goat."] for name in "abcd"]
    first = known(folder, texts[0])
    size = next(kept.iterdir()).stat().st_size
    known(folder, texts[1])
    for file in kept.iterdir():
        os.utime(file, (0, 0))
    known(folder, texts[0])  # is used again
    monkeypatch.setattr(embeddings, "BOUND", 2 * size)
    values = np.array(first)
    known(folder, texts[2])
    assert len(list(kept.iterdir())) == 2
    monkeypatch.setattr(embeddings, "load_encoder", None)
    for at in (0, 2):
        known(folder, texts[at])
    with pytest.raises(TypeError):
        known(folder, texts[1])
    np.testing.assert_array_equal(first, values)


def test_one_that_exceeds_the_bound_alone_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "BOUND", 10)
    known(folder, TEXTS[:1])
    assert known(folder, TEXTS[:3]).shape == (3, 32)
    assert len(list((folder.parent / "known").iterdir())) == 1


def test_what_a_killed_process_left_goes_and_what_another_one_writes_stays(folder: Path) -> None:
    kept = folder.parent / "known"
    kept.mkdir()
    for name in (".old.1.partial", ".new.2.partial"):
        (kept / name).write_text("")
    os.utime(kept / ".old.1.partial", (0, 0))
    known(folder)
    assert {file.name for file in kept.glob(".*")} == {".new.2.partial"}


def test_a_full_disk_is_named_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embeddings.os, "fsync", full)
    with pytest.raises(EmbeddingsError, match=r"\.npy: .*No space left.*may be deleted"):
        known(folder)
    assert list((folder.parent / "known").iterdir()) == []
