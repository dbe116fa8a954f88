"""Files of questions: each layout and format gives the same prepared rows, what is left out is counted or named."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitter_retrieval.data.passage_files import read_passages
from bitter_retrieval.data.question_files import LEFT_OUT, read_questions
from bitter_retrieval.data.squad import read_squad
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import PREPARED, Row, read_rows, write_rows


def marco(query_id: int, answers: list[str], texts: list[str], selected: list[int], query: str = "Who?") -> Row:
    passages = {"is_selected": selected, "passage_text": texts, "url": [f"http://x/{i}" for i in range(len(texts))]}
    fields = {"query_id": query_id, "query": query, "query_type": "person", "wellFormedAnswers": []}
    return fields | {"answers": answers, "passages": passages}


def simple(number: int, **fields: Any) -> Row:
    return {"query": f"Query {number}?", "answers": [f"answer {number}"], "passages": [f"Text {number}."]} | fields


def write(path: Path, rows: list[Any], array: bool = False) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    else:
        path.write_text(json.dumps(rows, indent=1) if array else "".join(json.dumps(row) + "\n" for row in rows))
    return path


def left_out(**counts: int) -> dict[str, int]:
    return dict.fromkeys(LEFT_OUT, 0) | counts


def texts(row: Row) -> list[str]:
    return [passage["text"] for passage in row["passages"]]


def marks(row: Row) -> list[int | None]:
    return [passage["is_selected"] for passage in row["passages"]]


def ids(row: Row) -> list[str]:
    return [passage["passage_id"] for passage in row["passages"]]


def refusal(path: Path, *arguments: Any) -> str:
    with pytest.raises(DataFileError) as caught:
        read_questions(path, *arguments)
    return str(caught.value)


MARCO = [
    marco(7, ["Ada", "Ada Brenn"], ["Ada was here.", "Nobody was."], [1, 0], query=" Who was? "),
    marco(8, ["here"], [f"Place {i}." for i in range(12)], [0] * 12),
]


@pytest.mark.parametrize(("name", "array"), [("a.jsonl", 0), ("a.json", 0), ("a.json", 1), ("a.parquet", 0)])
def test_ms_marco_in_each_format(tmp_path: Path, name: str, array: int) -> None:
    found = read_questions(write(tmp_path / name, MARCO, bool(array)))
    first, second = found.rows
    names = ids(first)
    assert first == {
        "query_id": "7",
        "group_id": "7",
        "query": "Who was?",
        "answers": ["Ada", "Ada Brenn"],
        "passages": [
            {"passage_id": names[0], "text": "Ada was here.", "is_selected": 1, "role": None},
            {"passage_id": names[1], "text": "Nobody was.", "is_selected": 0, "role": None},
        ],
    }
    assert len(set(names)) == 2
    assert len(second["passages"]) == 12 and marks(second) == [0] * 12  # nothing is selected, which is kept
    assert found.left_out == left_out()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_left_out_is_counted(tmp_path: Path, suffix: str) -> None:
    rows = [
        marco(0, [], ["Text."], [0]),
        marco(1, ["No Answer Present."], ["Text.", " "], [0, 0]),
        marco(2, ["", " "], ["Text."], [0]),
        marco(3, ["x"], [], []),
        marco(4, ["x", "", "x"], [" ", "\n"], [0, 0]),
        marco(5, ["x"], ["Text."], [0], query=" "),
        marco(6, ["x", "", " x", "No Answer Present.", "y"], ["Twice.", "", "Twice. ", "Once."], [0, 0, 1, 0]),
    ]
    found = read_questions(write(tmp_path / f"a{suffix}", rows))
    (row,) = found.rows
    assert row["answers"] == ["x", "y"]
    assert texts(row) == ["Twice.", "Once."] and marks(row) == [1, 0]
    assert found.left_out == {
        "empty_query": 1,
        "unanswerable": 3,
        "no_passages": 2,
        "duplicate_id": 0,
        "empty_answers": 2,  # of the row that is kept alone
        "duplicate_answers": 1,
        "empty_passages": 1,
        "duplicate_passages": 1,
        "replaced_passage_ids": 0,
    }


def test_marks_that_are_absent_are_not_zeros(tmp_path: Path) -> None:
    rows = [marco(1, ["x"], ["A.", "B."], [-1, -1]), marco(2, ["x"], ["A.", "B."], [])]
    del rows[1]["passages"]["is_selected"]
    passages = [{"text": "A."}, {"text": "B.", "is_selected": True}, {"text": "A.", "is_selected": 0}]
    rows.append(simple(3, passages=passages))
    found = read_questions(write(tmp_path / "a.jsonl", rows)).rows
    assert [marks(row) for row in found] == [[None, None], [None, None], [0, 1]]


@pytest.mark.parametrize(("name", "array"), [("mine.jsonl", 0), ("mine.json", 1), ("mine.parquet", 0)])
def test_the_simple_layout(tmp_path: Path, name: str, array: int) -> None:
    rows = [simple(0, query_id="a", group_id=5, answers="one"), simple(1, query_id=None, group_id=None, answers="two")]
    first, second = read_questions(write(tmp_path / name, rows, bool(array))).rows
    assert (first["query_id"], first["group_id"], first["answers"]) == ("a", "5", ["one"])
    assert (second["query_id"], second["group_id"], second["answers"]) == ("mine-2", "mine-2", ["two"])
    assert texts(first) == ["Text 0."] and marks(first) == [None]


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"\ufeff{json.dumps(simple(1))}\n\n{json.dumps(simple(2))}")
    assert [row["query_id"] for row in read_questions(path).rows] == ["a-1", "a-3"]  # their lines
    path.write_text(f"\ufeff\n {json.dumps([simple(1), simple(2)])}")
    assert len(read_questions(path).rows) == 2


PREPARED_ROWS: list[Row] = [
    {
        "query_id": f"q{number}",
        "group_id": "g",
        "query": "Where?",
        "answers": ["here", "there"],
        "passages": [
            {"passage_id": "p0", "text": "Here.", "is_selected": None, "role": "plain"},
            {"passage_id": f"own{number}", "text": f"There {number}.", "is_selected": 1, "role": None},
        ],
    }
    for number in range(3)
]


def test_prepared_rows_stay_as_they_are(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", PREPARED_ROWS, PREPARED)
    for path in (tmp_path / "a.parquet", write(tmp_path / "b.jsonl", PREPARED_ROWS)):
        found = read_questions(path)
        assert found.rows == PREPARED_ROWS and found.left_out == left_out()


def test_what_is_read_fits_the_schema(tmp_path: Path) -> None:
    rows = read_questions(write(tmp_path / "a.jsonl", [*MARCO, simple(1)])).rows
    write_rows(tmp_path / "rows.parquet", rows, PREPARED)
    assert read_rows(tmp_path / "rows.parquet", PREPARED) == rows


def test_a_text_is_one_passage_in_all_rows_and_files(tmp_path: Path) -> None:
    rows = [simple(1, passages=["A.", "B."]), simple(2, passages=["C.", "A."])]
    first, second = read_questions(write(tmp_path / "a.jsonl", rows)).rows
    assert ids(first)[0] == ids(second)[1] and len({*ids(first), *ids(second)}) == 3
    (other,) = read_questions(write(tmp_path / "other.parquet", [simple(9, passages=["B."])])).rows
    assert ids(other) == ids(first)[1:]


def test_ids_that_are_given_stay_and_the_first_of_a_text_wins(tmp_path: Path) -> None:
    def named(*pairs: tuple[Any, str]) -> list[Row]:
        return [{"passage_id": name, "text": text} for name, text in pairs]

    rows = [
        simple(1, passages=named((1, "A."), ("b", "B."))),
        simple(2, passages=named(("c", "C."), ("other", "A."), ("other", "A."))),
        simple(3, passages=["B."]),
    ]
    path = write(tmp_path / "a.jsonl", rows)
    found = read_questions(path)
    assert [ids(row) for row in found.rows] == [["1", "b"], ["c", "1"], ["b"]]
    assert found.left_out == left_out(duplicate_passages=1, replaced_passage_ids=2)
    write(path, [*rows, simple(4, passages=named(("other", "D.")))])
    message = refusal(path)
    assert all(part in message for part in (f"{path}, line 4", "'other'", "'D.'", f"in {path}, line 2, 'A.'")), message
    edited = ids(read_questions(write(path, [simple(1, passages=["A."])])).rows[0])[0]
    write(path, [simple(1, passages=["A."]), simple(2, passages=named((edited, "A, edited.")))])
    assert f"{path}, line 2: passage_id {edited!r} has two texts" in refusal(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of train with ids 0 to 3, of which 1 has no answer, and one file each of two other splits."""
    write(tmp_path / "train-00001-of-00002.parquet", [simple(n, query_id=n) for n in (2, 3)])
    write(tmp_path / "train-00000-of-00002.parquet", [simple(0, query_id=0), simple(1, query_id=1, answers=[""])])
    write(tmp_path / "validation.jsonl", [simple(4, query_id=4)])
    write(tmp_path / "mine_test.json", [simple(5, query_id=5)])
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / ".train.jsonl").write_text("not data either")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "expected"), [("train", "023"), ("validation", "4"), ("test", "5"), ("mine_test", "5")]
)
def test_a_split_of_a_folder_is_its_files_in_name_order(folder: Path, split: str, expected: str) -> None:
    assert [row["query_id"] for row in read_questions(folder, split).rows] == list(expected)


