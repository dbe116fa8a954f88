"""Names in params.yaml become paths, which DVC empties, and reach commands: those of no file are refused before.

The project is the real one; nothing of it is made, as the first stage refuses.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from workspace import REPOSITORY, TREE, Workspace

from bitter_retrieval.params import parse_params
from bitter_retrieval.typed_yaml import ParamsError, read_yaml

DAG: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
MAPS = {name: stage["foreach"][2:-1] for name, stage in DAG.items() if "foreach" in stage}  # params section by stage
CLIMBING = ("../../docs", "../../../outside", "/tmp/x", "a/../../..", "..")
COMMANDS = ("x; touch pwned; echo ", "$(touch pwned)", '"; touch pwned; "', "--help")
ENTRY = {"kind": "flat", "needs": "params.yaml"}
NEEDED = [f"data/prepared/{name}.parquet" for name in ("train", "validation", "test")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project whose first stage was done, beside a folder that is not its own."""
    around = tmp_path_factory.mktemp("around")
    (around / "repository").mkdir()
    workspace = Workspace(around / "repository")
    workspace.dvc("repro", "check")
    for name in ("docs/kept", "../outside/kept", *NEEDED):
        (workspace.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.folder / name).write_text("x")
    return workspace


def refused(workspace: Workspace, names: tuple[str, ...], *arguments: str) -> str:
    """Output of `dvc repro`, which fails, on params with label sources of these names."""
    params = workspace.folder / "params.yaml"
    before = params.read_text()

    def add(tree: TREE) -> None:
        tree["labels"] |= dict.fromkeys(names, ENTRY)

    workspace.edit(add)
    try:
        process = workspace.start("repro", *arguments)
        output, _ = process.communicate()
    finally:
        params.write_text(before)
    assert process.returncode != 0 and "error: params.yaml: labels: must be made of a-z" in output, output
    assert not list(workspace.folder.rglob("pwned"))
    return output


@pytest.mark.slow
def test_a_name_that_is_no_name_of_a_file_ends_the_first_stage_of_a_project_that_was_done(workspace: Workspace) -> None:
    output = refused(workspace, (*CLIMBING[:3], *COMMANDS))
    assert re.findall("Running stage '(.*)'", output) == ["check"]
    assert (workspace.folder / "docs/kept").is_file() and (workspace.folder / "../outside/kept").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_name_is_a_command_even_if_the_first_stage_is_left_out(workspace: Workspace, name: str) -> None:
    output = refused(workspace, (name,), "--single-item", f"label@{name}")
    assert re.findall("Running stage '(.*)'", output) == [f"label@{name}"]


@pytest.mark.parametrize("section", MAPS.values())
@pytest.mark.parametrize("name", [*CLIMBING, *COMMANDS, "a\nb", "a@b", "", "-x", "a" * 101, "ä"])
def test_names_are_checked_in_every_map(section: str, name: str) -> None:
    tree = read_yaml(REPOSITORY / "profiles/default.yaml")
    tree[section] |= {name: next(iter(tree[section].values()), ENTRY)}
    with pytest.raises(ParamsError, match=rf"^params\.yaml: {section}: must be made of a-z"):
        parse_params(tree, "params.yaml")


def test_the_first_stage_follows_every_map_and_no_command_holds_a_value_of_params() -> None:
    assert DAG["check"]["params"] == [{"params.yaml": None}]  # the whole file
    assert not [stage for stage in DAG.values() if "${" in stage.get("do", stage)["cmd"]]


@pytest.mark.parametrize("stage", [name for name in DAG if name != "check"])
def test_every_stage_comes_after_the_first(stage: str) -> None:
    """By deps that no value of params decides."""
    above = {stage}
    while added := {name for of in above for name in made_by(of)} - above:
        above |= added
    assert "check" in above


def made_by(stage: str) -> set[str]:
    """The stages whose outs are deps of this one, or in a folder that is one, as written."""
    deps = {Path(dep) for dep in definition(stage)["deps"]}
    return {
        name
        for name in DAG
        if any(deps & {Path(path), *Path(path).parents} for out in definition(name)["outs"] for path in listed(out))
    }


def listed(out: str | dict[str, Any]) -> list[str]:
    return [out] if isinstance(out, str) else list(out)


def definition(stage: str) -> dict[str, Any]:
    return DAG[stage].get("do", DAG[stage])
