"""Shared by the scripts in src/: the command line, progress bars, and errors that end a script.

    params, name = named("readers", __doc__, arguments)           python src/reader.py reader_a
    for batch in track(batches, "label reader_a"):                label reader_a ━━━━━━━━━ 412/1,300  88.0 it/s  0:00:10
    run_stage(main)                                               train kl: 4 seeds of 48 steps. 41 s, no warnings.
                                                                  error: params.yaml: runs.kl.losses.k1: …

It decides no result: no stage of dvc.yaml lists it.
"""

import errno
import logging
import os
import sys
import time
import warnings
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from bitter_retrieval.parameter_types import PROMPT, is_prompt
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.plain_text import PlainConsole, plain
from bitter_retrieval.typed_yaml import one_of

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def run_stage(main: Callable[[], str | None]) -> None:
    """Run a script's main; if it returns what was made, this is printed with its time and the number of warnings.

    Errors of this package's types are printed (exit status 1), and those of a full or read-only disk; others are
    defects and pass. What the locale's encoding lacks is printed as an escape: a minus sign must neither vanish nor end
    the work.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    started, show = time.monotonic(), warnings.showwarning
    WARNED.clear()

    def counted(message: Warning | str, *where: Any, **how: Any) -> None:
        WARNED.append(str(message))
        show(message, *where, **how)

    logger, handler = logging.getLogger("bitter_retrieval"), Warned(logging.WARNING)
    logger.addHandler(handler)
    with warnings.catch_warnings():
        warnings.showwarning = counted
        try:
            made = main()
        except OSError as error:  # of a place that names no error of its own, such as a library's
            if error.errno not in DISK:
                raise
            remedy = "Free space there, or change its permissions, and run again: finished work is kept."
            sys.exit(plain(f"error: {error}. {remedy}"))
        except (ValueError, RuntimeError) as error:
            if not type(error).__module__.startswith("bitter_retrieval"):
                raise
            sys.exit(plain(f"error: {error}"))
        finally:
            logger.removeHandler(handler)
    if made is not None:
        warned = f"{len(WARNED)} warning{'s' if len(WARNED) > 1 else ''}" if WARNED else "no warnings"
        say(f"{made}. {duration(time.monotonic() - started)}, {warned}.")


WARNED: list[str] = []  # since the script began


class Warned(logging.Handler):
    """Shows what the package logs as warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def warn(line: str) -> None:
    """One line on stderr, counted as a warning."""
    WARNED.append(line)
    say(line)


def duration(seconds: float) -> str:
    """12 s, 3 min 5 s or 2 h 4 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# -- arguments; argparse prints their errors -----------------------------------------------------------------------


class Parser(ArgumentParser):
    """Shows a script's docstring, which has its examples, as it stands; no option may be cut short."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False, **settings)


def named(section: str, doc: str | None, arguments: Sequence[str] | None) -> tuple[Params, str]:
    """Params, and the name given as a stage's only argument. Raises ParamsError if the section has no such name.

    DVC gives the stage's name with it: label@reader_a. doc: the script's. arguments: those of the process by default.
    """
    parser = Parser(description=doc)
    parser.add_argument("name", help=f"a name in {section} of params.yaml")
    given = parser.parse_args(arguments).name
    params = load_params()
    return params, one_of(given.partition("@")[2] or given, getattr(params, section), f"params.yaml: {section}")


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


# -- progress: a bar on a terminal, lines for a file or a pipe, such as a queue's log -------------------------------

EVERY = 30.0  # seconds between such lines

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
    """A bar over `total` units, or lines; yields a function that counts some of them as done."""
    if not sys.stderr.isatty():
        yield Lines(description, total, unit).advance
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Done(),
        Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=PlainConsole(stderr=True),
    ) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


def say(line: str) -> None:
    """One line on stderr, without markup."""
    PlainConsole(stderr=True).print(line, soft_wrap=True)


class Lines:
    """label reader_a: 412/1,300, 88.0 it/s, 10 s left"""

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done, self._started, self._told = 0, time.monotonic(), time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._told < EVERY:
            return
        self._told, rate = now, self._done / (now - self._started)
        of, left = "", ""
        if self._total is not None:
            of, left = f"/{self._total:,}", f", {duration((self._total - self._done) / rate)} left" if rate else ""
        say(f"{self._description}: {self._done:,}{of}, {rate:,.1f} {self._unit}/s{left}")


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
