"""Files that could hold a pickle, which runs code when it is loaded: none does."""

import os
import pickle
from pathlib import Path

import pytest
import tiny
import torch

from bitter_retrieval.encoders.encoder import load_encoder
from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.readers.language_model import ReaderSettings, open_reader
from bitter_retrieval.training.state import Progress, SavedState


class Code:
    """Makes a folder when it is loaded."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.made),)


def test_the_code_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Code(tmp_path / "made")))
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("kind", ["reader", "encoder"])
def test_weights_that_hold_code_are_refused_and_do_not_run_it(kind: str, tmp_path: Path) -> None:
    folder, made = tmp_path / "model", tmp_path / "made"
    if kind == "reader":
        reader = tiny.tiny_reader()
        reader.model.save_pretrained(folder)
        reader.tokenizer.save_pretrained(folder)
    else:
        tiny.tiny_encoder().save(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"code": Code(made)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="model"):
        if kind == "reader":
            open_reader("mine", str(folder), None, ReaderSettings("{query}{passage}", "float32", 64, 6))
        else:
            load_encoder(folder)
    assert not made.exists()


def test_a_state_that_holds_code_counts_as_damaged_and_does_not_run_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"parts": Code(tmp_path / "made")}, tmp_path / "state.pt")
    assert SavedState(tmp_path / "state.pt", 1.0).restore({}) == Progress()
    assert "state.pt: damaged" in caplog.text and "Its seed is trained anew" in caplog.text
    assert not (tmp_path / "made").exists()