def test_a_folder_with_one_file_needs_no_split(tmp_path: Path) -> None:
    write(tmp_path / "whatever.jsonl", [simple(1)])
    assert len(read_questions(tmp_path).rows) == 1


@pytest.mark.parametrize(
    ("first", "last", "expected"), [(0, 3, "02"), (1, 3, "2"), (2, None, "23"), (0, 99, "023"), (3, 4, "3")]
)
def test_a_range_counts_rows_over_shards_before_any_is_left_out(
    folder: Path, first: int, last: int | None, expected: str
) -> None:
    found = read_questions(folder, "train", first, last)
    assert [row["query_id"] for row in found.rows] == list(expected)
    assert found.left_out["unanswerable"] == int(first <= 1)


def test_lines_after_the_range_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(simple(1)) + "\nnot JSON\n")
    assert len(read_questions(path, last=1).rows) == 1


@pytest.mark.parametrize(("first", "last"), [(-1, None), (2, 2), (0, 0), (3, -1)])
def test_a_range_that_holds_nothing_is_refused(folder: Path, first: int, last: int | None) -> None:
    assert f"rows {first} to {last}" in refusal(folder, "train", first, last)


def test_nothing_left_is_an_error_with_the_counts(folder: Path) -> None:
    message = refusal(folder, "train", 1, 2)
    assert str(folder) in message and "rows 1 to 2" in message and "'unanswerable': 1" in message
    assert "rows 9 to the end" in refusal(folder, "train", 9)


