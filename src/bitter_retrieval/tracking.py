"""Curves and results in MLflow, in addition to what stages write and never part of it. mlflow_store.py makes the calls.

    with open_tracker(True, "kl-seed0", {"learning_rate": 0.001}, {"run": "kl"}, {"train": TRAIN_FILE}) as tracker:
        tracker.log(0, {"loss/kl": 1.9, "learning_rate": 1e-4})

The store is `mlflow.db` in the main repo's root (ignored by git), even if DVC runs a stage in a copy. To view it:
`.venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db`. MLFLOW_TRACKING_URI, if set, names another store. A store
that fails, at whatever moment, ends a curve with one line on stderr, never the work.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bitter_retrieval.mlflow_store import COMMIT, DVC_EXPERIMENT, METRICS_A_CALL, STAGE, Point, Store, milliseconds
from bitter_retrieval.models.credentials import concealed
from bitter_retrieval.parameter_types import NotNegative
from bitter_retrieval.typed_yaml import read_yaml

LOCK = Path("dvc.lock")
DECIDING = ("src", "params.yaml", "dvc.yaml")  # a commit with other ones is dirty
Lock = Mapping[str, Mapping[str, Any]]  # entry of dvc.lock by stage
BySeed = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Tracking:
    """What is kept beside the results, and decides none of them: no stage but check follows it."""

    mlflow: bool  # log curves and rates
    checkpoint_seconds: NotNegative = 60.0  # between saved states, from which a killed training goes on


class Tracker:
    """Keeps curves. This base class drops them: it is the null object for tracking turned off."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point at `step` to each named curve."""

    def keep(self, model: Path, md5: str) -> None:
        """Tell where the model lies, and the MD5 of the folder with those of all seeds; also after the end."""

    def close(self, status: str = "FINISHED") -> None:
        """Write what is buffered and end the run, once; status is FINISHED, FAILED or KILLED."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(status_after(error))


def status_after(error: BaseException | None) -> str:
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def open_tracker(
    enabled: bool, name: str, params: Mapping[str, Any], tags: Mapping[str, str], inputs: Mapping[str, Path]
) -> Tracker:
    """Start an MLflow run, or the null object.

    Nested params are flattened, and those that are None left out. Commit, stage and DVC's names become tags. inputs:
    files and folders that are read, by what for.
    """
    if not enabled:
        return Tracker()
    try:
        return MlflowTracker(name, _flat(params), {**_provenance(), **tags}, inputs)
    except Exception as error:  # MLflow, its database layer and a full disk raise many types
        _say(f"no curves of {name} ({_line(error)}). The work goes on without.")
        return Tracker()


class MlflowTracker(Tracker):
    """Curves of one run, written a thousand points at a time, as a call costs as much for one."""

    def __init__(
        self, name: str, params: Mapping[str, str], tags: Mapping[str, str], inputs: Mapping[str, Path]
    ) -> None:
        found = {use: (path, md5(path)) for use, path in inputs.items()}
        self._store = Store(_root())
        self._run = self._store.start(name, tags)
        self._points: list[Point] = []
        self._lost = self._ended = False
        self._write(lambda: self._store.describe(self._run, params, found))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        now = milliseconds()
        self._points += [(name, float(value), now, step) for name, value in metrics.items()]
        if len(self._points) >= METRICS_A_CALL:
            self._flush()

    def keep(self, model: Path, md5: str) -> None:
        self._write(lambda: self._store.keep(self._run, model, md5))

    def close(self, status: str = "FINISHED") -> None:
        if not self._ended:
            self._ended = True
            self._flush()
            self._write(lambda: self._store.end(self._run, status))

    def _flush(self) -> None:
        self._write(lambda: self._store.log(self._run, self._points))
        self._points = []

    def _write(self, call: Callable[[], object]) -> None:
        """A failing store ends the curve, not the training."""
        if self._lost:
            return
        try:
            call()
        except Exception as error:  # MLflow, its database layer and a full disk raise many types
            self._lost = True
            _say(f"the rest of this curve is not logged ({_line(error)}).")


def log_results(
    enabled: bool, runs: Mapping[str, BySeed], figures: Mapping[str, Any], models: Path, files: Iterable[Path]
) -> None:
    """Add test figures to the trainings that made the models, and what they are in all to the experiment.

    runs: figures of each run, by seed; dvc.lock knows the model in the folder `models` that they are of. figures: those
    of the experiment, nested; files: its artifacts.
    """
    if not enabled:
        return
    try:
        store, absent = Store(_root()), dict[str, None]()
        made = {out["path"]: out["md5"] for stage in read_lock().values() for out in stage.get("outs", [])}
        for name, by_seed in runs.items():
            trained = store.trained(made.get(f"{models.as_posix()}/{name}", "none"))
            for seed, found in by_seed.items():
                if run := trained.get(str(seed)):
                    known = run.data.metrics
                    new = {metric: value for metric, value in found.items() if known.get(metric) != value}
                    store.log_figures(run.info.run_id, new)
                else:
                    absent[name] = None
        if absent:
            _say(f"no test figures of {', '.join(absent)}: the store lacks a training that made their models.")
        store.report(_provenance(), {name: float(value) for name, value in _flat(figures).items()}, files)
    except Exception as error:  # as above
        _say(f"not all results are logged ({_line(error)}).")


def _say(told: str) -> None:
    print(f"MLflow: {told}", file=sys.stderr)


def _line(error: Exception) -> str:
    keys = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("TOKEN", "PASSWORD"))
    return concealed(" ".join(str(error).split()), *keys)


# -- where a run comes from ------------------------------------------------------------------------------------------


def _root() -> Path:
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def _provenance() -> dict[str, str]:
    changed = _git("diff", "--name-only", "HEAD", "--", *DECIDING)
    known = {
        "mlflow.source.name": Path(sys.argv[0]).name,
        COMMIT: _git("rev-parse", "--verify", "HEAD"),
        "dirty": None if changed is None else changed.replace("\n", ", ") or "no",
        STAGE: _stage(),
        DVC_EXPERIMENT: os.environ.get("DVC_EXP_NAME"),
        "dvc.lock.md5": md5(LOCK) if LOCK.is_file() else None,
    }
    return {name: value for name, value in known.items() if value}


def _stage() -> str:
    """DVC's name of the stage, also if it is called by hand: `python src/train.py kl` is train@kl."""
    script, *given = sys.argv
    names = [one.rpartition("@")[2] for one in given[:1] if not one.startswith("-")]
    return os.environ.get("DVC_STAGE") or "@".join([Path(script).stem, *names])


def read_lock() -> Lock:
    """Entries of dvc.lock by stage; empty before DVC has run anything."""
    return read_yaml(LOCK).get("stages") or {} if LOCK.is_file() else {}


def md5(path: Path) -> str:
    """MD5 of a file or a folder, as DVC computes it."""
    if path.is_dir():
        return folder_md5(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def folder_md5(folder: Path) -> str:
    """The folder's hash in dvc.lock: the MD5 of the list of its files' MD5s. It identifies a run's data."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    listed = [{"md5": md5(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listed).encode()).hexdigest() + ".dir"


def _git(*arguments: str) -> str | None:
    """What git prints; None outside git, before the first commit or without git."""
    try:
        asked = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = str(value)
    return flat
