"""The local modules that a stage's script imports, however deep and wherever in a function: its `deps` in dvc.yaml.

    $ python tests/closure.py src/judge.py
    src/bitter_retrieval/journal.py
    src/bitter_retrieval/judges.py
    …
    src/judge.py

Read from the source with ast; nothing is run. Packages' __init__.py files are left out: ours hold a docstring. Imports
under `if TYPE_CHECKING:` count too, since an edit that moves them shows in the source only.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path


def closure(script: Path, source: Path | None = None) -> set[Path]:
    """`script` and every local module that it imports, directly or through others.

    source: the folder that imports are searched in; the script's own by default, as when Python runs it.
    """
    source = source or script.parent
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imported(module, source)
    return found


def imported(module: Path, source: Path) -> list[Path]:
    """The local modules that one file names in its import statements."""
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


if __name__ == "__main__":
    for script in sys.argv[1:]:
        print(*sorted(map(str, closure(Path(script)))), sep="\n")