def test_the_same_query_id_names_both_rows(folder: Path) -> None:
    write(folder / "train-last.jsonl", [simple(7), simple(0, query_id="0")])
    message = refusal(folder, "train")
    parts = ("train-00000-of-00002.parquet, row 1", "train-last.jsonl, line 2", "query_id '0'")
    assert all(part in message for part in parts), message


SURROGATE = "\ud800"


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"question": "Q", "passages": []}, ["unknown layout", "['question', 'passages']", "Known: query, answers"]),
        (["query", "answers", "passages"], ["unknown layout", "no object but ['query'"]),
        (simple(1, query=None), ["query should be text", "None"]),
        (simple(1, query=SURROGATE), ["query should be text", r"'\ud800'"]),
        (simple(1, query_id=1.5), ["query_id should be text or a whole number", "1.5"]),
        (simple(1, query_id=" "), ["query_id", "' '"]),
        (simple(1, group_id=True), ["group_id", "True"]),
        (simple(1, answers=3), ["answers should be a list of texts or one text", "3"]),
        (simple(1, answers=["a", None]), ["answer 2 should be text", "None"]),
        (simple(1, passages="Text."), ["passages should be a list", "'Text.'"]),
        (simple(1, passages={"text": ["A."]}), ["passages should be a list", "['A.']"]),
        (simple(1, passages=["A.", 4]), ["passage 2 should be a text or {text", "4"]),
        (simple(1, passages=["A.", {"body": "B."}]), ["passage 2 should be", "'body'"]),
        (simple(1, passages=[{"text": None}]), ["text of passage 1", "None"]),
        (simple(1, passages=[{"text": "A.", "passage_id": ""}]), ["passage_id of passage 1", "''"]),
        (simple(1, passages=[{"text": "A.", "is_selected": "yes"}]), ["is_selected of passage 1", "'yes'"]),
        (simple(1, passages=[{"text": "A.", "is_selected": "0"}]), ["is_selected of passage 1", "'0'"]),
        (simple(1, passages=[{"text": "A.", "is_selected": "true"}]), ["is_selected of passage 1", "'true'"]),
        (marco(1, ["x"], ["A.", "B."], ["0", "1"]), ["is_selected of passage 1", "'0'"]),
        (marco(1, "['x', 'y']", ["A."], [1]), ["answers should be a list and not the text of one", "['x', 'y']"]),
        (simple(1, answers="[]"), ["answers should be a list and not the text of one", "'[]'"]),
        (simple(1, passages="['A.', 'B.']"), ["passages should be a list", "['A.', 'B.']"]),
        (marco(1, ["x"], ["A.", "B."], [1]), ["2 passage_text and 1 is_selected are not parallel"]),
        (marco(1, ["x"], ["A.", "B."], [1, 2]), ["is_selected of passage 2", "2"]),
        (simple(1, passages={"passage_text": "A."}), ["passage_text and is_selected should be lists", "'A.'"]),
    ],
)
def test_rows_of_another_layout_are_refused_with_their_line(tmp_path: Path, row: Any, parts: list[str]) -> None:
    path = write(tmp_path / "a.jsonl", [simple(0), row])
    message = refusal(path)
    assert all(part in message for part in [f"{path}, line 2: ", *parts]), message


