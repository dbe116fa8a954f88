"""The journal: no committed entry is lost, even with kills and several processes, and values come back exactly."""

import json
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from any_values import FEW, broken_texts, values
from hypothesis import given
from hypothesis import strategies as st

from bitter_retrieval.journal import Journal, JournalError, content_key, journal_folder

SOURCE = Path(__file__).parents[2] / "src"

# Writes batches of ten and prints the number of a batch after `put` has returned.
WRITER = """
import sys
from bitter_retrieval.journal import Journal
name, path, batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
journal = Journal(path)
for batch in range(batches):
    journal.put({f"{name}-{batch}-{item}": batch + item / 10 for item in range(10)})
    print(batch, flush=True)
"""


def start_writer(name: str, path: Path, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, name, str(path), str(batches)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdout=subprocess.PIPE, text=True)


def batch_of(name: str, batch: int) -> dict[str, float]:
    return {f"{name}-{batch}-{item}": batch + item / 10 for item in range(10)}


def test_what_was_put_is_got_and_the_rest_is_left_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put({"a": 1, "b": {"verdict": "correct", "reason": None}})
        assert journal.get(["a", "b", "c"]) == {"a": 1, "b": {"verdict": "correct", "reason": None}}
        assert journal.get([]) == {}
    with Journal(tmp_path / "j.sqlite") as again:
        assert again.get(["a"]) == {"a": 1}


def test_the_first_value_of_a_key_is_final(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put({"a": 1})
        journal.put({"a": 2, "b": 3})
        assert journal.get(["a", "b"]) == {"a": 1, "b": 3}


def test_floats_come_back_bit_for_bit(tmp_path: Path) -> None:
    draw = random.Random(0)
    doubles = [struct.unpack("<d", draw.randbytes(8))[0] for _ in range(2000)]
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]  # what a float32 tensor's .tolist() gives
    values = [x for x in doubles if x - x == 0] + [single, 5e-324, -0.0]
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put({str(place): value for place, value in enumerate(values)})
        found = journal.get(str(place) for place in range(len(values)))
    assert [struct.pack("<d", found[str(place)]) for place in range(len(values))] == [
        struct.pack("<d", value) for value in values
    ]


@FEW
@given(st.dictionaries(broken_texts.map(lambda text: content_key(text=text)), values(broken_texts), max_size=4))
def test_any_value_comes_back(tmp_path_factory: pytest.TempPathFactory, values_by_key: dict[str, Any]) -> None:
    """Also from another process's view of the file; a key that is there keeps its value."""
    path = tmp_path_factory.getbasetemp() / "any.sqlite"
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        journal.put(values_by_key)
        journal.put(dict.fromkeys(values_by_key, "another"))
    with Journal(path) as journal:
        assert repr(sorted(journal.get(values_by_key).items())) == repr(sorted(values_by_key.items()))


def test_a_changed_byte_is_never_another_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, values = tmp_path / "j.sqlite", {f"key {number}": {"nll_sum": number + 0.5} for number in range(20)}
    with Journal(path) as journal:
        journal.put(values)
    whole = path.read_bytes()
    at = whole.index(b'{"nll_sum": 7.5}#')
    for place in range(at, at + 25):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        caplog.clear()
        with Journal(path) as journal:
            found = journal.get(values)
            assert found.items() <= values.items() and len(found) == 19
            assert f"{path}: 1 damaged entries are dropped; their work is done again." in caplog.text
            journal.put({"key 7": {"nll_sum": 7.5}})
            assert journal.get(values) == values


def test_values_of_a_journal_without_checksums_are_kept(tmp_path: Path) -> None:
    old = {"a": 1, "b": {"verdict": "correct"}, "c": "no checksum: #0123456", "d": "#01234567"}
    with Journal(tmp_path / "j.sqlite") as journal:
        with journal._connection as store:
            store.executemany("INSERT INTO entries VALUES (?, ?)", [(key, json.dumps(one)) for key, one in old.items()])
        assert journal.get(old) == old


def test_many_keys_at_once(tmp_path: Path) -> None:
    items = {str(number): number for number in range(50_000)}  # beyond sqlite's bound on parameters of a statement
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(items)
        assert journal.get(items) == items


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_is_not_json_is_refused_by_key_and_nothing_of_its_batch_is_kept(tmp_path: Path, value: object) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(JournalError, match="key bad"):
            journal.put({"good": 1, "bad": value})
        assert journal.get(["good"]) == {}


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_in_the_middle_of_writing_loses_nothing_committed(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "j.sqlite"
    writer = start_writer("w", path, batches=100_000)
    assert writer.stdout is not None
    last = 0
    for _ in range(random.Random(seed).randint(5, 60)):
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0].splitlines()
    last = int(rest[-1]) if rest else last

    with Journal(path) as journal:
        for batch in range(last + 1):
            assert journal.get(batch_of("w", batch)) == batch_of("w", batch)
        assert len(journal.get(batch_of("w", last + 1))) in (0, 10)  # a transaction is whole or absent
        assert journal.get(batch_of("w", last + 2)) == {}
        journal.put({"after": True})
        assert journal.get(["after"]) == {"after": True}
    check = sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone()
    assert check == ("ok",)


def test_several_processes_open_a_fresh_file_and_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    writers = [start_writer(name, path, batches=100) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with Journal(path) as journal:
        for name in "abc":
            for batch in range(100):
                assert journal.get(batch_of(name, batch)) == batch_of(name, batch)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    path.write_text("not a database, however long it may be " * 100)
    with pytest.raises(JournalError, match="j.sqlite.*not a database"):
        Journal(path)


def test_a_full_disk_is_named_and_writing_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put({"before": 1})
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")  # sqlite then answers as on a full disk
        with pytest.raises(JournalError, match="disk is full.*free space on the disk"):
            journal.put({str(number): "x" * 100 for number in range(1000)})
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
        journal.put({"after": 2})
        assert journal.get(["before", "after", "0"]) == {"before": 1, "after": 2}


def test_content_keys_depend_on_content_alone() -> None:
    key = content_key(model="m", prompt="p", number=0.1)
    assert key == content_key(number=0.1, prompt="p", model="m")
    assert len(key) == 32 and int(key, 16) >= 0
    others = [
        content_key(model="m", prompt="p", number=0.2),
        content_key(model="mp", prompt="", number=0.1),
        content_key(model="m", prompt="p", number="0.1"),
        content_key(model="m", prompt="p"),
        content_key(model="é", prompt="p", number=0.1),
    ]
    assert len({key, *others}) == 6


def test_content_keys_never_move() -> None:
    assert content_key(a="é", b=[1, None]) == "9b10bedce64e86a275540261fbe95bc6"


def test_the_folder_is_in_the_main_repo_also_when_dvc_runs_in_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert journal_folder() == tmp_path.resolve() / "copy" / ".journal"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert journal_folder() == tmp_path.resolve() / ".journal"
    assert journal_folder().is_dir()
