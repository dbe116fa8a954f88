"""The local modules that a stage's script imports, at any depth and also within functions, and their rooms.

    $ python tests/closure.py src/judge.py          what dvc.yaml lists as the stage's code
    src/bitter_retrieval/journal.py
    src/bitter_retrieval/judging
    …
    src/judge.py

Read from the source with ast; nothing is run. Packages' __init__.py files are left out: ours hold a docstring. Imports
under `if TYPE_CHECKING:` count too, as an edit that moves them shows only in the source.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = "bitter_retrieval"
# Modules that only refuse or print change no result, so no stage depends on them. A room's settings.py (dataclasses of
# params) is one of them if another room imports it; the stages of its own room depend on the folder.
REFUSE_OR_PRINT = ("command_line.py", "parameter_types.py", "params.py", "tracking.py", "typed_yaml.py")
REFUSE_OR_PRINT += ("mlflow_store.py", "*/settings.py")


def code_deps(script: Path) -> list[str]:
    """The code that decides a stage's results: its script, and the rooms (folders) and other modules that it imports.

    Paths begin with the name of the script's folder, as in dvc.yaml.
    """
    source = script.parent
    return sorted({f"{source.name}/{room_of(file.relative_to(source))}" for file in _deciding(script)})


def room_of(module: Path) -> str:
    """The folder of a module in a room, relative to the source; the module itself if it is in none."""
    inside = module.parts[0] == PACKAGE and len(module.parts) > 2
    return "/".join(module.parts[:2]) if inside else module.as_posix()


def _deciding(script: Path) -> set[Path]:
    package = script.parent / PACKAGE
    return closure(script, leave_out={file for pattern in REFUSE_OR_PRINT for file in package.glob(pattern)})


def closure(script: Path, source: Path | None = None, leave_out: Iterable[Path] = ()) -> set[Path]:
    """`script` and every local module that it imports, directly or through others.

    source: the folder that imports are searched in; the script's own by default, as when Python runs it.
    leave_out: modules that are skipped with their imports.
    """
    source, leave_out = source or script.parent, set(leave_out)
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        module = waiting.pop()
        if module not in found and module not in leave_out:
            found.add(module)
            waiting += imported(module, source)
    return found


def imported(module: Path, source: Path) -> list[Path]:
    """The local modules in one file's import statements."""
    candidates = [source.joinpath(*name.split(".")).with_suffix(".py") for name in names(module, source)]
    return sorted({file for file in candidates if file.is_file()})


def names(module: Path, source: Path) -> Iterator[str]:
    """Dotted names that may be modules: `from a import b` gives a and a.b, as b may be either."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"), filename=str(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(part for part in (package(node, module, source), node.module) if part)
            yield parent
            yield from (f"{parent}.{alias.name}" for alias in node.names)


def package(node: ast.ImportFrom, module: Path, source: Path) -> str:
    """The package that the dots of a relative import stand for; empty for an absolute import."""
    if not node.level:
        return ""
    return ".".join(module.relative_to(source).parts[: -node.level])


def rooms(source: Path) -> dict[str, set[str]]:
    """By room, the other rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for module in sorted((source / PACKAGE).glob("*/*.py")):
        room = module.parent.name
        others = {file.parent.name for file in imported(module, source) if file.parent.parent.name == PACKAGE}
        found.setdefault(room, set()).update(others - {room})
    return found


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(*code_deps(Path(path)), sep="\n")
