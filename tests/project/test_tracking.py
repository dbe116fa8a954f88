"""Tracking: runs go under DVC_ROOT whichever process is first, say what became of them, and cost nothing when off.

Making a store takes MLflow several seconds, so one store, made by two processes at once, serves all tests here.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bitter_retrieval import mlflow_store
from bitter_retrieval.mlflow_store import EXPERIMENT
from bitter_retrieval.tracking import Tracker, log_results, md5, open_tracker

REPOSITORY = Path(__file__).parents[2]
POINTS = 1100  # two metrics a point: more than two full buffers and a rest
OURS = f"experiments.name = '{EXPERIMENT}'"

LOGGER = f"""
import sys, time
from bitter_retrieval.tracking import open_tracker
name = sys.argv[1]
params = {{"losses": {{"kl": 0.5, "margin": 0.5}}, "seeds": [0, 1], "loss_labels": None}}
with open_tracker(True, name, params, {{"run": name}}, {{}}) as tracker:
    if name == "killed":
        print("ready", flush=True)
        time.sleep(600)
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
    return subprocess.Popen(command, env=environment, cwd=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


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


def statuses(root: Path) -> dict[str, str]:
    return dict(ask(root, f"SELECT runs.name, status FROM runs JOIN experiments USING (experiment_id) WHERE {OURS}"))


def tags_of(root: Path, run: str) -> dict[str, str]:
    found = ask(root, f"SELECT key, value FROM tags JOIN runs USING (run_uuid) WHERE name = '{run}'")
    return dict(found) | {"id": ask(root, f"SELECT run_uuid FROM runs WHERE name = '{run}'")[0][0]}


def figures_of(root: Path, run: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    query = f"SELECT key, value FROM metrics JOIN runs USING (run_uuid) WHERE name = '{run}' ORDER BY step"
    for name, value in ask(root, query):
        found.setdefault(name, []).append(value)
    return found


def test_both_processes_have_a_run_under_the_experiment_that_tells_how_it_ended(root: Path) -> None:
    found = statuses(root)
    assert (found["broken"], found["fine"]) == ("FAILED", "FINISHED") and found["noise-0.4"] in found.values()
    assert found["noise-0.4"] != "RUNNING"
    assert ask(root, f"SELECT COUNT(*) FROM experiments WHERE {OURS}") == [(1,)]
    assert ask(root, "SELECT COUNT(*) FROM runs WHERE name = 'noise-0.4'") == [(1,)]
    parent = tags_of(root, "noise-0.4")
    assert [tags_of(root, name)["mlflow.parentRunId"] for name in ("fine", "broken")] == [parent["id"]] * 2
    assert parent["dvc.experiment"] == "noise-0.4" and "mlflow.parentRunId" not in parent
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
    tags = tags_of(root, "fine")
    assert (tags["run"], tags["dvc.stage"], tags["dvc.experiment"]) == ("fine", "train@fine", "noise-0.4")


def test_a_store_that_fails_ends_the_curve_and_not_the_work(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError("database is locked")

    monkeypatch.setenv("DVC_ROOT", str(root))
    with open_tracker(True, "locked", {}, {}, {}) as tracker:
        monkeypatch.setattr("mlflow.MlflowClient.log_batch", fails)
        for step in range(3000):
            tracker.log(step, {"loss": 1.0})
    assert capsys.readouterr().err == "MLflow: the rest of this curve is not logged (database is locked).\n"


def curve(name: str) -> None:
    with open_tracker(True, name, {}, {}, {}) as tracker:
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
    places = ask(root, f"SELECT artifact_location FROM experiments WHERE {OURS}")
    assert places == [((root / "mlruns").resolve().as_uri(),)]


def test_tracking_that_is_off_writes_nothing_and_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it would raise
    with open_tracker(False, "kl", {"a": 1}, {}, {"train": tmp_path / "absent"}) as tracker:
        tracker.log(0, {"loss": 1.0})
    tracker.keep(tmp_path / "absent", "0")
    log_results(False, {"kl": {0: {"em": 0.5}}}, {}, tmp_path, [tmp_path / "absent"])
    assert type(tracker) is Tracker
    assert list(tmp_path.iterdir()) == []


# -- killed and replaced runs ------------------------------------------------------------------------------------------


@pytest.fixture
def place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project outside git with a store in which nothing is logged yet."""
    place = tmp_path / "größe und maß"
    place.mkdir()
    shutil.copy(root / "mlflow.db", place / "mlflow.db")
    with closing(sqlite3.connect(place / "mlflow.db")) as database:
        database.execute(f"UPDATE experiments SET name = 'old' WHERE {OURS}")
        database.commit()
    monkeypatch.setenv("DVC_ROOT", str(place))
    monkeypatch.setenv("DVC_STAGE", "train@kl")
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.chdir(place)
    return place


def trained(run: str = "kl", seed: int = 0, model: str = "abc.dir", **metrics: float) -> None:
    with open_tracker(True, f"{run}-seed{seed}", {}, {"run": run, "seed": str(seed)}, {}) as tracker:
        tracker.log(0, {"loss": 1.0, **metrics})
    tracker.keep(Path(f"models/runs/{run}/seed{seed}"), model)


def test_a_killed_process_leaves_a_run_that_the_next_one_ends(place: Path) -> None:
    process = start("killed", place, place)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    assert statuses(place) == {"noise-0.4": "RUNNING", "killed": "RUNNING"}
    curve("beside")
    assert statuses(place)["killed"] == statuses(place)["noise-0.4"] == "RUNNING", "its process works"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    curve("next")
    finished = dict.fromkeys(["beside", "next", "no commit"], "FINISHED")
    assert statuses(place) == finished | {"noise-0.4": "KILLED", "killed": "KILLED"}


def test_the_process_of_another_machine_works_until_its_run_is_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setattr(mlflow_store, "gethostname", lambda: "another")
        there.setattr(os, "getpid", lambda: 2**22 + 1)  # no process has it
        open_tracker(True, "kl", {}, {}, {})
    curve("beside")
    assert statuses(place)["kl"] == "RUNNING"
    curve("kl")
    assert (statuses(place)["kl"], statuses(place)["kl (replaced)"]) == ("FINISHED", "KILLED")


def test_a_run_that_is_interrupted_is_killed(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_tracker(True, "kl", {}, {}, {}):
        raise KeyboardInterrupt
    assert statuses(place) == {"kl": "KILLED", "no commit": "KILLED"}


def test_a_rerun_marks_what_it_replaces_and_nothing_else(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage, name in (("train@kl", "kl-seed0"), ("train@kl", "kl-seed1"), ("label@a", "kl-seed0")):
        monkeypatch.setenv("DVC_STAGE", stage)
        curve(name)
    monkeypatch.setenv("DVC_EXP_NAME", "warmer")
    monkeypatch.setenv("DVC_STAGE", "train@kl")
    curve("kl-seed0")
    counted = dict(
        ask(
            place,
            f"SELECT runs.name, COUNT(*) FROM runs JOIN experiments USING (experiment_id) WHERE {OURS} GROUP BY 1",
        )
    )
    assert counted == {"no commit": 1, "warmer": 1, "kl-seed0": 3, "kl-seed1": 1}, "another stage or experiment stays"
    monkeypatch.delenv("DVC_EXP_NAME")
    curve("kl-seed1")
    assert tags_of(place, "kl-seed1 (replaced)")["replaced_by"] == tags_of(place, "kl-seed1")["id"]
    assert ask(place, "SELECT COUNT(*) FROM tags WHERE key = 'replaced_by'") == [(1,)]


# -- where a run comes from --------------------------------------------------------------------------------------------


def test_tags_tell_the_commit_and_what_differs_from_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        own = ("-c", "user.name=a", "-c", "user.email=a@b.org")
        return subprocess.run(["git", *own, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    for name in ("params.yaml", "dvc.lock", "notes.txt"):
        (place / name).write_text("a: 1\n")
    git("init", "-q")
    git("add", "params.yaml", "notes.txt")
    git("commit", "-qm", "first")
    (place / "notes.txt").write_text("decides nothing")
    curve("kl")
    (place / "params.yaml").write_text("a: 2\n")
    monkeypatch.delenv("DVC_STAGE")
    monkeypatch.setattr(sys, "argv", ["src/train.py", "kl"])
    curve("kl")
    before, now, commit = tags_of(place, "kl (replaced)"), tags_of(place, "kl"), git("rev-parse", "HEAD")
    assert before["mlflow.source.git.commit"] == now["mlflow.source.git.commit"] == commit
    assert (before["dirty"], now["dirty"]) == ("no", "params.yaml")
    assert before["dvc.stage"] == now["dvc.stage"] == "train@kl", "as DVC calls it and by hand"
    assert now["dvc.lock.md5"] == md5(place / "dvc.lock")
    assert statuses(place)[commit[:9]] == "FINISHED"


def test_data_sets_are_inputs_with_the_digests_that_dvc_gives_them(place: Path) -> None:
    (place / "labels").mkdir()
    for name in ("train.parquet", "labels/train.parquet"):
        (place / name).write_text(name)
    read = {"train": Path("train.parquet"), "labels": Path("labels")}
    with open_tracker(True, "kl", {}, {}, read):
        pass
    found = ask(
        place,
        "SELECT input_tags.value, datasets.name, digest, dataset_source FROM datasets "
        "JOIN inputs ON source_id = dataset_uuid JOIN input_tags USING (input_uuid)",
    )
    sources = {use: (path.as_posix(), md5(path), f'{{"uri": "{path}"}}') for use, path in read.items()}
    assert {use: tuple(rest) for use, *rest in found} == sources and sources["labels"][1].endswith(".dir")


# -- results -----------------------------------------------------------------------------------------------------------


def results(runs: dict[str, dict[int, dict[str, float]]]) -> None:
    Path("dvc.lock").write_text("stages: {train@kl: {outs: [{path: models/runs/kl, md5: abc.dir}]}}")
    Path("report.html").write_text("page")
    log_results(True, runs, {"em": {"kl": 0.4}, "mde": None}, Path("models/runs"), [Path("report.html")])


def test_test_figures_go_to_the_trainings_whose_models_they_are_of(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "where the model was trained")
    trained(seed=0)
    trained(seed=1, model="other.dir")
    monkeypatch.setenv("DVC_EXP_NAME", "where DVC found it in its cache")
    for em in (0.5, 0.5, 0.25):
        results({"kl": {0: {"test/a/em": em}}})
    assert capsys.readouterr().err == ""
    assert figures_of(place, "kl-seed0") == {"loss": [1.0], "test/a/em": [0.5, 0.25]}, "the same figure is logged once"
    assert figures_of(place, "kl-seed1") == {"loss": [1.0]}
    tags = tags_of(place, "kl-seed0")
    assert (tags["model.path"], tags["model.md5"]) == ("models/runs/kl/seed0", "abc.dir")
    parent = tags_of(place, "where DVC found it in its cache")
    assert figures_of(place, "where DVC found it in its cache") == {"em.kl": [0.4] * 3}
    assert (place / "mlruns" / parent["id"] / "artifacts/report.html").read_text() == "page"
    assert set(statuses(place).values()) == {"FINISHED"}
    results({"kl": {0: {}, 1: {}}, "margin": {0: {}}})
    assert capsys.readouterr().err == (
        "MLflow: no test figures of kl, margin: the store lacks a training that made their models.\n"
    )


def test_a_rerun_that_makes_the_same_model_has_its_test_figures(place: Path) -> None:
    """DVC does not compare again, as nothing that compare reads has changed."""
    trained()
    results({"kl": {0: {"test/a/em": 0.5}}})
    trained()
    assert figures_of(place, "kl-seed0") == figures_of(place, "kl-seed0 (replaced)")
    results({"kl": {0: {"test/a/em": 0.75}}})
    assert figures_of(place, "kl-seed0")["test/a/em"] == [0.5, 0.75]
    trained(model="other.dir")
    assert figures_of(place, "kl-seed0") == {"loss": [1.0]}


def test_results_that_cannot_be_logged_cost_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").write_text("stages: [")
    log_results(True, {}, {}, Path("models/runs"), [])
    (place / "dvc.lock").unlink()
    log_results(True, {}, {}, Path("models/runs"), [Path("absent.html")])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("MLflow: not all results are logged (") for line in said)
    assert "dvc.lock" in said[0] and "absent.html" in said[1]
