"""All that is written to MLflow: a run an experiment, and under it one for each run and seed. Calls may raise.

    noise-0.4                   DVC's experiment, or else the commit: report, pictures, figures of metrics/summary.json
      kl_a-seed0                FINISHED: params, curves, test figures, data sets, place and MD5 of the model
      kl_a-seed1 (replaced)     KILLED: its tag replaced_by names the run that began anew

Stages are processes, several at a time: what reads before it writes holds a lock. A killed process says nothing, so the
next one that opens the store ends its runs.
"""

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from bitter_retrieval.journal import content_key

if TYPE_CHECKING:
    from mlflow.entities import Run

EXPERIMENT = "bitter-retrieval"
METRICS_A_CALL = 1000  # MLflow's limits for log_batch
PARAMS_A_CALL = 100
WAIT = 60  # seconds to wait for another process's transaction
COMMIT, DVC_EXPERIMENT, STAGE = "mlflow.source.git.commit", "dvc.experiment", "dvc.stage"
KEY, PARENT, PROCESS, REPLACED, MODEL = "key", "mlflow.parentRunId", "process", "replaced_by", "model.md5"
Point = tuple[str, float, int, int]  # name, value, milliseconds since 1970, step


class Store:
    """The store `mlflow.db` under `root`, made if it is absent, or the one that MLFLOW_TRACKING_URI names."""

    def __init__(self, root: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seven wait for minutes on a server that is down
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._root, self._lock = root, FileLock(root / "mlflow.db.lock")
        elsewhere, store = os.environ.get("MLFLOW_TRACKING_URI"), root / "mlflow.db"
        with self._lock:
            if not elsewhere:
                _check_store(store)
            self._client = MlflowClient(elsewhere or _uri(store))
            found = self._client.get_experiment_by_name(EXPERIMENT)
            place = None if elsewhere else (root / "mlruns").as_uri()
            self._id = found.experiment_id if found else self._client.create_experiment(EXPERIMENT, place)

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new run. Runs of the same stage and name in the same experiment are marked as replaced by it."""
        with self._lock:
            self._end_killed()
            parent = self._parent(tags)
            key = content_key(parent=parent, stage=tags.get(STAGE), name=name)
            before = [run for run in self._search(f"tags.{KEY} = '{key}'") if REPLACED not in run.data.tags]
            own = {KEY: key, PARENT: parent, PROCESS: f"{gethostname()} {os.getpid()}"}
            made = self._client.create_run(self._id, tags={**tags, **own}, run_name=name).info.run_id
            for run in before:
                self._replace(run, made)
            self._client.update_run(parent, "RUNNING")
        return made

    def end(self, run: str, status: str) -> None:
        """status: FINISHED, FAILED or KILLED."""
        with self._lock:
            self._client.set_terminated(run, status)
            self._settle(self._client.get_run(run).data.tags[PARENT], status)

    def describe(self, run: str, params: Mapping[str, str], inputs: Mapping[str, tuple[Path, str]]) -> None:
        """inputs: path and MD5 of what is read, by what it is read for."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        for part in _parts(list(params.items()), PARAMS_A_CALL):
            self._client.log_batch(run, params=[Param(name, value) for name, value in part])
        sets = [
            DatasetInput(
                Dataset(path.as_posix(), md5, "local", json.dumps({"uri": path.as_posix()})),
                [InputTag("mlflow.data.context", use)],
            )
            for use, (path, md5) in inputs.items()
        ]
        self._client.log_inputs(run, sets)

    def log(self, run: str, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        for part in _parts(points, METRICS_A_CALL):
            self._client.log_batch(run, metrics=[Metric(*point) for point in part])

    def log_figures(self, run: str, figures: Mapping[str, float]) -> None:
        now = milliseconds()
        self.log(run, [(name, value, now, 0) for name, value in figures.items()])

    def keep(self, run: str, model: Path, md5: str) -> None:
        """Tag a run with its model. Test figures of that model are copied, as DVC does not compute them again."""
        own = self._client.get_run(run).data
        if before := self.trained(md5).get(own.tags["seed"]):
            new = {name: value for name, value in before.data.metrics.items() if name not in own.metrics}
            self.log_figures(run, new)
        for name, value in {"model.path": model.as_posix(), MODEL: md5}.items():
            self._client.set_tag(run, name, value)

    def trained(self, md5: str) -> dict[str, "Run"]:
        """By seed, the last run that made the model of this MD5; a replaced one if there is no other."""
        made = self._search(f"tags.`{MODEL}` = '{md5}'")
        made.sort(key=lambda run: (REPLACED not in run.data.tags, run.info.start_time))
        return {run.data.tags["seed"]: run for run in made}

    def report(self, tags: Mapping[str, str], figures: Mapping[str, float], files: Iterable[Path]) -> None:
        """Give figures and files to the experiment's own run, and end it."""
        with self._lock:
            self._end_killed()
            parent = self._parent(tags)
        self.log_figures(parent, figures)
        for file in files:
            self._client.log_artifact(parent, str(file))
        with self._lock:
            self._settle(parent, "FINISHED")

    # -- with the lock held ------------------------------------------------------------------------------------------

    def _parent(self, tags: Mapping[str, str]) -> str:
        """The id of the run of DVC's experiment, or of the commit; made if it is absent."""
        of = {name: tags[name] for name in (DVC_EXPERIMENT, COMMIT) if name in tags} | {"root": str(self._root)}
        key = content_key(**of)
        if found := self._search(f"tags.{KEY} = '{key}'"):
            return found[0].info.run_id
        name = tags.get(DVC_EXPERIMENT) or tags.get(COMMIT, "no commit")[:9]
        return self._client.create_run(self._id, tags={**of, KEY: key}, run_name=name).info.run_id

    def _settle(self, parent: str, status: str) -> None:
        """An experiment ended as what ended last in it."""
        if not self._search(f"attributes.status = 'RUNNING' AND tags.`{PARENT}` = '{parent}'"):
            self._client.set_terminated(parent, status)

    def _end_killed(self) -> None:
        running = self._search("attributes.status = 'RUNNING'")
        works = {run.info.run_id for run in running if PROCESS in run.data.tags and _works(run)}
        works |= {run.data.tags[PARENT] for run in running if run.info.run_id in works}
        for run in running:
            if run.info.run_id not in works:
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _replace(self, run: "Run", by: str) -> None:
        if run.info.status == "RUNNING":  # on a machine that has gone: one stage is run by one process
            self._client.set_terminated(run.info.run_id, "KILLED")
        self._client.set_tag(run.info.run_id, REPLACED, by)
        self._client.update_run(run.info.run_id, name=f"{run.info.run_name} (replaced)")

    def _search(self, wanted: str) -> list["Run"]:
        return list(self._client.search_runs([self._id], wanted))


def milliseconds() -> int:
    return int(time.time() * 1000)


def _works(run: "Run") -> bool:
    """Whether the process of a run is there, as far as can be seen: those of other machines count as there."""
    import psutil

    host, _, number = run.data.tags[PROCESS].rpartition(" ")
    if host != gethostname():
        return True
    try:
        process = psutil.Process(int(number))
        began_before = process.create_time() * 1000 < run.info.start_time + 1000  # or it has a dead one's number
        return began_before and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- the file --------------------------------------------------------------------------------------------------------


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


def _uri(store: Path) -> str:
    return f"sqlite:///{store}?timeout={WAIT}"


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