def columns(*rows: Row) -> str:
    """An object of columns, as pandas writes one."""
    return json.dumps({name: {str(place): row[name] for place, row in enumerate(rows)} for name in rows[0]}, indent=1)


def test_rows_of_columns_have_their_key_as_the_place(tmp_path: Path) -> None:
    path = tmp_path / "train_v2.1.json"
    passages = [{"is_selected": 1, "passage_text": "A.", "url": "http://x"}, {"passage_text": "B."}, {"text": "C."}]
    path.write_text(columns(simple(0, passages=passages), simple(1)))
    first, second = read_questions(path).rows
    assert (texts(first), marks(first)) == (["A.", "B.", "C."], [1, None, None])
    assert [row["query_id"] for row in (first, second)] == ["train_v2.1-0", "train_v2.1-1"]
    path.write_text(columns(simple(0), simple(1, passages=[{"passage_text": 3}])))
    assert f"{path}, key 1: text of passage 1 should be text, is 3." in refusal(path)
    cut = json.loads(columns(simple(0), simple(1)))
    del cut["answers"]["1"]
    for odd in (cut, cut | {"answers": ["x", "y"]}):
        path.write_text(json.dumps(odd))
        assert f"{path}: columns ['answers'] and 'query' differ in their rows." in refusal(path)
    path.write_text(columns(simple(0))[:-9])
    assert f"{path}: not JSON" in refusal(path)
    (tmp_path / "corpus.json").write_text(columns({"passage_id": "a", "text": "A."}))
    assert read_passages(tmp_path / "corpus.json", {}, path) == ({"a": "A."}, 0)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_fields_that_are_not_read_are_counted(tmp_path: Path, suffix: str) -> None:
    passages = [{"text": "A.", "rank": 1, "is_selected": 1}, {"text": "B.", "rank": 2, "is_selected": 0}]
    rows = [simple(number, passages=passages, id=number, note="") for number in range(3)]
    found = read_questions(write(tmp_path / f"a{suffix}", rows))
    assert found.fields == {"id": 3, "passages.rank": 6} and len(found.rows) == 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            simple(1, passages=[{"text": "A.", "selected": 1}]),
            "passage 1: 'selected' is no known field, but 'is_selected'",
        ),
        (simple(1, passages=[{"text": "A.", "isSelected": 1}]), "passage 1: 'isSelected' is no known field"),
        (simple(1, passages=[{"text": "A.", "Title": "T"}]), "passage 1: 'Title' is no known field, but 'title'"),
        (simple(1, passages={"passage_text": ["A."], "selected": [1]}), "passage 1: 'selected' is no known field"),
        (simple(1, queryid=1), "'queryid' is no known field, but 'query_id' is, which is absent. Rename it"),
        (
            simple(1, passages=[{"text": "A.", "role": "gold"}]),
            "role of passage 1 should be null or one of plain, hard",
        ),
    ],
)
def test_misspelt_fields_are_refused(tmp_path: Path, row: Row, said: str) -> None:
    for name in ("a.jsonl", "a.parquet"):
        message = refusal(write(tmp_path / name, [row]))
        assert said in message and str(tmp_path / name) in message, message


