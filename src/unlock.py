"""Let DVC start: without its broken lock file, and without git; `make repro` calls this first.

    python src/unlock.py

A kill while DVC writes .dvc/tmp/rwlock leaves it without its content, and every later command of DVC fails on it until
somebody deletes it. Nothing is removed while a process of DVC runs here. In a folder without git, such as an unpacked
ZIP, DVC is told by .dvc/config.local to go on without.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser

# isort: split
import psutil

from bitter_retrieval.typed_yaml import elsewhere

LOCK = Path(".dvc/tmp/rwlock")
CONFIGS = Path(".dvc/config"), Path(".dvc/config.local")


def main(arguments: Sequence[str] | None = None) -> None:
    Parser(description=__doc__).parse_args(arguments)
    if not LOCK.parents[1].is_dir():
        sys.exit(f"error: {LOCK.parents[1]}: no such folder{elsewhere()}")
    go_on_without_git()
    if not LOCK.is_file() or whole(LOCK):
        return
    if alive := list(dvc_processes(Path.cwd())):
        print(f"{LOCK}: broken, but DVC runs here (process {', '.join(map(str, alive))}): left.", file=sys.stderr)
        return
    LOCK.unlink()
    print(f"{LOCK}: removed, as a kill had left it broken and no process of DVC runs here.", file=sys.stderr)


def go_on_without_git() -> None:
    """DVC begins only in a git repository, or where its configuration says that there is none."""
    said = (file.read_text(encoding="utf-8") for file in CONFIGS if file.is_file())
    if any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)) or "no_scm" in "".join(said):
        return
    with CONFIGS[1].open("a", encoding="utf-8") as file:
        file.write("[core]\n    no_scm = true\n")
    print(
        f"{Path.cwd()}: no git repository. DVC goes on without, as {CONFIGS[1]} now says; experiments (`dvc exp`) and "
        f"the comparison with the committed figures need a clone. Delete {CONFIGS[1]} once git is there.",
        file=sys.stderr,
    )


def whole(lock: Path) -> bool:
    try:
        return isinstance(json.loads(lock.read_bytes()), dict)
    except ValueError:
        return False


def dvc_processes(root: Path) -> Iterator[int]:
    """Processes of DVC that work in `root` or below, or of which nothing says where."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(Path(part).name == "dvc" for part in process.cmdline()[:3]):
                if Path(process.cwd()).is_relative_to(root):
                    yield process.pid
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            yield process.pid


if __name__ == "__main__":
    main()
