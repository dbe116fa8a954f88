"""Tables on disk: rows come back as written, files are never half-written, and errors name the problem."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_values import FEW, broken_texts, texts, values
from hypothesis import given
from hypothesis import strategies as st

from bitter_retrieval.records import (
    BINARY_LABELS,
    CORPUS,
    PREDICTIONS,
    PREPARED,
    SOFT_LABELS,
    RecordError,
    Row,
    passage_texts,
    read_labels,
    read_rows,
    read_table,
    replacing,
    sweep,
    write_json,
    write_rows,
    write_text,
)

CORPUS_ROWS: list[Row] = [{"passage_id": "p0", "text": "One."}, {"passage_id": "p1", "text": ""}]
BINARY: list[Row] = [{"query_id": "q", "passage_id": "p0", "relevant": 1}]
SOFT: list[Row] = [{"query_id": "q", "passage_id": "", "answer_index": 0, "nll_sum": 2.5, "n_tokens": 3}]
PREPARED_ROW: Row = {
    "query_id": "q",
    "group_id": "g",
    "query": "Where?",
    "answers": ["here", "there"],
    "passages": [
        {"passage_id": "p0", "text": "Here.", "is_selected": 1, "role": None},
        {"passage_id": "p1", "text": "There.", "is_selected": None, "role": "plain"},
    ],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on" / "the way.parquet"


@pytest.mark.parametrize(
    ("rows", "schema"), [([PREPARED_ROW], PREPARED), (CORPUS_ROWS, CORPUS), (SOFT, SOFT_LABELS), ([], PREDICTIONS)]
)
def test_what_is_written_is_read(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    write_rows(path, iter(rows), schema)
    assert read_rows(str(path), schema) == rows
    assert read_table(path, schema).schema.equals(schema)


def test_the_same_rows_give_the_same_bytes(path: Path) -> None:
    write_rows(path, [PREPARED_ROW], PREPARED)
    first = path.read_bytes()
    write_rows(path, [PREPARED_ROW], PREPARED)
    assert path.read_bytes() == first


def test_a_write_that_fails_leaves_the_old_file_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(path, CORPUS_ROWS, CORPUS)

    def killed(table: pa.Table, where: Path, **_: object) -> None:
        Path(where).write_bytes(b"PAR1 half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, [], CORPUS)
    assert read_rows(path, CORPUS) == CORPUS_ROWS


WRITES = {
    "parquet": lambda path: write_rows(path, CORPUS_ROWS, CORPUS),
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"new": 1}),
}


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_disk_that_takes_nothing_is_named_and_cleaning_up_raises_nothing_over_it(
    write: Callable[[Path], None], fault: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(fault, os.strerror(fault))

    path.parent.mkdir(parents=True)
    path.write_text("old")
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    with pytest.raises(
        RecordError, match=f"^{re.escape(str(path))}: .*{os.strerror(fault)}. Free space there, or make"
    ):
        write(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_folder_that_cannot_be_made_is_named(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file")
    with pytest.raises(RecordError, match=r"metrics.*label.*: .*make the folder writable"):
        write(tmp_path / "metrics/label/x.json")


TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): texts,
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.bool_(): st.booleans(),
}


def any_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_list(kind):
        return st.none() | st.lists(any_of(kind.value_type), max_size=3)
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: any_of(field.type) for field in kind})
    return st.none() | TYPES[kind]


@pytest.mark.parametrize("schema", [PREPARED, SOFT_LABELS, PREDICTIONS])
def test_any_rows_come_back(schema: pa.Schema, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"

    @FEW
    @given(st.lists(any_of(pa.struct(schema)), max_size=3))
    def check(rows: list[Row]) -> None:
        write_rows(path, rows, schema)
        found = read_rows(path, schema)
        assert json.dumps(found, sort_keys=True) == json.dumps(rows, sort_keys=True)  # -0.0 is not 0.0

    check()


@FEW
@given(value=values(broken_texts), text=broken_texts)
def test_any_value_is_written_or_refused_by_name(
    value: Any, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for write in (
        lambda: write_rows(path, [{"query_id": value, "passage_id": text, "relevant": value}], BINARY_LABELS),
        lambda: write_text(path, text),
    ):
        try:
            write()
        except RecordError as error:
            assert str(error).startswith(f"{path}: ")


def test_half_a_letter_is_refused_by_name(path: Path) -> None:
    with pytest.raises(RecordError, match=r"the way.parquet: a value does not fit its column \(.*surrogates.*Correct"):
        write_rows(path, [{"passage_id": "p", "text": "half \ud83d"}], CORPUS)
    with pytest.raises(RecordError, match=r"the way.parquet: surrogates not allowed, in 'half \\ud83d'. Correct the"):
        write_text(path, "half \ud83d")


# -- folders ---------------------------------------------------------------------------------------------------------


def write_folder(folder: Path, **files: str) -> None:
    with replacing(folder) as partial:
        (partial / "inner").mkdir(parents=True)
        for name, text in files.items():
            (partial / "inner" / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_takes_the_place_of_all_that_was_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "made/seed0", weights="old", pointer="old")
    write_folder(tmp_path / "made/seed0", weights="new")
    assert content(tmp_path) == {"weights": "new"}
    assert list((tmp_path / "made").iterdir()) == [tmp_path / "made/seed0"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), ValueError("no such model"), OSError(errno.ENOSPC, "full")])
def test_a_folder_that_is_not_finished_leaves_the_old_one_alone(fault: BaseException, tmp_path: Path) -> None:
    folder = tmp_path / "seed0"
    write_folder(folder, weights="old", pointer="old")
    with pytest.raises(RecordError if isinstance(fault, OSError) else type(fault)), replacing(folder) as partial:
        partial.mkdir()
        (partial / "weights").write_text("half")
        raise fault
    assert content(folder) == {"weights": "old", "pointer": "old"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_move_leaves_the_old_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "seed0", weights="old")
    replace = Path.replace

    def refused(path: Path, target: Path) -> Path:
        if (path / "inner/weights").read_text() == "new":
            raise OSError(errno.EACCES, "refused")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(RecordError, match="seed0: .*refused"):
        write_folder(tmp_path / "seed0", weights="new")
    assert content(tmp_path) == {"weights": "old"}


def test_what_kills_left_is_removed_once_nobody_can_be_writing_it(tmp_path: Path) -> None:
    now, yesterday = tmp_path / ".seed0.1.partial", tmp_path / ".seed0.2.partial"
    own, other = tmp_path / f".seed0.{os.getpid()}.partial", tmp_path / ".seed01.2.partial"
    for left in (now, yesterday, own, other):
        left.mkdir()
        (left / "half").write_text("half")
    for left in (yesterday, other):
        os.utime(left, (0, 0))
    write_folder(tmp_path / "seed0", weights="new")
    assert sorted(tmp_path.iterdir()) == sorted([now, other, tmp_path / "seed0"])
    assert content(tmp_path / "seed0") == {"weights": "new"}


def test_nothing_but_the_table_is_left(path: Path) -> None:
    write_rows(path, CORPUS_ROWS, CORPUS)
    assert list(path.parent.iterdir()) == [path]


def test_columns_that_are_not_asked_for_are_left_out_and_order_does_not_matter(path: Path) -> None:
    write_rows(path, CORPUS_ROWS, CORPUS)
    pq.write_table(
        pq.read_table(path).append_column("more", pa.array([1, 2])).select(["more", "text", "passage_id"]), path
    )
    assert read_rows(path, CORPUS) == CORPUS_ROWS


@pytest.mark.parametrize(
    "read", [lambda path: read_table(path, CORPUS), lambda path: read_rows(path, CORPUS), read_labels]
)
def test_an_absent_or_unreadable_file_is_named(path: Path, read: object) -> None:
    with pytest.raises(RecordError, match=r"the way\.parquet: no such file\. Run `dvc repro`"):
        read(path)
    write_rows(path, CORPUS_ROWS, CORPUS)
    whole = path.read_bytes()
    for broken in (b"", b"text", whole[:-20], whole[:-40] + b"\xff" * 32 + whole[-8:]):
        path.write_bytes(broken)
        with pytest.raises(
            RecordError, match=r"(?s)the way\.parquet: not a readable parquet file .* Delete it and run `dvc repro`"
        ):
            read(path)


def test_a_flipped_bit_is_never_another_label(path: Path) -> None:
    rows = [
        {"query_id": f"q{n}", "passage_id": "", "answer_index": 0, "nll_sum": n / 7, "n_tokens": n} for n in range(99)
    ]
    write_rows(path, rows, SOFT_LABELS)
    whole, known, refused = path.read_bytes(), read_rows(path, SOFT_LABELS), 0
    for place in range(4, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            assert read_rows(path, SOFT_LABELS) == known  # a part that nothing reads
        except RecordError as error:
            assert str(error).startswith(str(path)) and ("Delete it" in str(error) or "missing" in str(error))
            refused += 1
    assert refused > len(whole) / 7 / 2


def test_a_missing_column_is_named(path: Path) -> None:
    write_rows(path, CORPUS_ROWS, CORPUS)
    with pytest.raises(
        RecordError, match=r"the way\.parquet: columns \['query_id', 'relevant'\] are missing; found \['pass"
    ):
        read_rows(path, BINARY_LABELS)


def test_a_column_of_another_type_is_named(path: Path) -> None:
    table = pa.table({"query_id": ["q"], "passage_id": ["p"], "relevant": ["maybe"]})
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    with pytest.raises(RecordError, match=r"the way\.parquet: .*maybe"):
        read_rows(path, BINARY_LABELS)


def test_labels_tell_soft_from_binary(tmp_path: Path) -> None:
    write_rows(tmp_path / "soft.parquet", SOFT, SOFT_LABELS)
    write_rows(tmp_path / "binary.parquet", BINARY, BINARY_LABELS)
    write_rows(tmp_path / "empty.parquet", [], SOFT_LABELS)
    assert read_labels(tmp_path / "soft.parquet") == (SOFT, True)
    assert read_labels(str(tmp_path / "binary.parquet")) == (BINARY, False)
    assert read_labels(tmp_path / "empty.parquet") == ([], True)


def test_sweep_deletes_what_is_no_longer_declared_and_nothing_else(tmp_path: Path) -> None:
    for kept in ("kl.parquet", "kl.soft.parquet", ".gitignore", "margin/part.parquet"):
        (tmp_path / kept).parent.mkdir(exist_ok=True)
        (tmp_path / kept).touch()
    for left in ("kl_margin.parquet", "k.parquet", "gone/deep/part.parquet"):
        (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / left).touch()
    assert [entry.name for entry in sweep(tmp_path, iter(["kl", "margin", "absent"]))] == [
        "gone",
        "k.parquet",
        "kl_margin.parquet",
    ]
    assert {entry.name for entry in tmp_path.iterdir()} == {"kl.parquet", "kl.soft.parquet", ".gitignore", "margin"}
    assert (tmp_path / "margin" / "part.parquet").is_file()
    assert sweep(tmp_path, ["kl", "margin"]) == []


def test_sweep_of_a_missing_folder_does_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "absent", ["kl"]) == []


def test_a_text_stands_once_at_its_first_place() -> None:
    other = {**PREPARED_ROW, "passages": [{"passage_id": "p2", "text": "Elsewhere."}, PREPARED_ROW["passages"][0]]}
    found = passage_texts([PREPARED_ROW, other])
    assert list(found.items()) == [("p0", "Here."), ("p1", "There."), ("p2", "Elsewhere.")]
