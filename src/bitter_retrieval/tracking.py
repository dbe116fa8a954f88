"""Training curves in MLflow, in addition to the results and never part of them. The only module that imports mlflow.

    with open_tracker(True, "train", "kl/seed0", {"learning_rate": 0.001}, {"run": "kl"}) as tracker:
        tracker.log(0, {"loss/kl": 1.9, "learning_rate": 1e-4})

The store is `mlflow.db` in the main repo's root (ignored by git), even if DVC runs a stage in a copy. To view it:
`.venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db`. MLFLOW_TRACKING_URI, if set, names another store. A store
that fails, at whatever moment, ends a curve with one line on stderr, never the work.
"""

import hashlib
import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock

from bitter_retrieval.models.credentials import concealed
from bitter_retrieval.parameter_types import NotNegative

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRICS_A_CALL = 1000  # MLflow's limits for log_batch
PARAMS_A_CALL = 100
WAIT = 60  # seconds to wait for another process's transaction


@dataclass(frozen=True)
class Tracking:
    """What is kept beside the results, and decides none of them: no stage but check follows it."""

    mlflow: bool  # log curves and rates
    checkpoint_seconds: NotNegative = 60.0  # between saved states, from which a killed training goes on


class Tracker:
    """Keeps curves. This base class drops them: it is the null object for tracking turned off."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point at `step` to each named curve."""

    def close(self, status: str = "FINISHED") -> None:
        """Write what is buffered and end the run; status is FINISHED or FAILED."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("FINISHED" if error is None else "FAILED")


def open_tracker(
    enabled: bool, experiment: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Tracker:
    """Start an MLflow run, or the null object. Nested params are flattened; the commit and DVC's names become tags."""
    if not enabled:
        return Tracker()
    try:
        return MlflowTracker(experiment, run_name, _flat(params), {**_provenance(), **tags})
    except Exception as error:  # MLflow, its database layer and a full disk raise many types
        print(f"MLflow: no curves of {run_name} ({_line(error)}). The work goes on without.", file=sys.stderr)
        return Tracker()


class MlflowTracker(Tracker):
    """Curves of one run, written a thousand points at a time, as a call costs as much for one."""

    def __init__(self, experiment: str, run_name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
        self._client, experiment_id = _open_store(root, experiment)
        self._run = self._client.create_run(experiment_id, tags=dict(tags), run_name=run_name).info.run_id
        self._points: list[tuple[str, float, int, int]] = []
        self._lost = False
        self._log_params(params)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._points += [(name, float(value), now, step) for name, value in metrics.items()]
        if len(self._points) >= METRICS_A_CALL:
            self._flush()

    def close(self, status: str = "FINISHED") -> None:
        self._flush()
        self._write(lambda: self._client.set_terminated(self._run, status))

    def _flush(self) -> None:
        from mlflow.entities import Metric

        for part in _parts(self._points, METRICS_A_CALL):
            metrics = [Metric(*point) for point in part]
            self._write(partial(self._client.log_batch, self._run, metrics=metrics))
        self._points = []

    def _write(self, call: Callable[[], object]) -> None:
        """A failing store ends the curve, not the training."""
        if self._lost:
            return
        try:
            call()
        except Exception as error:  # MLflow, its database layer and a full disk raise many types
            self._lost = True
            print(f"MLflow: the rest of this curve is not logged ({_line(error)}).", file=sys.stderr)

    def _log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        for part in _parts(list(params.items()), PARAMS_A_CALL):
            self._client.log_batch(self._run, params=[Param(name, value) for name, value in part])


def _open_store(root: Path, experiment: str) -> tuple["MlflowClient", str]:
    """A client of the store, and the experiment's id. Of concurrent processes, one creates the store under `root`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seven wait for minutes on a server that is down
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    elsewhere, store = os.environ.get("MLFLOW_TRACKING_URI"), root / "mlflow.db"
    with FileLock(root / "mlflow.db.lock"):
        if not elsewhere:
            _check_store(store)
        client = MlflowClient(elsewhere or _uri(store))
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            return client, found.experiment_id
        return client, client.create_experiment(experiment, None if elsewhere else (root / "mlruns").as_uri())


def _check_store(store: Path) -> None:
    """Create the store if it is absent. Raises if MLflow could not use it, which would try again for an hour."""
    if odd := {*str(store)} & {*"?%#"}:
        raise ValueError(f"{store}: no name of a store holds {min(odd)}; name another by MLFLOW_TRACKING_URI")
    if not store.exists():
        _create_store(store)
    if not os.access(store, os.W_OK):
        raise PermissionError(f"{store}: may not be written to; allow it, or name another by MLFLOW_TRACKING_URI")
    try:
        with closing(sqlite3.connect(store, timeout=WAIT)) as database:
            database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{store}: {error}; move it away, for a new one") from error


def _create_store(store: Path) -> None:
    """Under another name until its dozens of migrations are done, so that a kill leaves no half-made store."""
    from mlflow import MlflowClient

    for leftover in store.parent.glob(f"{store.name}.partial*"):
        leftover.unlink()
    unfinished = store.with_name(f"{store.name}.partial")
    MlflowClient(_uri(unfinished)).search_experiments()
    unfinished.replace(store)


def _line(error: Exception) -> str:
    keys = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("TOKEN", "PASSWORD"))
    return concealed(" ".join(str(error).split()), *keys)


def _uri(store: Path) -> str:
    return f"sqlite:///{store}?timeout={WAIT}"


def _provenance() -> dict[str, str]:
    known = {
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.git.commit": _commit(),
        "dvc.stage": os.environ.get("DVC_STAGE"),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
    }
    return {name: value for name, value in known.items() if value}


def folder_md5(folder: Path) -> str:
    """The folder's hash in dvc.lock: the MD5 of the list of its files' MD5s. It identifies a run's data."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    listed = [{"md5": _file_md5(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listed).encode()).hexdigest() + ".dir"


def _file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _commit() -> str | None:
    """The commit checked out; None outside git, before the first commit or without git."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], capture_output=True, encoding="utf-8", errors="replace"
        )
    except FileNotFoundError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in params.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": str(value)}
    return flat


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