def test_titles_and_ids_of_ms_marcos_lists_are_kept(tmp_path: Path) -> None:
    lists = {"passage_text": ["A.", "B."], "title": ["T", None], "passage_id": ["a", "b"], "url": ["u", "v"]}
    found = read_questions(write(tmp_path / "a.jsonl", [simple(1, passages=lists)]))
    assert texts(found.rows[0]) == ["T. A.", "B."] and ids(found.rows[0]) == ["a", "b"]
    assert found.fields == {"passages.url": 2}
    message = refusal(write(tmp_path / "a.jsonl", [simple(1, passages=lists | {"title": ["T"]})]))
    assert "title in passages should be a list parallel to the 2 texts" in message


def test_fields_of_squad_that_are_not_read_are_counted(tmp_path: Path) -> None:
    content = squad("v2.0", *ASKED)
    content["data"][0]["source"] = "wiki"
    content["data"][0]["paragraphs"][0]["qas"][1]["plausible_answers"] = [{"text": "x", "answer_start": 0}]
    (tmp_path / "dev.json").write_text(json.dumps(content))
    assert read_questions(tmp_path / "dev.json").fields == {"source": 3, "plausible_answers": 1}
    rows = [row | {"level": 1} for row in hugging_face()]
    for name in ("rows.jsonl", "rows.parquet"):
        assert read_questions(write(tmp_path / name, rows)).fields == {"level": 3}


def test_parquet_of_another_layout_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"question": "Q", "answers": ["x"]}])
    assert f"{path}: unknown layout, found keys ['question', 'answers']" in refusal(path)


def test_a_value_that_is_long_is_shortened(tmp_path: Path) -> None:
    assert len(refusal(write(tmp_path / "a.jsonl", [simple(1, answers={"x": "y" * 9999})]))) < 400


# -- SQuAD -----------------------------------------------------------------------------------------------------------


def squad(version: str, *asked: tuple[str, str, list[str]]) -> Row:
    """One article; questions (id, question, answers) of one paragraph. v2 marks those without answers."""
    qas = [
        {"id": name, "question": question, "answers": [{"text": text, "answer_start": 0} for text in answers]}
        | ({"is_impossible": not answers} if version == "v2.0" else {})
        for name, question, answers in asked
    ]
    paragraph = {"qas": qas, "context": " The river is the Vistula. "}
    return {"version": version, "data": [{"title": "Warsaw", "paragraphs": [paragraph]}]}


ASKED = [("a", "Which river? ", ["Vistula", "Vistula", "the Vistula"]), ("b", "Who?", []), ("c", "What?", ["river"])]


@pytest.mark.parametrize(("version", "indent", "turned"), [("1.1", None, False), ("v2.0", 2, False), ("v2.0", 1, True)])
def test_squad_gives_each_question_its_paragraph(
    tmp_path: Path, version: str, indent: int | None, turned: bool
) -> None:
    content = squad(version, *ASKED)
    content = dict(reversed(content.items())) if turned else content  # v1.1 begins with data
    (tmp_path / "dev.json").write_text(json.dumps(content, indent=indent))
    found = read_questions(tmp_path / "dev.json")
    first, second = found.rows
    (passage,) = first["passages"]
    assert (passage["text"], passage["is_selected"]) == ("The river is the Vistula.", 1)
    assert first["query"] == "Which river?" and first["answers"] == ["Vistula", "the Vistula"]
    assert (first["query_id"], second["query_id"], first["group_id"]) == ("a", "c", "Warsaw")
    assert second["passages"] == first["passages"]
    assert found.left_out == left_out(unanswerable=1, duplicate_answers=1)
    assert [row["query_id"] for row in read_questions(tmp_path / "dev.json", first=1).rows] == ["c"]


