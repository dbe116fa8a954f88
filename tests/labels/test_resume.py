"""Labelling that is killed for real, has no room, or runs twice at once ends with the bytes of an undisturbed run.

Processes are forked by a server that has torch and transformers imported, so that twenty kills fit into a few seconds.
"""

import multiprocessing
import os
import random
import resource
import sqlite3
import sys
import threading
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import tiny
import torch

from bitter_retrieval.journal import Journal, JournalError
from bitter_retrieval.readers import answer_loss
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.records import SOFT_LABELS, write_rows

ROOT = Path(__file__).parents[2]
KILLS = 20
BUDGET = 300  # tokens: some fifty batches
PROCESSES = multiprocessing.get_context("forkserver")


def label(folder: Path, halt: float = float("inf"), room: int | None = None) -> None:
    """The work of a process: score the triples, journal them in `folder` and write its labels there.

    Each forward pass adds a line to passes.txt as it begins; the one of line `halt` waits for the kill. No file grows
    beyond `room` bytes.
    """
    torch.set_num_threads(1)
    answer_loss.CHUNK = 128  # three chunks
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=200)
    compute = Scorer._forward

    def forward(scorer: Scorer, items: list) -> list:
        with (folder / "passes.txt").open("a") as told:
            told.write("pass\n")
        time.sleep(60 if passes(folder) >= halt else 0.005)
        return compute(scorer, items)

    Scorer._forward = forward
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    with Journal(folder / "scores.sqlite") as journal:
        try:
            scores = Scorer(reader, BUDGET, journal).score(triples())
        except JournalError as error:
            (folder / "error.txt").write_text(str(error))
            sys.exit(1)
    rows = [
        {"query_id": t.query, "passage_id": t.passage, "answer_index": 0, "nll_sum": s.nll_sum, "n_tokens": s.n_tokens}
        for t, s in zip(triples(), scores, strict=True)
    ]
    write_rows(folder / f"labels-{os.getpid()}.parquet", rows, SOFT_LABELS)


def triples() -> list[Triple]:
    return [
        Triple(row["query"], passage["text"], answer)
        for row in tiny.world(26)
        for passage in [*row["passages"], {"text": ""}]
        for answer in (row["answers"][0], "Answer: Caldbury", "7 goats")
    ]


def passes(folder: Path) -> int:
    told = folder / "passes.txt"
    return told.read_text().count("\n") if told.exists() else 0


def start(folder: Path, **how: float) -> ForkServerProcess:
    folder.mkdir(exist_ok=True)
    process = PROCESSES.Process(target=label, args=(folder,), kwargs=how)
    process.start()
    return process


def finish(*processes: ForkServerProcess) -> list[int | None]:
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def labels(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("labels-*.parquet"))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The labels of an undisturbed process, and its forward passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
        PROCESSES.set_forkserver_preload([__name__, "transformers.models.qwen3.modeling_qwen3"])
        folder = tmp_path_factory.mktemp("undisturbed")
        assert finish(start(folder)) == [0]  # the server starts with it
    return labels(folder)[0], passes(folder)


def test_killed_twenty_times(undisturbed: tuple[bytes, int], tmp_path: Path) -> None:
    """At many moments: in a forward pass, in the journal, before the first batch."""
    wanted, needed = undisturbed
    draw = random.Random(0)
    for moment in sorted(draw.choices(range(needed - 5), k=KILLS)):
        process = start(tmp_path, halt=needed - 1)
        while process.is_alive() and passes(tmp_path) < moment:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        assert finish(process) == [-9]
    assert finish(start(tmp_path)) == [0]
    assert labels(tmp_path) == [wanted]
    assert needed > 30 and needed <= passes(tmp_path) <= needed + KILLS


def test_full_disk_is_named_and_room_lets_it_go_on(undisturbed: tuple[bytes, int], tmp_path: Path) -> None:
    wanted, needed = undisturbed
    assert finish(start(tmp_path, room=150_000)) == [1]
    error = (tmp_path / "error.txt").read_text()
    assert str(tmp_path / "scores.sqlite") in error and "free space on the disk" in error and "run again" in error
    done = passes(tmp_path)
    assert 3 < done < needed and labels(tmp_path) == []
    assert finish(start(tmp_path)) == [0]
    assert labels(tmp_path) == [wanted] and passes(tmp_path) == needed + 1


def test_two_processes_at_once(undisturbed: tuple[bytes, int], tmp_path: Path) -> None:
    wanted, _ = undisturbed
    assert finish(start(tmp_path), start(tmp_path)) == [0, 0]
    assert labels(tmp_path) == [wanted, wanted]


def test_journal_that_another_process_is_just_making_is_waited_for(tmp_path: Path) -> None:
    """Two processes that start at once meet here, where sqlite itself does not wait."""
    other = sqlite3.connect(tmp_path / "scores.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE unfinished (key)")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, other.rollback).start()
    with Journal(tmp_path / "scores.sqlite") as journal:
        journal.put({"key": 1})
    other.close()
