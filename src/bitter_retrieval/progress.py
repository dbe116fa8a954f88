"""Progress bars with rate and time left, on a terminal; nothing at all where stderr is a file or a pipe.

for batch in track(batches, "label reader_a"):      label reader_a ━━━━━━━━━ 412/1,300  88.0 it/s  0:00:10
with bar("fit reader_a", total=1000) as advance:
    advance(1)
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Item = TypeVar("Item")
Advance = Callable[[int], None]


def track(iterable: Iterable[Item], description: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """The items of `iterable`, counted on a bar. `total` is its length unless given or unknowable."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with bar(description, total, unit) as advance:
        for item in iterable:
            yield item
            advance(1)


@contextmanager
def bar(description: str, total: int | None = None, unit: str = "it") -> Iterator[Advance]:
    """A bar over `total` units; the function that it gives counts some of them as done."""
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
