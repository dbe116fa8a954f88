"""The tables that stages exchange: their columns, and reading and writing that never leaves half a file.

A prepared row, for one question with its candidates:

    {"query_id": "train-12-3", "group_id": "train-12", "query": "Where was Ada Brenn born?", "answers": ["Calder"],
     "passages": [{"passage_id": "train-12-p0", "text": "Ada Brenn was born in Calder. …", "is_selected": None,
                   "role": "plain"}, …]}

`role` is known only in the generated world; `is_selected` only in data that people have annotated.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

ABANDONED = 86_400  # seconds after which a partial file is taken for a killed process's
NO_PASSAGE = ""  # passage_id of "no passage at all"
SUPPORTING_ROLES = frozenset({"plain", "hard"})  # roles that truly support the answer

PASSAGE = pa.struct(
    [("passage_id", pa.string()), ("text", pa.string()), ("is_selected", pa.int8()), ("role", pa.string())]
)
PREPARED = pa.schema(
    [
        ("query_id", pa.string()),
        ("group_id", pa.string()),  # unit of resampling: cluster, article or query
        ("query", pa.string()),
        ("answers", pa.list_(pa.string())),  # never empty
        ("passages", pa.list_(PASSAGE)),
    ]
)
CORPUS = pa.schema([("passage_id", pa.string()), ("text", pa.string())])
SOFT_LABELS = pa.schema(
    [
        ("query_id", pa.string()),
        ("passage_id", pa.string()),  # "": no passage at all
        ("answer_index", pa.int32()),
        ("nll_sum", pa.float32()),  # nats, over the answer's tokens; null if the reader could not score it
        ("n_tokens", pa.int32()),  # null there too, and if a published source gives only means
    ]
)
SCORES = pa.schema(  # of a reader's labels, as the journal knows them
    [
        ("key", pa.string()),  # hashes the reader with its prompt, question, passage and answer
        ("nll_sum", pa.float64()),
        ("n_tokens", pa.int32()),
        ("truncated", pa.int32()),
        ("exact", pa.bool_()),
    ]
)
BINARY_LABELS = pa.schema([("query_id", pa.string()), ("passage_id", pa.string()), ("relevant", pa.int8())])
NEGATIVES = pa.schema(  # mined passages, which have no label
    [
        ("query_id", pa.string()),
        ("passage_id", pa.string()),
        ("score", pa.float32()),  # similarity by the encoder that mined
    ]
)
PREDICTIONS = pa.schema(
    [
        ("system", pa.string()),  # run or control
        ("reader", pa.string()),
        ("seed", pa.int32()),
        ("shown", pa.int32()),  # entry of evaluate.shown; the first one for controls without a ranking
        ("query_id", pa.string()),
        ("group_id", pa.string()),
        ("beyond", pa.bool_()),  # whether the question is of another domain (params: beyond), which has its own ids
        ("ranked_ids", pa.list_(pa.string())),  # best first; empty for controls that do not retrieve
        ("ranked_scores", pa.list_(pa.float32())),
        ("shown_ids", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("answer_nll", pa.float32()),  # nats a token, best reference, given the passages shown
        ("em", pa.float32()),
        ("f1", pa.float32()),
        ("candidate_ids", pa.list_(pa.string())),
        ("candidate_ranks", pa.list_(pa.int32())),  # rank in the whole corpus, 1 is first; empty without retrieval
        ("truncated", pa.int8()),  # passages shown that were cut to fit
    ]
)
JUDGEMENTS = pa.schema(
    [
        ("key", pa.string()),
        ("verdict", pa.string()),  # correct, incorrect or missing
        ("reason", pa.string()),  # why it is missing
        ("judge", pa.string()),
        ("model", pa.string()),
    ]
)


class RecordError(ValueError):
    """A table that is absent, truncated or of another layout."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path beside `path` for a file or a folder, which then takes its place: it appears whole or not at all.

    Nothing of an earlier folder stays. A kill at the moment that one folder takes another's place leaves none; the next
    call of the same name removes what is a day old. Raises RecordError if the disk is full or the place cannot be
    written to.
    """
    path = Path(path)
    partial, former = (path.with_name(f".{path.name}.{os.getpid()}{kind}.partial") for kind in ("", ".former"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)  # of a killed process that had the same number
        yield partial
        if path.is_dir():  # whose place only an empty folder could take
            path.replace(former)
        partial.replace(path)
    except OSError as error:
        raise RecordError(
            f"{path}: {error}. Free space there, or make the folder writable, and run again: finished work is kept."
        ) from error
    finally:
        with suppress(OSError):  # a full disk or a read-only folder has its error already
            if former.is_dir() and not path.exists():
                former.replace(path)
            _remove(partial)
            _remove(former)
            remove_abandoned(path)


def remove_abandoned(path: Path) -> None:
    """Remove what kills have left beside `path`, but not what another process may be writing."""
    for partial in path.parent.glob(f".{escape(path.name)}.*.partial"):
        if time.time() - partial.lstat().st_mtime > ABANDONED:
            _remove(partial)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_rows(path: Path | str, rows: Iterable[Row], schema: pa.Schema) -> None:
    """Write rows as parquet, as `replacing` does. Raises RecordError for a value of another type than its column."""
    try:
        table = pa.Table.from_pylist(list(rows), schema=schema)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise RecordError(
            f"{path}: a value does not fit its column ({error}). Correct the data and run again."
        ) from error
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text in UTF-8, as `replacing` does. Raises RecordError for half a letter, which UTF-8 cannot hold."""
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 40) : error.end + 40]
        raise RecordError(f"{path}: {error.reason}, in {near!r}. Correct the data and run again.") from error
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_json(path: Path | str, value: Any) -> None:
    """Write indented JSON, as `replacing` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_rows(path: Path | str, schema: pa.Schema) -> list[Row]:
    """Read rows with exactly the columns of `schema`. Raises RecordError with the file and the problem."""
    return read_table(path, schema).to_pylist()


def read_labels(path: Path | str) -> tuple[list[Row], bool]:
    """Rows of a label source, and whether they are soft (SOFT_LABELS) rather than binary (BINARY_LABELS)."""
    table = _whole(Path(path))
    soft = "nll_sum" in table.column_names
    return _columns(table, SOFT_LABELS if soft else BINARY_LABELS, Path(path)).to_pylist(), soft


def read_table(path: Path | str, schema: pa.Schema) -> pa.Table:
    """Like read_rows, but an arrow table (for columns of numbers)."""
    return _columns(_whole(Path(path)), schema, Path(path))


def _whole(path: Path) -> pa.Table:
    if not path.is_file():
        raise RecordError(f"{path}: no such file. Run `dvc repro`: an earlier stage writes it.")
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise RecordError(f"{path}: not a readable parquet file ({error}). Delete it and run `dvc repro`.") from error


def _columns(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise RecordError(f"{path}: columns {missing} are missing; found {table.column_names}.")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise RecordError(f"{path}: a column has another type ({error}). Delete it and run `dvc repro`.") from error


def sweep(folder: Path, declared: Iterable[str]) -> list[Path]:
    """Delete and return entries of `folder` whose names params.yaml no longer declares; DVC does not delete them.

    A stage that depends on the whole folder calls this first: otherwise its input differs from that of a fresh clone.
    """
    names = set(declared)
    leftover = sorted(entry for entry in folder.glob("[!.]*") if entry.name.split(".")[0] not in names)
    for entry in leftover:
        _remove(entry)
    return leftover


def passage_texts(rows: Sequence[Row]) -> dict[str, str]:
    """Text by passage_id over the candidates of prepared rows, in order of first occurrence."""
    return {passage["passage_id"]: passage["text"] for row in rows for passage in row["passages"]}


def relevant_passages(labels: Iterable[Row]) -> dict[str, frozenset[str]]:
    """Passages labelled relevant, by query_id; queries without one are left out."""
    selected: dict[str, set[str]] = {}
    for row in labels:
        if row["relevant"]:
            selected.setdefault(row["query_id"], set()).add(row["passage_id"])
    return {query_id: frozenset(passages) for query_id, passages in selected.items()}


def supporting_passages(row: Row) -> frozenset[str] | None:
    """Candidates of a prepared row that truly support its answer, or None if roles are unknown."""
    if any(passage["role"] is None for passage in row["passages"]):
        return None
    return frozenset(passage["passage_id"] for passage in row["passages"] if passage["role"] in SUPPORTING_ROLES)
