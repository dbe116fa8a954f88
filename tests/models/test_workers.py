"""Forked processes that work side by side: results, what they tell, errors, and their end with the parent's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bitter_retrieval.models import workers
from bitter_retrieval.models.workers import Tell, WorkerError, cores, side_by_side, worker_count

SOURCE = Path(__file__).parents[2] / "src"
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere all is done in one process")


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four cores and no GPU."""
    monkeypatch.setattr(workers, "cores", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(params=["processes", "this process"])
def anyhow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, four: None) -> str:
    if request.param == "this process":
        monkeypatch.setattr(workers, "cores", lambda: 1)
    return request.param


def test_results_keep_the_order_of_items(anyhow: str) -> None:
    def work(seconds: float, tell: Tell) -> tuple[float, int]:
        time.sleep(seconds)
        return seconds, os.getpid()

    items = [0.2, 0.0, 0.1, 0.0, 0.05, 0.0]  # more than cores; the first ends last
    found = side_by_side(work, items)
    assert [item for item, _ in found] == items
    processes = {process for _, process in found}
    assert processes == {os.getpid()} if anyhow == "this process" else len(processes - {os.getpid()}) == len(items)


def test_what_is_told_arrives_in_order_before_the_result(anyhow: str) -> None:
    def work(item: int, tell: Tell) -> int:
        for step in range(3):
            tell((item, step))
        return item

    told: list[tuple[int, int]] = []
    assert side_by_side(work, [0, 1, 2], told.append) == [0, 1, 2]
    assert [[step for of, step in told if of == item] for item in range(3)] == [[0, 1, 2]] * 3


@LINUX
def test_as_many_at_a_time_as_cores_each_with_its_share(four: None, tmp_path: Path) -> None:
    def work(item: int, tell: Tell) -> tuple[int, str]:
        (tmp_path / f"{item}").touch()
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) <= 4
        (tmp_path / f"{item}").unlink()
        return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]

    before = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    assert side_by_side(work, [0, 1]) == [(2, "2")] * 2
    assert (os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()) == before
    assert side_by_side(work, [*range(2, 8)]) == [(1, "1")] * 6


def test_number_of_processes(four: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "free_on_machine", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    found = [worker_count(3), worker_count(9), worker_count(9, 300), worker_count(9, 2000), worker_count(1)]
    assert found == [3, 4, 3, 1, 1]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert worker_count(3) == 1
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert worker_count(3) == 1


def test_cores_are_those_allowed_or_fewer_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    found = []
    for asked in ("", "2", "64", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        found.append(cores())
    assert found == [3, 2, 3, 3]


# -- errors ------------------------------------------------------------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize("raised", [WorkerError("seed 1 is broken"), Unpicklable("this", "that")])
def test_first_error_ends_the_others_and_says_where(raised: Exception, four: None, tmp_path: Path) -> None:
    def broken_here(item: int, tell: Tell) -> int:
        if item == 1:
            raise raised
        time.sleep(60)
        (tmp_path / "done").touch()
        return item

    wanted = WorkerError if isinstance(raised, WorkerError) else RuntimeError
    started = time.monotonic()
    with pytest.raises(wanted, match="seed 1 is broken|Unpicklable: this and that") as caught:
        side_by_side(broken_here, [0, 1, 2])
    assert time.monotonic() - started < 30 and "broken_here" in caught.value.__notes__[0]
    assert not (tmp_path / "done").exists()


@LINUX
def test_process_that_is_killed_is_an_error(four: None) -> None:
    def work(item: int, tell: Tell) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerError, match="ended with -9 and no result.*memory"):
        side_by_side(work, [0, 1])


PARENT = """
import os, sys, time
from bitter_retrieval.models import workers
workers.cores = lambda: 2

def work(item, tell):
    tell(os.getpid())
    time.sleep(60)

workers.side_by_side(work, [0, 1], lambda told: print(told, flush=True))
"""


@LINUX
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_their_parent(way: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )
    assert parent.stdout
    children = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(way)
    parent.wait(30)
    assert until(lambda: not any(map(runs, children)))


def runs(process: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(there: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not there():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
