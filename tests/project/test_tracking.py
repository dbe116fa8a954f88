"""Tracking: curves go under DVC_ROOT whichever process is first, and nothing is written when it is off.

Making a store takes MLflow several seconds, so one store, made by two processes at once, serves all tests here.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
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


def curve(name: str) -> None:
    with open_tracker(True, "train", name, {}, {}) as tracker:
        for step in range(1500):
            tracker.log(step, {"loss": 1.0})


def of_version(store: Path, other: Path) -> None:
    """A store that another version of MLflow has made."""
    shutil.copy(store, other)
    with closing(sqlite3.connect(other)) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        database.commit()


def cut(store: Path, other: Path) -> None:
    other.write_bytes(store.read_bytes()[: store.stat().st_size // 2])


BROKEN: dict[str, Callable[[Path, Path], object]] = {
    "older": of_version,
    "cut in half": cut,
    "with an overwritten header": lambda store, other: other.write_bytes(b"x" * 100 + store.read_bytes()[100:]),
    "empty": lambda store, other: other.write_bytes(b""),
    "a folder": lambda store, other: other.mkdir(),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_store_that_is_broken_costs_one_line_and_not_the_work(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    BROKEN[how](root / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    began = time.monotonic()
    curve("kl/seed0")
    assert time.monotonic() - began < 30, "MLflow alone would try again and again"
    said = capsys.readouterr().err
    assert said.startswith("MLflow: ") and said.count("\n") == 1 and "kl/seed0" in said or "rest of this curve" in said


def test_a_store_that_may_not_be_written_costs_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root may write to every file, the system is made to say no."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.copy(root / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "mlflow.db")
    curve("kl")
    said = capsys.readouterr().err
    assert said.startswith("MLflow: no curves of kl (") and "may not be written to" in said and said.count("\n") == 1


@pytest.mark.parametrize("odd", ["50%", "what?", "a#b"])
def test_a_path_that_is_no_address_costs_one_line_and_leaves_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    (tmp_path / odd).mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / odd))
    curve("kl")
    said = capsys.readouterr().err
    assert said.startswith("MLflow: no curves of kl (") and "MLFLOW_TRACKING_URI" in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [odd] and not (tmp_path / odd / "mlflow.db").exists()


def test_a_spaced_path_and_one_beyond_ascii_are_addresses(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "größe und maß"
    folder.mkdir()
    shutil.copy(root / "mlflow.db", folder / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    curve("spaced")
    assert capsys.readouterr().err == ""
    assert ask(folder, "SELECT COUNT(*) FROM metrics JOIN runs USING (run_uuid) WHERE name = 'spaced'") == [(1500,)]


def test_another_store_is_used_if_the_environment_names_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs").mkdir()
    shutil.copy(root / "mlflow.db", tmp_path / "theirs/mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/theirs/mlflow.db")
    curve("elsewhere")
    assert ask(tmp_path / "theirs", "SELECT status FROM runs WHERE name = 'elsewhere'") == [("FINISHED",)]
    assert not (tmp_path / "mlflow.db").exists() and capsys.readouterr().err == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    curve("down")
    said = capsys.readouterr().err
    assert said.startswith("MLflow: no curves of down (") and said.count("\n") == 1


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
