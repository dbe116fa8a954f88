"""Work side by side: a function over items, each in a process of its own with its share of the cores.

    side_by_side(train_seed, [0, 1, 2])      [curve of seed 0, curve of seed 1, curve of seed 2]

A small model's step gains little from a second thread, and everything from a second process. The processes are forked:
what is loaded before (weights, tokenised texts) is shared, `work` may be a closure, and only its result is pickled.
"""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from bitter_retrieval.models.memory import free_on_machine

Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[Any], None]

SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl.h


class WorkerError(RuntimeError):
    """A process that ended without a result: killed by the system, mostly for lack of memory."""


def side_by_side(
    work: Callable[[Item, Tell], Result],
    items: Sequence[Item],
    on_told: Tell = lambda _: None,
    bytes_each: int = 0,
    threads: int | None = None,
) -> list[Result]:
    """work(item, tell) of every item, in their order; what `work` tells, `on_told` gets in this process.

    bytes_each: memory that one item takes; only as many as fit run at a time. threads: of each process, by default its
    share of the cores. Results, what is told and errors must be picklable. The first error ends the other items and is
    raised here, with the process's traceback as a note. If only one process is of use (one core or item, a GPU, not
    Linux), all is done in this one, with the threads that it has.
    """
    workers = worker_count(len(items), bytes_each)
    if workers < 2:
        return [work(item, on_told) for item in items]
    threads = threads or cores() // workers
    waiting = list(enumerate(items))[::-1]
    running: dict[Any, tuple[int, BaseProcess]] = {}  # by the end of its pipe
    results: dict[int, Result] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                place, item = waiting.pop()
                receiving, process = _start(work, item, threads)
                running[receiving] = place, process
            for ready in connection.wait(list(running)):
                place, process = running[ready]
                kind, value = _received(ready, process)
                if kind == "error":
                    raise value
                if kind == "told":
                    on_told(value)
                    continue
                results[place] = value
                process.join()
                del running[ready]
    finally:
        for _, process in running.values():
            process.kill()
            process.join()
    return [results[place] for place in range(len(items))]


def worker_count(items: int, bytes_each: int = 0) -> int:
    """Processes that work on so many items at a time; 1: this process alone."""
    import torch

    if items < 2 or not sys.platform.startswith("linux") or torch.cuda.is_available():
        return 1
    fit = free_on_machine() // bytes_each if bytes_each else items
    return max(1, min(items, cores(), fit))


def use_threads(count: int) -> None:
    """Let this process compute with so many threads."""
    import torch

    torch.set_num_threads(count)


def cores() -> int:
    """Cores that this process may use, or fewer if OMP_NUM_THREADS says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, int(asked)) if asked.isdigit() and int(asked) else allowed


def _start(work: Callable[[Item, Tell], Any], item: Item, threads: int) -> tuple[Connection, BaseProcess]:
    context = get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, item, threads, sending, os.getpid()))
    process.start()
    sending.close()  # the process has its own: its end is seen here
    return receiving, process


def _received(receiving: Any, process: BaseProcess) -> tuple[str, Any]:
    try:
        return receiving.recv()
    except EOFError:
        process.join()
        raise WorkerError(
            f"a worker process ended with {process.exitcode} and no result; -9 is mostly a lack of memory. "
            "OMP_NUM_THREADS=1 makes it one process."
        ) from None


def _run(work: Callable[[Item, Tell], Any], item: Item, threads: int, sending: Connection, parent: int) -> None:
    """What a process does: its work, then its last message."""
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    use_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for what this process starts
    try:
        message = "result", work(item, lambda told: sending.send(("told", told)))
    except Exception as error:
        message = "error", _portable(error)
    sending.send(message)


def _end_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, however that comes about."""
    import ctypes

    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGKILL)


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note; another one with the same text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note("In a worker process:\n" + "".join(traceback.format_exc()))
    return error
