"""Records of data files, each with its place: parquet, or JSON in lines, an array or an object of columns; zipped too.

    for place, record in records(Path("train.jsonl"), Layout(("query", "answers"), (), "query and answers")): …
    (train.jsonl, line 1)    {"query": "which river is in warsaw", "answers": ["the Vistula"]}

An object of columns is {"query": {"0": "…", …}, …}, as in MS MARCO v2.1 and as pandas writes it. A folder's file is of
a split if its name contains the split's name, in capitals or not. A file of a folder is read or refused: none is passed
over in silence. Of fields that nobody reads the names are told (unread), so that they can be counted.
"""

import io
import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bitter_retrieval.files.values import DataFileError, short

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json")
ZIPPED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # of JSON; with the name that pyarrow has for them
KNOWN = f"{', '.join(SUFFIXES)}; JSON also as {', '.join(ZIPPED)}"
BESIDE = (".md", ".dvc")  # files of a folder that describe its data
COLUMNS = re.compile(rb'\{\s*"\w+"\s*:\s*\{\s*"\d+"\s*:')  # start of an object of columns
HEAD = 4096  # leading bytes, which show the layout of a JSON file
BATCH = 1024  # rows of parquet turned into Python objects at a time


class Place(NamedTuple):
    file: Path  # or a dataset's split, microsoft/ms_marco/v1.1/train
    unit: str  # line, row, key or question
    number: int | str  # from 1; a key unchanged

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


Record = tuple[Place, Any]  # the value as parsed, not yet checked


@dataclass(frozen=True)
class Layout:
    """The keys of a record."""

    needed: tuple[str, ...]
    further: tuple[str, ...]  # read if present; other columns of parquet are not read
    description: str  # the layout in words, for errors
    one_of: tuple[str, ...] = ()  # the first of them that is present is read

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.needed, *self.further, *self.one_of)


def check_layout(found: Any, place: object, layout: Layout) -> None:
    """Raise DataFileError unless `found` is an object with all needed keys, and no misspelt one."""
    if not isinstance(found, dict) or any(key not in found for key in layout.needed):
        keys = f"keys {list(found)}"[:200] if isinstance(found, dict) else f"no object but {short(found)}"
        raise DataFileError(f"{place}: unknown layout, found {keys}. Known: {layout.description}. Rename or add keys.")
    refuse_misspelt(found, place, layout)


def refuse_misspelt(found: Mapping[str, Any], place: object, layout: Layout) -> None:
    """Raise DataFileError for a key that is none of the layout's but close to one, which is absent: a `selected` that
    nobody reads would be labels lost. Any other key is let be, as the files of this field are full of them."""
    one_of = () if any(name in found for name in layout.one_of) else layout.one_of
    absent = tuple(name for name in (*layout.further, *one_of) if name not in found)
    for name in found:
        if name not in layout.names and (meant := _meant(name, absent)):
            raise DataFileError(
                f"{place}: {name!r} is no known field, but {meant!r} is, which is absent. Rename it; if it means "
                "something else, give it another name or remove it."
            )


@cache
def _meant(name: str, known: tuple[str, ...]) -> str | None:
    """The known name that another spelling of it means, such as isSelected or selected for is_selected."""
    plain = {re.sub(r"[\W_]", "", one).lower(): one for one in known}
    found = re.sub(r"[\W_]", "", name).lower()
    close = get_close_matches(found, [one for one in plain if min(len(one), len(found)) > 3], n=1, cutoff=0.8)
    return plain.get(found) or (plain[close[0]] if close else None)


def unread(found: Mapping[str, Any], names: Container[str]) -> list[str]:
    """Keys that are none of the names and hold something."""
    empty: tuple[Any, ...] = (None, "", "[]", [], {})  # MS MARCO v2.1 has "[]" as a text
    return [key for key, value in found.items() if key not in names and value not in empty]


# -- files of a folder -----------------------------------------------------------------------------------------------


def data_files(path: Path) -> list[Path]:
    """The file, or the folder's data files in name order: all but hidden files, *.md and *.dvc.

    Raises DataFileError for a file of another format, and if there is none.
    """
    if not path.exists():
        raise DataFileError(f"{path}: no such file or folder. Give a data file ({KNOWN}).")
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in inside if not (file.is_dir() or file.name.startswith("."))]
    files = [file for file in files if path.is_file() or file.suffix.lower() not in BESIDE]
    for file in files:
        if not file.is_file():
            raise DataFileError(f"{file}: a link to nothing, or no file. Fetch it (`dvc pull`) or move it away.")
        if not suffix(file):
            raise DataFileError(
                f"{file}: unknown format {file.suffix!r}. Unpack or convert it ({KNOWN}), or move it away."
            )
    if not files:
        raise DataFileError(f"{path}: no data file here ({KNOWN}). Put data files there.")
    return files


def suffix(file: Path) -> str:
    """Of SUFFIXES, that of the file as unzipped; "" if it is none."""
    zipped = file.suffix.lower() in ZIPPED
    found = Path(file.stem if zipped else file.name).suffix.lower()
    return "" if found not in SUFFIXES or (zipped and found == ".parquet") else found


