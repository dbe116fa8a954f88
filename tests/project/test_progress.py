"""Progress: the items pass through untouched, a terminal sees rate and count, a pipe sees nothing."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_a_pipe_sees_nothing() -> None:
    ours, theirs = os.pipe()
    run_with_stderr(theirs)
    os.close(theirs)
    assert os.read(ours, 1 << 16) == b""


def test_items_pass_in_order_and_without_a_length() -> None:
    from bitter_retrieval.command_line import track

    assert list(track((number for number in range(5)), "walk")) == [0, 1, 2, 3, 4]
