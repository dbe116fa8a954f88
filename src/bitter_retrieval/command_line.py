"""Shared by the scripts in src/: the command line, progress bars, and errors that end a script.

    name, settings = named("readers", load_params().readers)      python src/reader.py reader_a
    for batch in track(batches, "label reader_a"):                label reader_a ━━━━━━━━━ 412/1,300  88.0 it/s  0:00:10
    run_stage(main)                                               error: params.yaml: runs.kl.losses.k1: …

It decides no result: no stage of dvc.yaml lists it.
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TypeVar

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from bitter_retrieval.parameter_types import PROMPT, is_prompt
from bitter_retrieval.plain_text import PlainConsole, plain
from bitter_retrieval.typed_yaml import one_of


def run_stage(main: Callable[[], object]) -> None:
    """Run a script's main. Errors of this package's types are printed (exit status 1); others are defects and pass.

    What the locale's encoding lacks is printed as an escape: a minus sign must neither vanish nor end the work.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
    except (ValueError, RuntimeError) as error:
        if not type(error).__module__.startswith("bitter_retrieval"):
            raise
        sys.exit(plain(f"error: {error}"))


# -- arguments; argparse prints their errors -----------------------------------------------------------------------

Entry = TypeVar("Entry")


def named(section: str, entries: Mapping[str, Entry]) -> tuple[str, Entry]:
    """The name given as a stage's only argument, and its entry of params.yaml. Raises ParamsError if it has none.

    DVC gives the stage's name with it: label@reader_a.
    """
    parser = ArgumentParser()
    parser.add_argument("name", help=f"one of {section} in params.yaml: {', '.join(entries)}")
    given = parser.parse_args().name
    name = one_of(given.partition("@")[2] or given, entries, f"params.yaml: {section}")
    return name, entries[name]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"must be 1 or more, got {text}")
    return number


def prompt(text: str) -> str:
    if not is_prompt(text):
        raise ArgumentTypeError(f"must be {PROMPT}, got {text!r}")
    return text


def row_range(text: str) -> tuple[int, int | None]:
    """(FIRST, LAST) from FIRST:LAST, LAST excluded; either may be missing."""
    first, colon, last = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"write FIRST:LAST, such as 0:1000, got {text!r}")
    return int(first or 0), int(last) if last else None


# -- files that a command writes -----------------------------------------------------------------------------------


class OutputError(ValueError):
    """A file that must not, or cannot, be written."""


def check_output(files: Iterable[Path], inputs: Iterable[Path | str | None]) -> None:
    """Raise OutputError if one of the files that a command will write is an input, or cannot be written.

    Called before the work. An input is a file or a folder with all that is in it; None, ids and absent ones are none.
    A former result may be replaced.
    """
    given = [Path(path) for path in inputs if path is not None and Path(path).exists()]
    for file in files:
        for one in given:
            if one.is_dir() and file.parent.exists() and file.parent.samefile(one):
                raise OutputError(f"{file}: would lie in the input folder {one}. Name another place by --output.")
            if file.exists() and any(file.samefile(part) for part in _files(one)):
                raise OutputError(f"{file}: is an input ({one}), which is never written over. Name another --output.")
        if file.is_dir():
            raise OutputError(f"{file}: is a folder, and a file is to be written there. Name another --output.")
        place = next(folder for folder in file.absolute().parents if os.path.lexists(folder))
        if not place.is_dir():
            raise OutputError(f"{place}: is no folder, so {file} cannot be written. Name another --output.")
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"{place}: may not be written to. Allow it, or name another --output.")


def _files(path: Path) -> Iterable[Path]:
    return (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


# -- progress; nothing if stderr is a file or a pipe ---------------------------------------------------------------

Item = TypeVar("Item")
Advance = Callable[[int], None]


def track(iterable: Iterable[Item], description: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """The items of `iterable`, counted on a bar. total: its length by default, if it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with bar(description, total, unit) as advance:
        for item in iterable:
            yield item
            advance(1)


@contextmanager
def bar(description: str, total: int | None = None, unit: str = "it") -> Iterator[Advance]:
    """A bar over `total` units; yields a function that counts some of them as done."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Done(),
        Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=PlainConsole(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


def say(line: str) -> None:
    """One line on stderr, without markup."""
    PlainConsole(stderr=True).print(line, soft_wrap=True)


class Done(ProgressColumn):
    """412/1,300"""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}/{total}")


class Rate(ProgressColumn):
    """88.0 it/s; empty until two steps have been seen."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {self._unit}/s")
