"""Records of files: every format gives the same records and places, and unreadable files are named."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitter_retrieval.files.tables import (
    Layout,
    beginning,
    check_layout,
    column_names,
    data_files,
    files_of_split,
    of_split,
    records,
    unread,
    unread_columns,
)
from bitter_retrieval.files.values import DataFileError

LAYOUT = Layout(("name", "size"), ("colour",), "name and size")
ROWS = [{"name": "A", "size": 1, "weight": 0.5}, {"name": "B", "size": 2, "weight": None}]


def write(path: Path, rows: list[Any] = ROWS, kind: str = "lines") -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1)
    elif kind == "columns":
        table = {name: {str(at): row[name] for at, row in enumerate(rows)} for name in rows[0]}
        path.write_text(json.dumps(table, indent=1))
    else:
        lines = "\ufeff" + "\n\n".join(map(json.dumps, rows))  # a byte order mark, and a blank line
        path.write_text(json.dumps(rows, indent=1) if kind == "array" else lines)
    return path


def refusal(file: Path) -> str:
    with pytest.raises(DataFileError) as caught:
        list(records(file, LAYOUT))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "places"),
    [
        ("a.jsonl", "lines", ("line 1", "line 3")),
        ("a.json", "lines", ("line 1", "line 3")),
        ("a.json", "array", ("row 1", "row 2")),
        ("a.json", "columns", ("key 0", "key 1")),
    ],
)
def test_each_format_of_json_gives_the_records_as_they_stand(
    tmp_path: Path, name: str, kind: str, places: tuple[str, str]
) -> None:
    file = write(tmp_path / name, kind=kind)
    assert [(str(place), record) for place, record in records(file, LAYOUT)] == [
        (f"{file}, {place}", row) for place, row in zip(places, ROWS, strict=True)
    ]


def test_of_parquet_the_columns_of_the_layout_are_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [row | {"colour": "red"} for row in ROWS])
    assert [record for _, record in records(file, LAYOUT)] == [
        {"name": "A", "size": 1, "colour": "red"},
        {"name": "B", "size": 2, "colour": "red"},
    ]
    assert [str(place) for place, _ in records(file, LAYOUT)] == [f"{file}, row 1", f"{file}, row 2"]
    assert column_names(file) == ["name", "size", "weight", "colour"]
    assert refusal(write(file, [{"name": "A"}])).startswith(f"{file}: unknown layout, found keys ['name']. Known: name")


def test_a_layout_is_of_objects_that_hold_what_is_needed(tmp_path: Path) -> None:
    check_layout(ROWS[0], tmp_path, LAYOUT)
    for found, said in (({"name": "A"}, r"keys \['name'\]"), (["name", "size"], r"no object but \['name', 'size'\]")):
        with pytest.raises(DataFileError, match=rf"unknown layout, found {said}. Known: name and size. Rename"):
            check_layout(found, tmp_path, LAYOUT)


@pytest.mark.parametrize("name", ["colors", "Colour", "COLOUR", "colour_", "colur"])
def test_a_misspelt_key_is_refused(tmp_path: Path, name: str) -> None:
    found = ROWS[0] | {name: "red"}
    said = rf"here: {name!r} is no known field, but 'colour' is, which is absent. Rename it"
    with pytest.raises(DataFileError, match=said):
        check_layout(found, "here", LAYOUT)
    check_layout(found | {"colour": None}, "here", LAYOUT)


def test_other_keys_are_told_if_they_hold_something() -> None:
    found = ROWS[0] | {"hue": 1, "note": "", "tags": [], "about": {}, "none": None, "empty": "[]", "zero": 0}
    check_layout(found, "here", LAYOUT)
    assert unread(found, LAYOUT.names) == ["weight", "hue", "zero"]
    one_of = Layout((), (), "", ("docid", "_id"))
    check_layout({"_id": 1, "doc_id": 2, "ids": 3, "pid": 4}, "here", one_of)
    with pytest.raises(DataFileError, match="'doc_id' is no known field, but 'docid' is"):
        check_layout({"doc_id": 2}, "here", one_of)


def test_columns_that_are_not_read_are_counted(tmp_path: Path) -> None:
    assert unread_columns(write(tmp_path / "a.parquet"), LAYOUT) == {"weight": 2}
    assert unread_columns(write(tmp_path / "a.jsonl"), LAYOUT) == {}
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataFileError, match="a.parquet: cut off or broken"):
        unread_columns(tmp_path / "a.parquet", LAYOUT)


def test_how_a_file_begins_is_told_without_blanks(tmp_path: Path) -> None:
    assert beginning(write(tmp_path / "a.jsonl")).startswith(b'{"name": "A"')


def test_broken_files_are_named_with_the_line(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps(ROWS[0]) + '\n\n{"name": "cut o')
    message = refusal(lines)
    assert f"{lines}, line 3: not JSON" in message and '{"name": "cut o' in message
    lines.write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"name": "\xff"}\n')
    assert f"{lines}, line 2: not JSON" in refusal(lines)
    for kind in ("array", "columns"):
        file = write(tmp_path / "b.json", kind=kind)
        file.write_text(file.read_text()[:-10])
        assert f"{file}: not JSON" in refusal(file) and "line " in refusal(file)
    parquet = write(tmp_path / "c.parquet")
    whole = parquet.read_bytes()
    for broken in (b"", whole[:200], whole[:4] + b"\xff" * 64 + whole[68:]):
        parquet.write_bytes(broken)
        assert f"{parquet}: cut off or broken" in refusal(parquet)
    parquet.write_bytes(b"")
    with pytest.raises(DataFileError, match="cut off or broken"):
        column_names(parquet)


def test_a_value_nested_without_end_is_named(tmp_path: Path) -> None:
    deep = "[" * 200_000
    for start, place in (('{"name": ', ", line 1"), ('[{"name": ', "")):
        (tmp_path / "a.json").write_text(start + deep)
        assert f"a.json{place}: not JSON" in refusal(tmp_path / "a.json")


def test_columns_of_other_rows_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for odd in ({"0": 1}, [1, 2]):
        file.write_text(json.dumps({"name": {"0": "A", "1": "B"}, "size": odd}))
        assert f"{file}: columns ['size'] and 'name' differ in their rows." in refusal(file)


# -- files of a folder -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("train-00001-of-00002.parquet", "train-00000-of-00002.parquet", "validation.jsonl", "mine_test.json")
    for name in (*names, "README.md", ".train.jsonl"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]),
        ("validation", ["validation.jsonl"]),
        ("test", ["mine_test.json"]),
        ("mine_test", ["mine_test.json"]),
    ],
)
def test_a_split_of_a_folder_is_its_files_in_name_order(folder: Path, split: str, names: list[str]) -> None:
    assert [file.name for file in files_of_split(folder, split)] == names
    assert [file.name for file in data_files(folder) if of_split(file, split)] == names


@pytest.mark.parametrize("name", ["TEST.jsonl", "Test.JSONL", "my_Test.json.GZ", "test-1.NDJSON", "tEST.Parquet"])
def test_capitals_do_not_matter(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert [file.name for split in ("test", "Test") for file in files_of_split(tmp_path, split)] == [name, name]


def test_a_link_to_nothing_is_no_file_to_pass_over(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("")
    (tmp_path / "test.jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(DataFileError, match=r"test.jsonl: a link to nothing.*dvc pull"):
        data_files(tmp_path)


def told(path: Path, split: str | None = None) -> str:
    with pytest.raises(DataFileError) as caught:
        files_of_split(path, split)
    return str(caught.value)


def test_paths_that_cannot_be_read_say_what_can(folder: Path, tmp_path: Path) -> None:
    splits = "['mine_test', 'train', 'validation']"
    assert f"4 data files. Ask for one of the splits {splits}" in told(folder)
    assert "no data file of split 'dev' here (.parquet, .jsonl, .ndjson, .json; JSON also as .gz, .bz2, .zst)" in told(
        folder, "dev"
    )
    assert f"Splits found: {splits}" in told(folder, "dev")
    assert "no such file" in told(tmp_path / "absent.jsonl")
    (tmp_path / "a.csv").write_text("query")
    assert "unknown format '.csv'. Unpack or convert" in told(tmp_path / "a.csv")
    assert "not of split 'train'" in told(folder / "validation.jsonl", "train")
    assert files_of_split(folder / "validation.jsonl", "validation") == [folder / "validation.jsonl"]
    (tmp_path / "empty").mkdir()
    assert "no data file here" in told(tmp_path / "empty")
    (tmp_path / "empty/any.jsonl").write_text("")
    assert files_of_split(tmp_path / "empty", None) == [tmp_path / "empty/any.jsonl"]
