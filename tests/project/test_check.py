"""Stage check notices every change of params.yaml, and nothing else reruns for its sake; absent files are named."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from commands import refused, run
from workspace import Workspace

import check

PUBLISHED = {"kind": "published", "needs": "theirs.jsonl"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    return tmp_path


def write_params(**sections: Any) -> None:
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    for name, section in sections.items():
        tree[name] = (tree[name] or {}) | section
    Path("params.yaml").write_text(yaml.safe_dump(tree))


SELECTED = {"kind": "selected", "needs": "data/prepared/train.parquet"}
READ = {"kind": "reader", "needs": "models/readers/reader_a"}
OWN: dict[str, Any] = {
    "labels": {"human": SELECTED, "truth": SELECTED, "reader_a": READ, "theirs": PUBLISHED},
    "data": {"source": "msmarco"},
}


@pytest.mark.parametrize(
    ("sections", "at", "path"),
    [
        ({"data": {"path": "data/nowhere"}}, "data.path", "data/nowhere"),  # DVC follows it in the generated world too
        (OWN, "labels.theirs.needs", "theirs.jsonl"),
        (
            {"beyond": {"source": "squad", "path": "data/raw/x", "seed": 0, "candidates": 4}},
            "beyond.path",
            "data/raw/x",
        ),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_parameter(
    project: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], at: str, path: str
) -> None:
    articles = {"reader": 0.3, "train": 0.4, "validation": 0.1, "test": 0.2}
    if "beyond" in sections:
        sections["beyond"]["articles"] = articles
    write_params(**sections)
    said = refused(check, monkeypatch=monkeypatch)
    assert said == f"error: params.yaml: {at}: {path!r}: no such file or folder. Put it there, or name its place."
    assert not check.CHECKED.exists()
    Path(path).parent.mkdir(exist_ok=True)
    Path(f"{path}.dvc").write_text("DVC fetches it")
    run(check, monkeypatch=monkeypatch)
    assert check.CHECKED.exists()


@pytest.mark.slow
def test_a_section_that_nobody_knows_is_refused_and_no_other_stage_reruns(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.dvc("repro", "prepare")
    params = tmp_path / "params.yaml"
    before = params.read_text()
    params.write_text(before + "tarin: {epochs: 1}\n")
    output = workspace.start("repro", "prepare").communicate()[0]
    assert "error: params.yaml: tarin: unknown key. Did you mean 'train'?" in output
    params.write_text(before + "# a comment is no change\n")
    assert "Running" not in workspace.dvc("repro", "prepare")
    workspace.edit(lambda tree: tree.update(tracking={"mlflow": True, "checkpoint_seconds": 7}))
    assert re.findall(r"^(\S+):$", workspace.dvc("status", "prepare", "--with-deps"), re.MULTILINE) == ["check"]
    assert re.findall("Running stage '(.*)'", workspace.dvc("repro", "prepare")) == ["check"]
    assert "up to date" in workspace.dvc("status", "prepare")
