"""The journal: what has been paid for once (a scored passage, an answer, a judgement) is never paid for again.

    key    content_key(model="…", prompt="…", text="…")   "5e0c1f…", 32 hex digits
    value  anything that JSON holds                        {"nll_sum": 3.25, "n_tokens": 2}

Append-only: a key names all the content that decides its value, so the first value of a key stands. It lives outside
the DVC outs, so that a stage which was killed finds there what it had finished.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WAIT = 60.0  # seconds that a process waits for another one's transaction


class JournalError(RuntimeError):
    """A journal that cannot be opened, read or written."""


def journal_folder() -> Path:
    """`.journal` in the main repo's root, also where DVC runs a stage in a copy (DVC_ROOT). Made when missing."""
    folder = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve() / ".journal"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def content_key(**fields: Any) -> str:
    """Name of a content: the first 32 hex digits of the SHA-256 of its canonical JSON, whatever the fields' order."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


class Journal:
    """Keys and values in one sqlite file that several processes may share and that a kill cannot harm.

        with Journal(journal_folder() / "judge.sqlite") as journal:
            known = journal.get(keys)
            journal.put({key: ask(key) for key in keys if key not in known})

    Write-ahead logging with sqlite's default of full synchronisation: what `put` returned from survives the process and
    the machine. The file must lie on a local disk, not on a network share. An instance belongs to one thread.
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
        """sqlite does not wait where several processes open a fresh file at once: this statement fails at once."""
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
        """Values of those keys that the journal has."""
        wanted = json.dumps(list(keys))
        with self._named_errors():
            found = self._connection.execute(
                "SELECT key, value FROM entries WHERE key IN (SELECT value FROM json_each(?))", (wanted,)
            )
            return {key: json.loads(value) for key, value in found}

    def put(self, items: Mapping[str, Any]) -> None:
        """Add all items in one transaction; a key that is there already keeps its value.

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
            return json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise JournalError(f"{self._path}: key {key}: {value!r} is not JSON ({error}).") from error

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(
                f"{self._path}: {error}. What was written before is kept: make room on the disk or end the process "
                "that holds the file, then run again. If it is no database, move it away: its work is done again."
            ) from error
