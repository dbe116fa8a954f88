"""CONTRIBUTING.md against the code: rooms and the way of their imports, files that an addition touches, and lint."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from closure import rooms

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE, re.MULTILINE)  # from the bottom of the house to the top
ADDITIONS = {
    what: (name, re.findall(r"`(\S+)`", files))
    for what, name, files in re.findall(r"^\| (an? [a-z ]+) \| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE)
}


def test_the_page_and_the_readme_have_every_room() -> None:
    folders = {file.parent.name for file in (ROOT / "src/bitter_retrieval").glob("*/__init__.py")}
    assert sorted(ROOMS) == sorted(folders)
    assert " ".join(ROOMS) in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_rooms_import_rooms_above_them() -> None:
    imported = rooms(ROOT / "src")
    assert {room: others for room in ROOMS if (others := imported[room] & set(ROOMS[ROOMS.index(room) :]))} == {}


@pytest.mark.parametrize(("room", "other"), [("training", "readers"), ("statistics", "models"), ("data", "labels")])
def test_some_rooms_never_import_each_other(room: str, other: str) -> None:
    assert other not in rooms(ROOT / "src")[room]


def test_tests_lie_in_the_room_of_what_they_test() -> None:
    folders = {file.parent.name for file in (ROOT / "tests").glob("*/test_*.py")}
    assert folders - {"project", "gpu", "benchmarks"} <= set(ROOMS)


def test_the_page_says_how_to_add_what_there_is() -> None:
    assert list(ADDITIONS) == ["a run", "a loss", "a label source", "a data layout", "a ranking metric", "a judge"]


def named(file: Path) -> set[str]:
    """Names in a file's code: its functions, and its strings (docstrings too, which equal no name)."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return strings | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_nothing_else_names_what_was_added() -> None:
    for file in sorted((ROOT / "src").rglob("*.py")):
        found, path = named(file), file.relative_to(ROOT).as_posix()
        assert [name for name, files in ADDITIONS.values() if name in found and path not in files] == [], path


@pytest.mark.parametrize(("what", "file"), [(what, file) for what, (_, files) in ADDITIONS.items() for file in files])
def test_files_of_an_addition_have_it(what: str, file: str) -> None:
    name = ADDITIONS[what][0]
    text = (ROOT / file).read_text(encoding="utf-8")
    assert name in Path(file).stem or re.search(rf"\b(slow_)?{name}(_labels)?\b", text)


def test_every_loss_has_a_row_on_its_page() -> None:
    from bitter_retrieval.training.settings import LOSSES

    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    rows = {name: (labels, dials) for name, labels, dials in found}
    assert rows == {
        name: (loss.labels, ", ".join(f"`{dial.removeprefix('temperature.')}`" for dial in loss.dials) or "none")
        for name, loss in LOSSES.items()
    }


def test_pre_commit_runs_what_make_lint_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    lint = [line.strip().removesuffix(" .") for line in recipe.splitlines()]
    assert [hook.replace(".venv/bin/", "$(BIN)/").replace("make types", "$(MAKE) types") for hook in hooks] == lint
