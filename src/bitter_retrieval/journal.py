"""The journal: finished work (a scored passage, an answer, a judgement) is kept and never done twice.

    key    content_key(model="…", prompt="…", text="…")   "5e0c1f…", 32 hex digits
    value  anything that JSON can hold                      {"nll_sum": 3.25, "n_tokens": 2}

Append-only: a key hashes all content that decides its value, so the first value of a key is final. The file is no DVC
out, which DVC would delete before a stage runs: a stage that was killed goes on where it was. A value is stored with a
checksum, as sqlite has none:

    {"nll_sum": 3.25, "n_tokens": 2}#5e0c1f00
"""

import hashlib
import json
import logging
import os
import re
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHECKSUM = re.compile(rb"#[0-9a-f]{8}")  # no JSON ends so
WAIT = 60.0  # seconds to wait for another process's transaction


class JournalError(RuntimeError):
    """A journal that cannot be opened, read or written."""


def journal_folder() -> Path:
    """`.journal` in the main repo's root, even if DVC runs the stage in a copy (DVC_ROOT); created if absent."""
    folder = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve() / ".journal"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"{folder}: {error}. Free space there, or make it writable, and run again.") from error
    return folder


def content_key(**fields: Any) -> str:
    """The first 32 hex digits of the SHA-256 of the fields as canonical JSON; their order does not matter."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


class Journal:
    """Keys and values in one sqlite file, which several processes may share and a kill cannot damage.

        with Journal(journal_folder() / "judge.sqlite") as journal:
            known = journal.get(keys)
            journal.put({key: ask(key) for key in keys if key not in known})

    Write-ahead logging with sqlite's default of full synchronisation: once `put` has returned, its items survive a
    crash of the process and of the machine. The file must be on a local disk, not on a network share. An instance
    belongs to one thread.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        with self._named_errors():
            self._connection = sqlite3.connect(self._path, timeout=WAIT)
            self._write_ahead()
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
                )

    def _write_ahead(self) -> None:
        """Retried here: if several processes open a new file at the same time, this statement fails without waiting."""
        deadline = time.monotonic() + WAIT
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """Values by key, of the keys that the journal has. Damaged ones are dropped, with a line on it."""
        wanted = json.dumps(list(keys))
        with self._named_errors():
            found = self._connection.execute(
                "SELECT key, CAST(value AS BLOB) FROM entries WHERE key IN (SELECT value FROM json_each(?))", (wanted,)
            )
            values, damaged = {}, []
            for key, stored in found:
                try:
                    values[key] = _loaded(key, stored)
                except ValueError:
                    damaged.append((key,))
        if damaged:
            with self._named_errors(), self._connection:
                self._connection.executemany("DELETE FROM entries WHERE key = ?", damaged)
            told = "%s: %s damaged entries are dropped; their work is done again."
            logging.getLogger(__name__).warning(told, self._path, f"{len(damaged):,}")
        return values

    def put(self, items: Mapping[str, Any]) -> None:
        """Add all items in one transaction; a key that is present keeps its value.

        Floats come back exactly. Raises JournalError for what JSON cannot hold: NaN, infinity, numpy scalars, tensors.
        """
        entries = [(key, self._dumped(key, value)) for key, value in items.items()]
        with self._named_errors(), self._connection:
            self._connection.executemany("INSERT INTO entries VALUES (?, ?) ON CONFLICT DO NOTHING", entries)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _dumped(self, key: str, value: Any) -> str:
        try:
            text = json.dumps(value, allow_nan=False)
            return text + _checksum(key, text.encode()).decode()
        except (TypeError, ValueError) as error:
            raise JournalError(f"{self._path}: key {key}: {value!r} is not JSON ({error}).") from error

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(
                f"{self._path}: {error}. Earlier entries are kept: free space on the disk, or end the process "
                "that holds the file, then run again. If the file is no database, move it away; its work is repeated."
            ) from error


def _checksum(key: str, value: bytes) -> bytes:
    return b"#%08x" % zlib.crc32(value, zlib.crc32(key.encode()))


def _loaded(key: str, stored: bytes) -> Any:
    """The value, of which an older journal has no checksum. Raises ValueError if it is damaged."""
    value, checksum = stored[:-9], stored[-9:]
    if not CHECKSUM.fullmatch(checksum):
        return json.loads(stored)
    if checksum != _checksum(key, value):
        raise ValueError("another checksum")
    return json.loads(value)
