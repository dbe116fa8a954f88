"""A stage's command line: the named entry of params.yaml, the nearest name, or the usage."""

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from bitter_retrieval.command_line import named, run_stage

HARD = {"kind": "mined", "needs": "data/labels/human", "encoder": "models/encoders/mini", "per_query": 2, "depth": 9}
NAMED = {  # by stage: the section, a name that is mistyped, and what was meant
    "reader": ("readers", "reader_aa", "reader_a"),
    "encoder": ("encoders", "minni", "mini"),
    "label": ("labels", "humn", "human"),
    "derive": ("derived_labels", "hrad", "hard"),
    "mix": ("mixed_labels", "piar", "pair"),
    "train": ("runs", "kl_aa", "kl_a"),
    "evaluate": ("runs", "kl_aa", "kl_a"),
}


def ended(stage: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit code or message of the stage."""
    module = importlib.import_module(stage)
    monkeypatch.setattr(module, "keep_freed_memory", lambda: None, raising=False)
    monkeypatch.setattr(sys, "argv", [f"{stage}.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        run_stage(module.main)
    return caught.value.code


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["derived_labels"] = {"hard": HARD | {"below": 0.95}}
    tree["mixed_labels"] = {"pair": {"kind": "both", "needs": "data/labels/reader_a", "human": "data/labels/human"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("stage", NAMED)
def test_a_name_that_params_do_not_have_is_told_with_the_nearest(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    section, mistyped, meant = NAMED[stage]
    told = ended(stage, mistyped, monkeypatch=monkeypatch)
    assert told.startswith(f"error: params.yaml: {section}: {mistyped!r} is none of ")
    assert told.endswith(f" Did you mean {meant!r}?")


@pytest.mark.parametrize("given", ["label@humn", "label@x@human", "humn"])
def test_a_stage_takes_its_name_as_dvc_gives_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = given.removeprefix("label@")
    told = ended("label", given, monkeypatch=monkeypatch)
    assert told.startswith(f"error: params.yaml: labels: {name!r} is none of ")
    assert named("labels", None, ["label@human"])[1] == "human"


@pytest.mark.parametrize("stage", NAMED)
@pytest.mark.parametrize("arguments", [[], ["one", "other"]])
def test_a_stage_without_its_name_tells_the_usage(
    stage: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(stage, *arguments, monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err.startswith(f"usage: {stage}.py ")


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_ends_a_script_with_a_line(fault: int) -> None:
    def main() -> None:
        raise OSError(fault, os.strerror(fault), "models/readers/reader_a")

    with pytest.raises(
        SystemExit, match=f"^error: .*{os.strerror(fault)}: 'models/readers/reader_a'. Free space there"
    ):
        run_stage(main)


def test_other_errors_of_the_system_are_defects() -> None:
    def main() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    with pytest.raises(FileNotFoundError):
        run_stage(main)