def test_squad_in_parquet(tmp_path: Path) -> None:
    rows = [
        {
            "id": name,
            "title": "Warsaw",
            "context": "The river is the Vistula.",
            "question": question,
            "answers": {"text": answers, "answer_start": [0] * len(answers)},
        }
        for name, question, answers in ASKED
    ]
    found = read_questions(write(tmp_path / "validation-00000-of-00001.parquet", rows))
    assert [row["query_id"] for row in found.rows] == ["a", "c"] and found.left_out["unanswerable"] == 1


@pytest.mark.parametrize("flag", ["false", "0", "", 2])
def test_a_flag_of_squad_that_is_a_text_is_refused(tmp_path: Path, flag: Any) -> None:
    content = squad("v2.0", *ASKED)
    content["data"][0]["paragraphs"][0]["qas"][2]["is_impossible"] = flag
    (tmp_path / "dev.json").write_text(json.dumps(content))
    assert f"question 3: is_impossible should be true or false, is {flag!r}" in refusal(tmp_path / "dev.json")


def hugging_face() -> list[Row]:
    return [
        {"id": name, "title": "Warsaw", "context": "The river is the Vistula.", "question": question}
        | {"answers": {"text": answers, "answer_start": [0] * len(answers)}}
        for name, question, answers in ASKED
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answers": "{'text': ['Vistula'], 'answer_start': [17]}"}, "'answers' (dict)"),
        ({"answers": {"text": "Vistula", "answer_start": [17]}}, "answers should be {text: […]"),
        ({"answers": {"text": ["Vistula"], "answer_start": "[17]"}}, "answers should be {text: […]"),
        ({"answers": {"text": ["Vistula"], "answer_start": ["17"]}}, "answer_start should be a whole number or null"),
        ({"is_impossible": "False"}, "is_impossible should be true or false, is 'False'"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_flags_and_lists_of_squads_rows_are_no_texts(tmp_path: Path, suffix: str, changed: Row, said: str) -> None:
    rows = [row | changed for row in hugging_face()]
    assert said in refusal(write(tmp_path / f"dev{suffix}", rows))


@pytest.mark.parametrize("name", ["dev.jsonl", "dev.json", "dev.JSONL", "array.json", "columns.json", "dev.parquet"])
def test_squad_in_rows_of_any_format(tmp_path: Path, name: str) -> None:
    file, rows = tmp_path / name, hugging_face()
    write(file, rows, array=name == "array.json")
    if name == "columns.json":
        file.write_text(columns(*rows))
    found = read_questions(file)
    assert [row["query_id"] for row in found.rows] == ["a", "c"] and found.left_out["unanswerable"] == 1
    assert found.rows[0]["group_id"] == "Warsaw" and found.rows[0]["answers"] == ["Vistula", "the Vistula"]
    assert [question.id for question in read_squad(file)[0]] == ["a", "c"]


def test_squad_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    for text, says in [
        (json.dumps(squad("1.1", *ASKED))[:-9], "cut off or broken"),
        (json.dumps({"data": [{"paragraphs": []}]}), "article 1: 'title'"),
        (json.dumps(squad("v2.0", ("b", "Who?", []))), "no question is left"),
    ]:
        path.write_text(text)
        with pytest.raises(DataFileError) as caught:
            read_questions(path)
        assert str(path) in str(caught.value) and says in str(caught.value)


# -- further passages ------------------------------------------------------------------------------------------------


def test_a_group_that_is_not_stated_is_the_question(tmp_path: Path) -> None:
    rows = [simple(1, query_id="a"), simple(2, query_id="b", group_id="a")]
    assert [row["group_id"] for row in read_questions(write(tmp_path / "a.jsonl", rows)).rows] == ["a", "a"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_further_passages_join_those_that_are_known(tmp_path: Path, suffix: str) -> None:
    given = {"x": "A.", "b": " B. ", "y": "B.", "e": " "}
    path = write(tmp_path / f"more{suffix}", [{"passage_id": name, "text": text} for name, text in given.items()])
    assert read_passages(path, {"a": "A."}, Path("mine.jsonl")) == ({"a": "A.", "b": "B."}, 1)
    with pytest.raises(DataFileError, match="passage_id 'b' has two texts, 'B.' and, in mine.jsonl, 'Other.'"):
        read_passages(path, {"b": "Other."}, Path("mine.jsonl"))
