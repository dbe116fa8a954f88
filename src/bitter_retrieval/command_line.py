"""Shared by the scripts in src/: the command line, progress bars, and errors that end a script.

    name, settings = named("readers", load_params().readers)      python src/reader.py reader_a
    for batch in track(batches, "label reader_a"):                label reader_a ━━━━━━━━━ 412/1,300  88.0 it/s  0:00:10
    run_stage(main)                                               error: params.yaml: runs.kl.losses.k1: …

It decides no result: no stage of dvc.yaml lists it.
"""

import errno
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from bitter_retrieval.parameter_types import PROMPT, is_prompt
from bitter_retrieval.typed_yaml import one_of

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def run_stage(main: Callable[[], object]) -> None:
    """Run a script's main. Errors of this package's types are printed (exit status 1), and those of a full or read-only
    disk; others are defects and pass.
    """
    try:
        main()
    except OSError as error:  # of a place that names no error of its own, such as a library's
        if error.errno not in DISK:
            raise
        sys.exit(f"error: {error}. Free space there, or change its permissions, and run again: finished work is kept.")
    except (ValueError, RuntimeError) as error:
        if not type(error).__module__.startswith("bitter_retrieval"):
            raise
        sys.exit(f"error: {error}")


# -- arguments; argparse prints their errors -----------------------------------------------------------------------

Entry = TypeVar("Entry")


def named(section: str, entries: Mapping[str, Entry]) -> tuple[str, Entry]:
    """The name given as a stage's only argument, and its entry of params.yaml. Raises ParamsError if it has none."""
    parser = ArgumentParser()
    parser.add_argument("name", help=f"one of {section} in params.yaml: {', '.join(entries)}")
    name = one_of(parser.parse_args().name, entries, f"params.yaml: {section}")
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
        TextColumn("{task.description}"),
        BarColumn(),
        Done(),
        Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


def say(line: str) -> None:
    """One line on stderr, without markup."""
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


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