def stem(file: Path) -> str:
    """The name without the suffixes of format and zip."""
    return Path(file.stem).stem if file.suffix.lower() in ZIPPED else file.stem


def files_of_split(path: Path, split: str | None) -> list[Path]:
    """Data files whose names contain `split`; without a split, the only file. Raises DataFileError."""
    files = data_files(path)
    found = sorted({re.split(r"-\d+-of-", stem(file))[0] for file in files})
    chosen = [file for file in files if split is None or of_split(file, split)]
    if split is not None and path.is_file() and not chosen:
        raise DataFileError(f"{path}: its name is not of split {split!r}. Give no split, or rename the file.")
    if not chosen:
        wanted = f"no data file of split {split!r} here ({KNOWN})"
        raise DataFileError(f"{path}: {wanted}. Splits found: {found}.")
    if split is None and len(files) > 1:
        raise DataFileError(f"{path}: {len(files)} data files. Ask for one of the splits {found}, or give a file.")
    return chosen


def of_split(file: Path, split: str) -> bool:
    name = stem(file).lower()
    return name.startswith(split.lower()) or split.lower() in re.split(r"[^a-z0-9]+", name)


# -- records of a file -----------------------------------------------------------------------------------------------


def records(file: Path, layout: Layout) -> Iterator[Record]:
    """The records of a file as parsed; from parquet only the layout's columns. Raises DataFileError.

    Parquet's columns are checked before any row is read. A JSON record may be any value: check_layout checks it.
    """
    return _from_parquet(file, layout) if suffix(file) == ".parquet" else _from_json(file)


def column_names(file: Path) -> list[str]:
    """The columns of a parquet file. Raises DataFileError."""
    try:
        return pq.read_schema(file).names
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _broken(file, error) from error


def unread_columns(file: Path, layout: Layout) -> dict[str, int]:
    """The rows of a parquet file by each column that the layout does not read; of JSON none. Raises DataFileError."""
    if suffix(file) != ".parquet":
        return {}
    names = column_names(file)  # refuses what is no parquet
    return dict.fromkeys((name for name in names if name not in layout.names), pq.read_metadata(file).num_rows)


def beginning(file: Path) -> bytes:
    """The start of a JSON file, without leading whitespace and byte order mark. Raises DataFileError."""
    with unzipped(file) as content:
        try:
            return content.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
        except OSError as error:
            raise _broken(file, error) from error


def unzipped(file: Path) -> BinaryIO:
    """The content as it was before it was zipped, if it was. Reading it raises OSError where it is broken."""
    compression = ZIPPED.get(file.suffix.lower())
    if compression is None:
        return file.open("rb")
    return io.BufferedReader(pa.input_stream(str(file), compression=compression))


def _from_parquet(file: Path, layout: Layout) -> Iterator[Record]:
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as table:
            names = table.schema_arrow.names
            check_layout(dict.fromkeys(names), file, layout)
            columns = [name for name in layout.names if name in names]
            batches = table.iter_batches(BATCH, columns=columns)
            for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
                yield Place(file, "row", number), row
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> DataFileError:
    return DataFileError(f"{file}: cut off or broken ({error}). Fetch the file again.")


def _from_json(file: Path) -> Iterator[Record]:
    """Lines, an array or an object of columns; the start decides, as many tools write lines to a .json file."""
    head = beginning(file)
    with unzipped(file) as content:
        try:
            if head.startswith(b"[") or COLUMNS.match(head):
                yield from _from_whole(content.read(), file)
            else:
                for number, line in enumerate(content, 1):
                    if line.strip():
                        yield _from_line(line, Place(file, "line", number))
        except OSError as error:
            raise _broken(file, error) from error


def _from_whole(content: bytes, file: Path) -> Iterator[Record]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # with line and column
        raise DataFileError(f"{file}: not JSON ({error}). Fetch or write the file again.") from error
    if isinstance(found, dict):
        yield from _from_columns(found, file)
    else:
        yield from ((Place(file, "row", number), record) for number, record in enumerate(found, 1))


def _from_line(line: bytes, place: Place) -> Record:
    try:
        return place, json.loads(line)
    except (ValueError, RecursionError) as error:
        why, shown = getattr(error, "msg", error), short(line.decode(errors="replace"))
        raise DataFileError(f"{place}: not JSON ({why}): {shown}. Write one object a line.") from error


def _from_columns(table: dict[str, Any], file: Path) -> Iterator[Record]:
    """Rows of an object of columns. The object is emptied on the way, as MS MARCO v2.1 takes gigabytes."""
    first = next(iter(table.values()))
    odd = [name for name, column in table.items() if not isinstance(column, dict) or column.keys() != first.keys()]
    if odd:
        name = next(iter(table))
        raise DataFileError(f"{file}: columns {odd} and {name!r} differ in their rows. Fetch or write the file again.")
    for key in list(first):
        yield Place(file, "key", key), {name: column.pop(key) for name, column in table.items()}
