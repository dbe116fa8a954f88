"""Tracking: curves go under DVC_ROOT whichever process is first, and nothing is written when it is off.

Making a store takes MLflow several seconds, so one store, made by two processes at once, serves all tests here.
"""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bitter_retrieval.tracking import Tracker, open_tracker

REPOSITORY = Path(__file__).parents[2]
POINTS = 1100  # two metrics a point: more than two full buffers and a rest

LOGGER = f"""
import sys
from bitter_retrieval.tracking import open_tracker
name = sys.argv[1]
params = {{"losses": {{"kl": 0.5, "margin": 0.5}}, "seeds": [0, 1]}}
with open_tracker(True, "train", name, params, {{"run": name}}) as tracker:
    for step in range({POINTS}):
        tracker.log(step, {{"loss/kl": step / 7, "learning_rate": 1e-4}})
    if name == "broken":
        raise SystemExit(3)
"""


def start(name: str, root: Path, elsewhere: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "src"),
        "DVC_ROOT": str(root),
        "DVC_STAGE": f"train@{name}",
        "DVC_EXP_NAME": "noise-0.4",
    }
    command = [sys.executable, "-c", LOGGER, name]
    return subprocess.Popen(command, env=environment, cwd=elsewhere, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repo's root whose store two processes in another folder found absent at the same moment."""
    root, elsewhere = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("elsewhere")
    (root / "mlflow.db.partial").write_text("left behind by a kill")
    processes = [start(name, root, elsewhere) for name in ("fine", "broken")]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 3], said
    assert said == [b"", b""]
    assert list(elsewhere.iterdir()) == []
    return root


def ask(root: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        return store.execute(query).fetchall()


def test_both_processes_have_a_run_that_tells_how_it_ended(root: Path) -> None:
    assert ask(root, "SELECT name, status FROM runs ORDER BY name") == [("broken", "FAILED"), ("fine", "FINISHED")]
    assert ask(root, "SELECT COUNT(*) FROM experiments WHERE name = 'train'") == [(1,)]
    assert not list(root.glob("*.partial*"))


def test_every_point_of_every_curve_is_there(root: Path) -> None:
    curve = ask(
        root,
        "SELECT step, value FROM metrics JOIN runs USING (run_uuid) "
        "WHERE name = 'fine' AND key = 'loss/kl' ORDER BY step",
    )
    assert curve == [(step, step / 7) for step in range(POINTS)]
    assert ask(root, "SELECT COUNT(*) FROM metrics") == [(2 * 2 * POINTS,)]


def test_params_are_flat_and_tags_tell_where_a_run_came_from(root: Path) -> None:
    params = ask(root, "SELECT key, params.value FROM params JOIN runs USING (run_uuid) WHERE name = 'fine'")
    assert dict(params) == {"losses.kl": "0.5", "losses.margin": "0.5", "seeds": "[0, 1]"}
    tags = dict(ask(root, "SELECT key, value FROM tags JOIN runs USING (run_uuid) WHERE name = 'fine'"))
    assert (tags["run"], tags["dvc.stage"], tags["dvc.experiment"]) == ("fine", "train@fine", "noise-0.4")


def test_a_store_that_fails_ends_the_curve_and_not_the_work(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError("database is locked")

    monkeypatch.setenv("DVC_ROOT", str(root))
    with open_tracker(True, "train", "locked", {}, {}) as tracker:
        monkeypatch.setattr(type(tracker._client), "log_batch", fails)
        for step in range(3000):
            tracker.log(step, {"loss": 1.0})
    assert capsys.readouterr().err == "MLflow: the rest of this curve is not logged (database is locked).\n"


def test_no_artifact_would_land_outside_the_root(root: Path) -> None:
    places = ask(root, "SELECT artifact_location FROM experiments WHERE name = 'train'")
    assert places == [((root / "mlruns").resolve().as_uri(),)]


def test_tracking_that_is_off_writes_nothing_and_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it would raise
    with open_tracker(False, "train", "kl", {"a": 1}, {}) as tracker:
        tracker.log(0, {"loss": 1.0})
    assert type(tracker) is Tracker
    assert list(tmp_path.iterdir()) == []
