"""The whole DAG through DVC, on the real params.yaml made small: what runs, what does not, what is left behind.

The tests of this file share one workspace and change it in turn: they run in the order in which they stand.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
COPIED = ("src", "dvc.yaml", "data/raw/README.md", ".dvcignore")
TREE = dict[str, Any]

pytestmark = pytest.mark.slow


def shrunk(tree: TREE) -> TREE:
    """The real parameters with a world of a few clusters, readers and encoder of a few steps, and two runs."""
    tree["data"]["world"] |= {"reader_clusters": 12, "train_clusters": 6, "validation_clusters": 3}
    tree["data"]["world"] |= {"test_clusters": 7, "distractor_clusters": 2}
    for reader in tree["readers"].values():
        reader["fit"] |= {"layers": 1, "width": 32, "heads": 2, "steps": 8, "batch": 8, "held_out": 4}
    tree["encoders"]["mini"]["fit"] |= {"layers": 1, "width": 32, "heads": 2, "feed_forward": 32, "steps": 4}
    tree["runs"] = {name: tree["runs"][name] for name in ("infonce", "kl")}
    tree["labels"] = {name: tree["labels"][name] for name in ("human", "reader_a")}
    tree["train"] |= {"seeds": [0], "epochs": 1, "queries_per_batch": 16, "mlflow": False}
    tree["control"]["random_draws"] = 1
    tree["compare"]["draws"] = 200
    return tree


class Workspace:
    """A copy of the project that DVC runs in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source, target = REPOSITORY / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(source, target)
        self.edit(lambda tree: None, yaml.safe_load((REPOSITORY / "params.yaml").read_text()))
        self.dvc("init", "--no-scm", "--quiet")

    def edit(self, change: Callable[[TREE], object], tree: TREE | None = None) -> None:
        tree = shrunk(tree) if tree else yaml.safe_load((self.folder / "params.yaml").read_text())
        change(tree)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """DVC in a session of its own; it heeds interrupts, also where a shell in the background ignores them."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "dvc", *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        own = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **own, **streams)

    def dvc(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def repro(self) -> tuple[set[str], str]:
        """Stages that ran, and what was printed."""
        output = self.dvc("repro")
        return set(re.findall(r"Running stage '(.+)'", output)), output

    def lock(self) -> TREE:
        return yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


def interrupted(process: "subprocess.Popen[str]") -> str:
    """What a process still prints that is interrupted 3 s from now, and again as long as it goes on.

    One can be lost: what it raises while Python runs a finaliser is printed and forgotten.
    """
    try:
        for _ in range(20):
            try:
                return process.communicate(timeout=3)[0]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGINT)
        raise AssertionError("twenty interrupts did not end it")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_an_interrupted_stage_does_not_count_as_done(workspace: Workspace) -> None:
    workspace.edit(lambda tree: tree["readers"]["reader_a"]["fit"].update(steps=100_000))
    process = workspace.start("repro", "reader@reader_a")
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "src/reader.py" in line:
            break
    try:
        output = interrupted(process)
    finally:
        workspace.edit(lambda tree: tree["readers"]["reader_a"]["fit"].update(steps=8))
    assert process.returncode != 0, "".join(lines) + output
    assert "prepare" in workspace.lock() and "reader@reader_a" not in workspace.lock()


def test_repro_goes_on_and_ends_with_the_table(workspace: Workspace) -> None:
    ran, output = workspace.repro()
    assert "prepare" not in ran, "what was finished before the interrupt is not done again"
    assert {"reader@reader_a", "label@human", "train@kl", "evaluate@kl", "control", "judge", "compare"} <= ran
    assert "Primary figure" in output and "untrained" in output and "not a language model" in output
    summary = json.loads((workspace.folder / "metrics/summary.json").read_text())
    assert set(summary["em"]) == {"infonce", "kl"}
    assert "<html" in (workspace.folder / "metrics/report.html").read_text()


def test_a_second_repro_runs_nothing(workspace: Workspace) -> None:
    ran, output = workspace.repro()
    assert not ran and "up to date" in output
    assert "up to date" in workspace.dvc("status")


def test_a_changed_weight_and_an_added_run_rerun_what_they_affect(workspace: Workspace) -> None:
    def change(tree: TREE) -> None:
        tree["runs"]["added"] = tree["runs"]["infonce"] | {"margin": 0.3}
        tree["runs"]["kl"]["losses"] = {"kl": 0.5}

    workspace.edit(change)
    ran, _ = workspace.repro()
    assert ran == {"train@kl", "evaluate@kl", "train@added", "evaluate@added", "judge", "compare"}


def test_annotator_noise_reruns_no_reader_and_no_soft_label(workspace: Workspace) -> None:
    """And a run that is removed leaves no file that a clone would not have."""

    def change(tree: TREE) -> None:
        tree["labels"]["human"]["noise"] = 0.9
        del tree["runs"]["added"]

    workspace.edit(change)
    ran, _ = workspace.repro()
    assert ran == {"label@human", "train@infonce", "evaluate@infonce", "control", "judge", "compare"}
    assert {file.stem for file in (workspace.folder / "data/predictions/runs").iterdir()} == {"infonce", "kl"}
    assert "up to date" in workspace.dvc("status")


def test_the_same_parameters_give_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path)
    shutil.copy(workspace.folder / "params.yaml", tmp_path)
    other.repro()
    assert {name: stage["outs"] for name, stage in other.lock().items()} == {
        name: stage["outs"] for name, stage in workspace.lock().items() if name in other.lock()
    }
