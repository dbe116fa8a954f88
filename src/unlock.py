"""Remove DVC's lock file if a kill has left it empty; `make repro` calls this first.

    python src/unlock.py

A kill while DVC writes .dvc/tmp/rwlock leaves it without its content, and every later command of DVC fails on it until
somebody deletes it. Nothing is removed while a process of DVC runs here.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from bitter_retrieval.command_line import Parser

LOCK = Path(".dvc/tmp/rwlock")


def main(arguments: Sequence[str] | None = None) -> None:
    Parser(description=__doc__).parse_args(arguments)
    if not LOCK.is_file() or whole(LOCK):
        return
    if alive := list(dvc_processes(Path.cwd())):
        print(f"{LOCK}: broken, but DVC runs here (process {', '.join(map(str, alive))}): left.", file=sys.stderr)
        return
    LOCK.unlink()
    print(f"{LOCK}: removed, as a kill had left it broken and no process of DVC runs here.", file=sys.stderr)


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
