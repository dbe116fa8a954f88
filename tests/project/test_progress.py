"""Progress: the items pass through untouched; a terminal sees a bar, a pipe a line now and then, both a last line."""

import logging
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest

from bitter_retrieval import command_line

SOURCE = Path(__file__).parents[2] / "src"
SCRIPT = """
import time
from bitter_retrieval.command_line import bar, track
for _ in track(range(3), "walk", unit="steps"):
    time.sleep(0.02)
with bar("climb", total=2000) as advance:
    advance(1500)
    time.sleep(0.02)
    advance(500)
"""


def run_with_stderr(stderr: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, stderr=stderr, check=True)


def test_a_terminal_sees_description_count_and_rate() -> None:
    ours, theirs = os.openpty()
    run_with_stderr(theirs)
    shown = os.read(ours, 1 << 16).decode()
    for wanted in ("walk", "3/3", "steps/s", "climb", "2,000/2,000", "it/s"):
        assert wanted in shown


def test_a_pipe_sees_nothing_of_what_is_soon_done() -> None:
    ours, theirs = os.pipe()
    run_with_stderr(theirs)
    os.close(theirs)
    assert os.read(ours, 1 << 16) == b""


def test_items_pass_in_order_and_without_a_length() -> None:
    from bitter_retrieval.command_line import track

    assert list(track((number for number in range(5)), "walk")) == [0, 1, 2, 3, 4]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, which the test lets pass."""
    now = [100.0]
    monkeypatch.setattr(command_line.time, "monotonic", lambda: now[0])
    return now


def test_a_pipe_sees_count_rate_and_time_left_every_half_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with command_line.bar("label reader_a", 1300, "triple") as advance:
        for _ in range(70):
            clock[0] += 1
            advance(10)
    with command_line.bar("walk") as advance:  # of unknown length
        clock[0] += 40
        advance(80)
    assert capsys.readouterr().err.splitlines() == [
        "label reader_a: 300/1,300, 10.0 triple/s, 1 min 40 s left",
        "label reader_a: 600/1,300, 10.0 triple/s, 1 min 10 s left",
        "walk: 80, 2.0 it/s",
    ]


def test_a_script_ends_with_what_was_made_its_time_and_the_number_of_warnings(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*, minutes: int, warned: int) -> str:
        clock[0] += 60 * minutes + 5
        for number in range(warned):
            command_line.warn(f"text {number} was cut")
        if warned:
            warnings.warn("a library's", stacklevel=1)
            logging.getLogger("bitter_retrieval.encoders").warning("a room's")
        return "train kl: 4 seeds of 48 steps"

    command_line.run_stage(partial(main, minutes=0, warned=0))
    assert capsys.readouterr().err == "train kl: 4 seeds of 48 steps. 5 s, no warnings.\n"
    with pytest.warns(UserWarning, match="a library's"):
        command_line.run_stage(partial(main, minutes=125, warned=2))
    assert capsys.readouterr().err.splitlines() == [
        "text 0 was cut",
        "text 1 was cut",
        "a room's",
        "train kl: 4 seeds of 48 steps. 2 h 5 min, 4 warnings.",
    ]
    command_line.run_stage(lambda: None)
    assert capsys.readouterr().err == ""
