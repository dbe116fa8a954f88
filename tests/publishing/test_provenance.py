"""The settings behind a file, and whether figures belong to it, on a small DAG that DVC itself has run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from bitter_retrieval.models.checkpoints import write_pointer
from bitter_retrieval.params import parse_params
from bitter_retrieval.publishing.provenance import commit, doubts, hashes, made_by
from bitter_retrieval.tracking import md5, read_lock
from bitter_retrieval.typed_yaml import read_yaml

TREE = tiny.with_runs(read_yaml(tiny.PROFILE))
PARAMS = {"runs": {"kl": {"temperature": 0.1}, "mse": {"temperature": 0.2}}, "compare": {"draws": 9}}
DAG: dict[str, Any] = {
    "stages": {
        "train": {
            "foreach": "${runs}",
            "do": {
                "cmd": "mkdir -p models/runs/${key} && cp data/train.txt models/runs/${key}/weights",
                "deps": ["data/train.txt", "train.py"],
                "params": ["runs.${key}"],
                "outs": ["models/runs/${key}"],
            },
        },
        "compare": {
            "cmd": "mkdir -p metrics && cat models/runs/*/weights > metrics/report.json",
            "deps": ["models/runs"],
            "params": ["compare.draws"],
            "outs": [{"metrics/report.json": {"cache": False}}],
        },
    }
}
STAGES = ["train@kl", "compare"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that DVC has reproduced."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "data").mkdir()
    (folder / "data/train.txt").write_text("weights\n")
    (folder / "train.py").write_text("")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "dvc.yaml").write_text(yaml.safe_dump(DAG))
    for arguments in (["init", "--no-scm", "--quiet"], ["repro", "--quiet"]):
        done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    subprocess.run(["cp", "-r", f"{ran}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(tree: dict[str, Any] | None = None) -> dict[str, list[str]]:
    return doubts(STAGES, read_lock(), tree or PARAMS)


def test_after_dvc_there_is_no_doubt(project: Path) -> None:
    assert found() == {}
    kept = hashes(STAGES, read_lock())
    assert set(kept) == {"data/train.txt", "models/runs/kl", "models/runs", "metrics/report.json"}
    assert kept["models/runs/kl"].endswith(".dir") and "train.py" not in kept


def test_a_checkpoint_made_by_hand(project: Path) -> None:
    (project / "models/runs/kl/weights").write_text("others\n")
    said = {"train@kl": ["models/runs/kl is not what train@kl wrote"]}
    assert found() == {**said, "compare": ["models/runs is not what compare read"]}


def test_new_weights_where_a_reader_points_to(project: Path) -> None:
    folder = project / "models/readers/big"
    (project / "weights").mkdir()
    write_pointer(folder, str(project / "weights"), None)
    lock = {"reader@big": {"outs": [{"path": "models/readers/big", "md5": md5(folder)}]}}
    assert doubts(["reader@big"], lock, PARAMS) == {}
    (project / "weights/model.safetensors").write_text("others")
    said = "the files that models/readers/big points to are not those that reader@big found"
    assert doubts(["reader@big"], lock, PARAMS) == {"reader@big": [said]}


def test_another_run_makes_the_comparison_old_and_this_run_not(project: Path) -> None:
    (project / "models/runs/mse/weights").write_text("others\n")
    assert found() == {"compare": ["models/runs is not what compare read"]}


def test_data_or_figures_that_changed(project: Path) -> None:
    (project / "data/train.txt").write_text("others\n")
    (project / "metrics/report.json").write_text("better\n")
    assert found() == {
        "train@kl": ["data/train.txt is not what train@kl read"],
        "compare": ["metrics/report.json is not what compare wrote"],
    }


def test_settings_that_changed(project: Path) -> None:
    tree = {"runs": {"kl": {"temperature": 0.3}}, "compare": {}}
    assert found(tree) == {
        "train@kl": ["runs.kl in params.yaml is not what train@kl ran with"],
        "compare": ["compare.draws in params.yaml is not what compare ran with"],
    }


def test_edited_code_is_no_doubt(project: Path) -> None:
    (project / "train.py").write_text("# a comment\n")
    assert found() == {}


def test_what_is_not_here_counts_as_what_dvc_last_made(project: Path) -> None:
    """As after a clone that pulled one checkpoint; if a stage has made it anew since, the old one was read."""
    subprocess.run(["rm", "-r", "models/runs", "metrics/report.json"], check=True)
    said = "models/runs is absent and cannot be compared with what compare read"  # as a whole, no stage has written it
    assert found() == {"compare": [said]}
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["label"] = {"outs": [{"path": "data/train.txt", "md5": "0" * 32}]}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    Path("data/train.txt").unlink()
    assert found()["train@kl"] == ["data/train.txt is not what train@kl read"]


def test_without_a_lock_nothing_is_known(project: Path) -> None:
    Path("dvc.lock").unlink()
    assert found() == {"train@kl": ["dvc.lock has no stage train@kl"], "compare": ["dvc.lock has no stage compare"]}
    assert hashes(STAGES, read_lock()) == {}


def test_entries_that_made_a_run() -> None:
    params = parse_params(TREE, "params.yaml")
    settings = made_by("models/runs/kl_flat", params, TREE)
    before = ["labels.flat", "labels.reader_a", "readers.reader_a", "encoders.mini"]
    assert list(settings) == ["runs.kl_flat", *before]
    assert settings["labels.flat"] == TREE["labels"]["flat"]


def test_the_commit_and_whether_it_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit() == "unknown"
    (tmp_path / "params.yaml").write_text("a: 1\n")
    author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "-m", "x"], ["tag", "v1"]):
        subprocess.run(["git", *arguments], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit() == head
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert commit() == f"{head}-dirty"


def test_a_lock_without_stages_is_one_of_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for left in ("schema: '2.0'\n", "schema: '2.0'\nstages:\n"):
        Path("dvc.lock").write_text(left)
        assert read_lock() == {}
