"""Saved state of a seed's training, outside the DVC outs: a killed stage resumes and ends with the same weights.

    .journal/training/5e0c1f…/seed0.pt    weights, optimiser, random state, place, curve, checkpoint selected so far

The folder's name is a hash of all that decides the result; if any of it changes, training starts anew. A finished seed
keeps its file until the stage has written all outs, since DVC deletes outs before it runs a stage again. Files that
remain belong to abandoned runs and may be deleted while nothing trains.
"""

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.journal import content_key
from bitter_retrieval.models.attention import chosen
from bitter_retrieval.training.settings import Run, Train

# The code of this package that training imports; a test compares it with what dvc.yaml lists for the stage.
PACKAGE = Path(__file__).parents[1]
CODE = ("encoders", "journal.py", "labels", "models", "records.py", "training")
NOT_DECISIVE = ("seeds",)  # fields of runs and train that do not change a seed's result
Metrics = dict[str, float]


class StateError(RuntimeError):
    """A state that cannot be read or written."""


class Stateful(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass
class Progress:
    """The progress of a training: its place, its curve and its selected checkpoint."""

    step: int = 0  # steps done, with the validation after an epoch's last one
    learnt_from: float = 0.0  # queries that a loss could use, counted once a loss
    best: float = float("inf")  # validation loss of the checkpoint selected so far
    kept: dict[str, Tensor] = field(default_factory=dict)  # its weights
    figures: Metrics = field(default_factory=dict)  # its validation figures
    curve: list[tuple[int, Metrics]] = field(default_factory=list)  # (step, metrics)


class TrainingState:
    """The state of a training; this class saves nothing, for a training that need not resume."""

    def restore(self, parts: Mapping[str, Stateful]) -> Progress:
        """Restore the parts and torch's random state if they were saved; returns the progress."""
        return Progress()

    def save(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        """Save the state if the last time was long enough ago."""

    def finish(self, progress: Progress) -> None:
        """Save the outcome."""

    def remove(self) -> None:
        """Delete the saved state."""


class SavedState(TrainingState):
    """A file, whole or absent, written every `seconds`."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds, self._saved = path, seconds, time.monotonic()

    def restore(self, parts: Mapping[str, Stateful]) -> Progress:
        """A damaged file counts as none, with a line on it. Raises StateError if the file may not be read."""
        try:
            state = self._read()
        except FileNotFoundError:
            return Progress()
        except PermissionError as error:
            raise StateError(
                f"{self._path}: {error}. Make it readable, or delete it to train its seed anew."
            ) from error
        except Exception as error:  # torch, zip and pickle raise many types for a damaged file
            told = "%s: damaged (%s). Its seed is trained anew."
            logging.getLogger(__name__).warning(told, self._path, error)
            return Progress()
        for name, part in state["parts"].items():
            parts[name].load_state_dict(part)
        _set_random_state(state["random"])
        return Progress(**state["progress"])

    def _read(self) -> dict[str, Any]:
        """The file is a zip archive, whose checksums torch writes but does not check."""
        with self._path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                changed = archive.testzip()
            if changed:
                raise ValueError(f"{changed} has another checksum than when it was written")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)

    def save(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        if time.monotonic() - self._saved >= self._seconds:
            self._write({name: part.state_dict() for name, part in parts.items()}, progress)

    def finish(self, progress: Progress) -> None:
        self._write({}, progress)  # only the selected weights are still needed

    def remove(self) -> None:
        for path in (self._path, *self._path.parent.glob(f".{self._path.name}.*.partial")):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it has another seed's state
            self._path.parent.rmdir()

    def _write(self, parts: dict[str, Any], progress: Progress) -> None:
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save({"parts": parts, "random": _random_state(), "progress": vars(progress)}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except FileNotFoundError:  # another process has finished the same training and removed the folder
            return
        except (OSError, RuntimeError) as error:  # RuntimeError: torch on a full disk
            with suppress(OSError):  # a full disk or a read-only folder has its error already
                partial.unlink(missing_ok=True)
            raise StateError(f"{self._path}: {error}. Free space there and run again: training resumes.") from error
        self._saved = time.monotonic()


def _random_state() -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def _set_random_state(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


def fingerprint(encoder: Encoder, sets: Any, run: Run, settings: Train) -> str:
    """Key of all that decides the result of training, except the seed.

    encoder: where training starts from; sets: training and validation set; run: params.runs[name]; settings:
    params.train. The key also covers the code that training imports, the versions of torch and transformers, and the
    device.
    """
    content = {"weights": encoder.state_dict(), "sets": sets, "code": _code()}
    return content_key(
        **{name: _hash(value) for name, value in content.items()},
        run=_decisive(run),
        train=_decisive(settings),
        usage=asdict(encoder.usage),
        config=encoder.model.config.to_json_string(),  # with the version of transformers
        torch=torch.__version__,
        computes=_what_computes(encoder.model.device, settings),
    )


def _code() -> dict[str, bytes]:
    files = [file for part in CODE for file in (sorted((PACKAGE / part).glob("*.py")) or [PACKAGE / part])]
    return {file.relative_to(PACKAGE).as_posix(): file.read_bytes() for file in files}


def _what_computes(device: torch.device, settings: Train) -> list[Any]:
    """The GPU and kernel, or the number of threads: another one adds in another order, so last bits differ."""
    if device.type == "cpu":
        return ["cpu", torch.get_num_threads()]
    return [torch.cuda.get_device_name(device), chosen(settings.attention, settings.precision == "bfloat16")]


def _decisive(section: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(section).items() if name not in NOT_DECISIVE}


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    for part in _bytes(value):
        digest.update(part)
    return digest.hexdigest()


def _bytes(value: Any) -> Iterator[bytes]:
    """The content of nested dataclasses, mappings, ragged lists, arrays and tensors, with lengths and names."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield repr(name).encode()
            yield from _bytes(part)
    elif isinstance(value, tuple):
        for part in value:
            yield from _bytes(part)
    elif isinstance(value, Tensor):
        yield from _bytes(value.cpu().numpy())
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, list) and value and isinstance(value[0], list | np.ndarray):
        yield from _bytes(np.array([len(part) for part in value]))
        yield from _bytes(np.concatenate(value))
    else:
        yield value if isinstance(value, bytes) else repr(value).encode()
