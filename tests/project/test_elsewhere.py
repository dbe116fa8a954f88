"""Through DVC in a folder with spaces and letters beyond ASCII, in the locale C, and where nobody may write at home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_layouts_whole import files_of, triplet
from workspace import REPOSITORY, TREE, Workspace

from bitter_retrieval.records import PREPARED, read_rows

DATA = "eigene Daten/Größe 日本 (1)"
NOWHERE = "/proc/nobody"  # in which not even root may make a folder


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("LC_", "LANG", "PYTHONUTF8", "HF_", "XDG_", "MPL"))]:
        monkeypatch.delenv(name)
    for name, value in {"LC_ALL": "C", "HOME": NOWHERE}.items():
        monkeypatch.setenv(name, value)


def own_data(tree: TREE) -> None:
    tree["data"] = {"source": "jsonl", "path": DATA, "seed": 0, "candidates": 3, "negatives": "bm25"}
    tree["data"]["limits"] = {"reader": 8, "train": None, "validation": None, "test": None}
    tree["beyond"] = None
    tree["labels"]["human"] = {"kind": "selected", "needs": "data/prepared/train.parquet"}
    tree["encoders"]["mini"]["fit"]["steps"] = 1
    tree["tracking"]["mlflow"] = True


def test_a_locale_that_lacks_a_sign_loses_neither_the_sign_nor_the_work() -> None:
    """As with LANG=de_DE.ISO-8859-1: Python writes in the locale's encoding."""
    command = [sys.executable, "src/compare.py", "--show"]
    plain, latin = (
        subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True)
        for encoding in ("utf-8", "latin-1")
    )
    assert latin.returncode == 0 and b"Traceback" not in latin.stderr
    shown = latin.stdout.decode("latin-1").replace(r"\u2212", "\u2212")
    assert "\u2212" in shown and shown.count("\u2212") == plain.stdout.decode().count("\u2212")


@pytest.mark.slow
def test_a_run_is_trained_wherever_the_project_lies(elsewhere: None, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "mit Leerzeichen, Ümlaut & 日本")
    place.edit(own_data)
    (place.folder / DATA).mkdir(parents=True)
    files_of(triplet)(place.folder / DATA)
    output = place.dvc("repro", "train@infonce_human")
    assert "Running stage 'train@infonce_human'" in output and "Traceback" not in output and "MLflow" not in output
    assert len(read_rows(place.folder / "data/prepared/test.parquet", PREPARED)) == 14
    assert (place.folder / "models/runs/infonce_human/seed0").is_dir() and (place.folder / "mlflow.db").exists()
