"""Where the training of a seed stands, kept outside the DVC outs: a stage that was killed goes on to the same weights.

    .journal/training/5e0c1f…/seed0.pt    weights, optimiser, random state, place, curve, checkpoint selected so far

The folder is named by all that decides the result: when any of it changes, training starts anew. A seed that is done
keeps its file too, since DVC deletes a stage's outs before it runs the stage again. A stage that has written its outs
removes its files; what remains is of runs that were given up, and may be deleted when nothing trains.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.journal import content_key
from bitter_retrieval.models.attention import chosen

# The code of this package that training imports; a test compares it with what dvc.yaml lists for the stage.
PACKAGE = Path(__file__).parents[1]
CODE = ("encoders", "journal.py", "labels", "models", "records.py", "training")
NOT_DECISIVE = ("seeds", "mlflow", "checkpoint_seconds")  # of runs and train: the result of a seed is the same
Metrics = dict[str, float]


class StateError(RuntimeError):
    """A state that cannot be read or written."""


class Stateful(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass
class Progress:
    """How far training has come, with what it has said and kept."""

    step: int = 0  # steps done; after the last of an epoch the encoder is validated too
    learnt_from: float = 0.0  # queries that a loss could use, counted once a loss
    best: float = float("inf")  # validation loss of the checkpoint selected so far
    kept: dict[str, Tensor] = field(default_factory=dict)  # its weights
    figures: Metrics = field(default_factory=dict)  # its validation figures
    curve: list[tuple[int, Metrics]] = field(default_factory=list)  # (step, metrics)


class TrainingState:
    """Where training stands. This one keeps nothing: it stands in where nobody wants to go on after a kill."""

    def restore(self, parts: Mapping[str, Stateful]) -> Progress:
        """Bring the parts and torch's random state to where they stood, if that is known."""
        return Progress()

    def save(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        """Keep where training stands, if the last time was long enough ago."""

    def finish(self, progress: Progress) -> None:
        """Keep the outcome."""

    def remove(self) -> None:
        """Forget it."""


class SavedState(TrainingState):
    """A file that is either whole or not there; written every `seconds`."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds, self._saved = path, seconds, time.monotonic()

    def restore(self, parts: Mapping[str, Stateful]) -> Progress:
        """Raises StateError if the file is damaged."""
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return Progress()
        except Exception as error:  # whatever a damaged file lets torch, zip or pickle raise
            raise StateError(f"{self._path}: not readable ({error}). Delete it: its seed is trained anew.") from error
        for name, part in state["parts"].items():
            parts[name].load_state_dict(part)
        _set_random_state(state["random"])
        return Progress(**state["progress"])

    def save(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        if time.monotonic() - self._saved >= self._seconds:
            self._write({name: part.state_dict() for name, part in parts.items()}, progress)

    def finish(self, progress: Progress) -> None:
        self._write({}, progress)  # what is left to do is to take the weights that were kept

    def remove(self) -> None:
        for path in (self._path, *self._path.parent.glob(f".{self._path.name}.*.partial")):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # another seed's state is there
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
        except FileNotFoundError:  # another process at the same work has finished, and removed what lay there
            return
        except (OSError, RuntimeError) as error:  # torch's own, where the disk is full
            partial.unlink(missing_ok=True)
            raise StateError(f"{self._path}: {error}. Make room there and run again: training goes on.") from error
        self._saved = time.monotonic()


def _random_state() -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def _set_random_state(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


def fingerprint(encoder: Any, sets: Any, run: Any, settings: Any) -> str:
    """Key of all that decides what training gives, but for the seed.

    encoder: where training starts from; sets: training and validation set; run: params.runs[name]; settings:
    params.train. It also covers the code that training imports, the versions of torch and transformers, and what
    computes.
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


def _what_computes(device: torch.device, settings: Any) -> list[Any]:
    """Another GPU, kernel or number of threads adds in another order."""
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
    """The content of nested dataclasses, mappings, ragged lists, arrays and tensors, lengths and names included."""
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
