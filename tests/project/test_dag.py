"""dvc.yaml against the code: DVC follows no imports, so a room missing from a stage's deps would rerun nothing."""

import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml
from closure import PACKAGE, closure, code_deps, rooms

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src"
PARAMS = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
Stage = dict[str, Any]


def stages() -> dict[str, Stage]:
    """Definitions by stage name; of a foreach or matrix stage, the definition of each."""
    dag = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: stage.get("do", stage) for name, stage in dag["stages"].items()}


def script_of(stage: Stage) -> str:
    found = re.search(r"\bpython (src/\S+\.py)\b", str(stage["cmd"]))
    assert found, f"no `python src/….py` in cmd: {stage['cmd']}"
    return found[1]


def paths(entries: list[str | dict[str, Any]]) -> list[str]:
    """DVC's lists hold a path, or a path with its options."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def followed(name: str) -> list[str]:
    """Dotted paths of params that a stage follows; of the whole file, its sections."""
    given = paths(STAGES[name].get("params", []))
    return [*PARAMS] if given == ["params.yaml"] else given


STAGES = stages()
each_stage = pytest.mark.parametrize("name", STAGES)


@each_stage
def test_code_deps_are_the_rooms_that_the_script_imports(name: str) -> None:
    needed = code_deps(REPOSITORY / script_of(STAGES[name]))
    listed = [path for path in paths(STAGES[name].get("deps", [])) if path.startswith("src/")]
    assert sorted(listed) == needed, (
        f"stage {name}: add {sorted(set(needed) - set(listed))}, remove {sorted(set(listed) - set(needed))}; "
        f"`python tests/closure.py {script_of(STAGES[name])}` prints the list"
    )


def test_rooms_import_each_other_in_no_circle() -> None:
    above = rooms(SOURCE)
    TopologicalSorter(above).prepare()  # raises CycleError, which names the rooms


@pytest.mark.parametrize("room", rooms(SOURCE))
def test_a_room_can_be_taken_in_at_a_glance(room: str) -> None:
    modules = [file for file in (SOURCE / PACKAGE / room).glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= 12, f"{room} has {len(modules)} modules: which of them are a subject of their own?"


@each_stage
def test_stage_and_script_share_their_name(name: str) -> None:
    assert script_of(STAGES[name]) == f"src/{name}.py"


@each_stage
def test_a_stage_follows_the_params_section_of_its_name(name: str) -> None:
    sections = {path.split(".")[0] for path in followed(name)}
    assert sections <= set(PARAMS), f"stage {name} follows {sections - set(PARAMS)}, which params.yaml does not have"
    wanted = {name, f"{name}s"} & set(PARAMS)
    assert wanted <= sections, f"stage {name} does not follow {wanted - sections} of params.yaml"


def test_every_params_section_is_followed_by_a_stage() -> None:
    some = {path.split(".")[0] for name in STAGES if name != "check" for path in followed(name)}
    assert {*PARAMS} - {"tracking"} == some, "tracking decides no result"


def test_only_check_follows_the_whole_file() -> None:
    """It notices a section that nobody knows. Another stage would rerun for every change."""
    assert [name for name in STAGES if "params.yaml" in paths(STAGES[name].get("params", []))] == ["check"]


@each_stage
def test_no_stage_imports_another(name: str) -> None:
    scripts = {SOURCE / f"{stage}.py" for stage in STAGES}
    assert closure(SOURCE / f"{name}.py") & scripts == {SOURCE / f"{name}.py"}


def test_packages_hold_no_code_that_deps_would_miss() -> None:
    for file in SOURCE.rglob("__init__.py"):
        assert not list(closure(file, SOURCE) - {file}), f"{file} imports modules; deps leave out __init__.py"


@pytest.mark.parametrize(
    "line",
    [
        "import room.far",
        "import room.far as f",
        "from room.far import thing",
        "from room import far",
        "from room import (other, far)",
        "def f():\n    from room import far",
        "if True:\n    import os, room.far",
        "try:\n    from room import near\nexcept ImportError:\n    pass",
    ],
)
def test_the_closure_sees_imports_of_every_form(tmp_path: Path, line: str) -> None:
    room = {"room/near.py": "from .far import thing", "room/far.py": "", "room/other.py": ""}
    write(tmp_path, {"stage.py": line, **room})
    assert tmp_path / "room/far.py" in closure(tmp_path / "stage.py")


def test_the_closure_follows_chains_and_circles_and_leaves_out_the_rest(tmp_path: Path) -> None:
    files = {
        "stage.py": "import json\nfrom room.a import x",
        "room/__init__.py": "",
        "room/a.py": "from . import b",
        "room/b.py": "def f():\n    from .deep.c import y",
        "room/deep/c.py": "from ..a import x\nimport beside",
        "room/unused.py": "",
        "beside.py": "",
        "json.txt": "",
    }
    write(tmp_path, files)
    found = {str(file.relative_to(tmp_path)) for file in closure(tmp_path / "stage.py")}
    assert found == {"stage.py", "room/a.py", "room/b.py", "room/deep/c.py", "beside.py"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
