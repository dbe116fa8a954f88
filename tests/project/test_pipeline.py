"""The whole DAG through DVC, on profile smoke: stages that run, stages that do not, and files left behind.

The tests of this file share one workspace and change it in turn: they run in the order in which they stand.
"""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from workspace import TREE, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.in_order]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


def interrupted(process: "subprocess.Popen[str]") -> str:
    """The remaining output of a process that is interrupted 3 s from now, and again while it continues.

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
    params = (workspace.folder / "params.yaml").read_text()
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
        (workspace.folder / "params.yaml").write_text(params)
    assert process.returncode != 0, "".join(lines) + output
    assert "prepare" in workspace.lock() and "reader@reader_a" not in workspace.lock()


def test_repro_goes_on_and_ends_with_the_table(workspace: Workspace) -> None:
    ran, output = workspace.repro()
    assert "prepare" not in ran, "what was finished before the interrupt is not done again"
    assert {"reader@reader_a", "label@human", "train@kl_a", "evaluate@kl_a", "control", "judge", "compare"} <= ran
    assert "Primary figure" in output and "untrained" in output and "not a language model" in output
    assert "Beyond the training domain: 16 questions" in output
    summary = json.loads((workspace.folder / "metrics/summary.json").read_text())
    assert set(summary["em"]) == {"infonce_human", "kl_a"} and all(0 < em < 1 for em in summary["em"].values())
    assert "<html" in (workspace.folder / "metrics/report.html").read_text()


def test_dvc_shows_the_pictures(workspace: Workspace) -> None:
    workspace.dvc("plots", "show", "--out", "shown")
    assert "<img" in (workspace.folder / "shown/index.html").read_text(encoding="utf-8")
    shown = {path.name for path in (workspace.folder / "shown").rglob("*.png")}
    names = ("differences", "answer_accuracy", "answer_vs_retrieval", "training_curves")
    assert all(any(one.endswith(f"{name}.png") for one in shown) for name in names)


def test_a_second_repro_runs_nothing(workspace: Workspace) -> None:
    ran, output = workspace.repro()
    assert not ran and "up to date" in output
    assert "up to date" in workspace.dvc("status")


def test_a_changed_weight_and_an_added_run_rerun_what_they_affect(workspace: Workspace) -> None:
    def change(tree: TREE) -> None:
        tree["runs"]["added"] = tree["runs"]["infonce_human"] | {"margin": 0.3}
        tree["runs"]["kl_a"]["losses"] = {"kl": 0.5}

    workspace.edit(change)
    ran, _ = workspace.repro()
    assert ran == {"check", "train@kl_a", "evaluate@kl_a", "train@added", "evaluate@added", "judge", "compare"}


def test_annotator_noise_reruns_no_reader_and_no_soft_label(workspace: Workspace) -> None:
    """Also, a removed run leaves no file that a clone would lack."""

    def change(tree: TREE) -> None:
        tree["labels"]["human"]["noise"] = 0.9
        del tree["runs"]["added"]

    workspace.edit(change)
    ran, _ = workspace.repro()
    assert ran == {
        "check",
        "label@human",
        "figures",
        "train@infonce_human",
        "evaluate@infonce_human",
        "control",
        "judge",
        "compare",
    }
    assert {file.stem for file in (workspace.folder / "data/predictions/runs").iterdir()} == {"infonce_human", "kl_a"}
    assert "up to date" in workspace.dvc("status")


def test_the_same_parameters_give_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path)
    shutil.copy(workspace.folder / "params.yaml", tmp_path)
    other.repro()
    assert {name: stage["outs"] for name, stage in other.lock().items()} == {
        name: stage["outs"] for name, stage in workspace.lock().items() if name in other.lock()
    }
