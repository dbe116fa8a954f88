"""Whatever rows hold: written in a layout and read, they are the same rows, or an error names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_values import FEW, SURROGATE, broken_texts, texts, values
from hypothesis import given
from hypothesis import strategies as st

from bitter_retrieval.data.layouts import beir_questions
from bitter_retrieval.data.passage_files import PassageIds, further_passages
from bitter_retrieval.data.question_files import nothing_left_out, prepared_rows
from bitter_retrieval.data.question_files import read_questions as read
from bitter_retrieval.files.tables import SUFFIXES, ZIPPED
from bitter_retrieval.files.values import LIST, NO_ANSWER, DataFileError
from bitter_retrieval.records import Row

Asked = tuple[str, list[str], list[str], list[str]]  # query, answers, passages selected, and others
Found = tuple[str, list[str], dict[str, int | None]]  # the same as read: passages with is_selected


def ours(asked: Asked) -> Row:
    query, answers, selected, others = asked
    passages = [{"text": text, "is_selected": int(text in selected)} for text in [*selected, *others]]
    return {"query": query, "answers": answers, "passages": passages}


def ms_marco(asked: Asked) -> Row:
    row = ours(asked)
    marks = [passage["is_selected"] for passage in row["passages"]]
    return row | {"passages": {"passage_text": [one["text"] for one in row["passages"]], "is_selected": marks}}


def fid(asked: Asked) -> Row:
    query, answers, selected, others = asked
    passages = [{"text": text, "title": "", "isgold": text in selected} for text in [*selected, *others]]
    return {"question": query, "answers": answers, "ctxs": passages}


def dpr(asked: Asked) -> Row:
    query, answers, selected, others = asked
    passages = {"positive_ctxs": selected, "negative_ctxs": others[:1], "hard_negative_ctxs": others[1:]}
    return {"question": query, "answers": answers} | {key: [{"text": one} for one in passages[key]] for key in passages}


def tevatron(asked: Asked) -> Row:
    query, answers, selected, others = asked
    passages = {"positive_passages": selected, "negative_passages": others}
    return {"query": query, "answers": answers} | {key: [{"text": one} for one in passages[key]] for key in passages}


def flag_embedding(asked: Asked) -> Row:
    query, answers, selected, others = asked
    return {"query": query, "answers": answers, "pos": selected, "neg": others}


LAYOUTS: dict[str, Callable[[Asked], Row]] = {
    one.__name__: one for one in (ours, ms_marco, fid, dpr, tevatron, flag_embedding)
}


def lines(rows: list[Row], path: Path) -> Path:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.with_suffix(".jsonl").write_bytes(content.encode("utf-8", "surrogatepass"))
    return path.with_suffix(".jsonl")


def array(rows: list[Row], path: Path) -> Path:
    path.with_suffix(".json").write_bytes(b"\xef\xbb\xbf" + json.dumps(rows).encode())
    return path.with_suffix(".json")


def columns(rows: list[Row], path: Path) -> Path:
    table = {key: {str(number): row[key] for number, row in enumerate(rows)} for key in rows[0]}
    path.with_suffix(".json").write_text(json.dumps(table))
    return path.with_suffix(".json")


def parquet(rows: list[Row], path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


WAYS = (lines, array, columns, parquet)


def expected(asked: Asked) -> Found | None:
    """What is to be read, in plain steps; None if the question is left out."""
    query, answers, selected, others = asked
    kept = list(dict.fromkeys(text for answer in answers if (text := answer.strip()) not in ("", NO_ANSWER)))
    marks: dict[str, int | None] = {}
    for text in [*selected, *others]:
        if text.strip():
            marks[text.strip()] = max(marks.get(text.strip()) or 0, int(text in selected))
    return (query.strip(), kept, marks) if query.strip() and kept and marks else None


def shown(row: Row) -> Found:
    return row["query"], row["answers"], {one["text"]: one["is_selected"] for one in row["passages"]}


def asked_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[Asked]]:
    some = st.lists(text, max_size=3)
    return st.lists(st.tuples(text, some, some, some), min_size=1, max_size=3)


SOUND: Asked = ("q", ["a"], ["t"], [])


@pytest.mark.parametrize("layout", LAYOUTS)
@FEW
@given(asked=asked_of(texts), way=st.sampled_from(WAYS))
def test_rows_come_back_from_every_layout(
    layout: str, asked: list[Asked], way: Callable[[list[Row], Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = [SOUND, *asked]
    path = way([LAYOUTS[layout](one) for one in asked], tmp_path_factory.getbasetemp() / layout)
    wanted = [found for one in asked if (found := expected(one)) is not None]
    assert [shown(row) for row in read(path).rows] == wanted


@pytest.mark.parametrize("layout", LAYOUTS)
@FEW
@given(asked=asked_of(broken_texts), way=st.sampled_from((lines, array, columns)))
def test_half_a_letter_is_refused_and_nothing_else(
    layout: str, asked: list[Asked], way: Callable[[list[Row], Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = [SOUND, *asked]
    path = way([LAYOUTS[layout](one) for one in asked], tmp_path_factory.getbasetemp() / layout)
    try:
        rows = read(path).rows
    except DataFileError as error:
        assert str(error).startswith(str(path)) and repr(SURROGATE)[1:-1] in repr(asked)
    else:
        assert repr(SURROGATE)[1:-1] not in repr(asked)
        assert [shown(row) for row in rows] == [found for one in asked if (found := expected(one)) is not None]


@FEW
@given(asked=asked_of(texts))
def test_rows_come_back_from_triplets_squad_and_beir(
    asked: list[Asked], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "beir"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "qrels").mkdir(parents=True)
    asked = [
        SOUND,
        *((query, answers, (selected + others)[:1] or ["u"], []) for query, answers, selected, others in asked),
    ]
    wanted = [found for one in asked if (found := expected(one)) is not None]
    one_list = [(query, answers, *selected) for query, answers, selected, _ in asked]
    triplets = [{"anchor": query, "answers": answers, "positive": text} for query, answers, text in one_list]
    if not any(LIST.fullmatch(text) for _, _, text in one_list):
        assert [shown(row) for row in read(lines(triplets, folder.parent / "triplets")).rows] == wanted

    paragraphs = [
        {"context": text, "qas": [{"id": str(at), "question": query, "answers": [{"text": one} for one in answers]}]}
        for at, (query, answers, text) in enumerate(one_list)
    ]
    squad = folder.parent / "squad.json"
    squad.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    assert [shown(row) for row in read(squad).rows] == wanted

    lines([{"_id": f"p{at}", "text": text} for at, (_, _, text) in enumerate(one_list)], folder / "corpus")
    lines([{"_id": f"q{at}", "text": one[0], "answers": one[1]} for at, one in enumerate(one_list)], folder / "queries")
    judged = "".join(f"q{at}\tp{at}\t1\n" for at in range(len(asked)))
    (folder / "qrels/test.tsv").write_text(judged)
    found = prepared_rows(beir_questions(folder, folder / "qrels/test.tsv"), PassageIds(), nothing_left_out())
    assert [shown(row) for _, row in found] == wanted


KEYS = "query answers passages query_id query_type question ctxs positive_ctxs target positive_passages pos neg anchor"
KEYS += " positive negative id title context text docid passage_id is_selected isgold passage_text _id data paragraphs"
ODD = values(broken_texts, st.sampled_from(KEYS.split()))


@FEW
@given(records=st.lists(st.dictionaries(st.sampled_from(KEYS.split()), ODD, max_size=6) | ODD, min_size=1, max_size=3))
def test_any_json_is_read_or_refused_by_name(records: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    for path in (
        lines(records, tmp_path_factory.getbasetemp() / "any"),
        array(records, tmp_path_factory.getbasetemp() / "any"),
    ):
        read_or_refused(path)


@FEW
@given(content=st.binary(max_size=60), suffix=st.sampled_from(SUFFIXES), zipped=st.sampled_from(["", *ZIPPED]))
def test_any_bytes_are_refused_by_name(
    content: bytes, suffix: str, zipped: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}{'' if suffix == '.parquet' else zipped}"
    path.write_bytes(content)
    read_or_refused(path)


@FEW
@given(content=st.binary(max_size=30) | broken_texts.map(lambda text: f"q\tp\t{text}".encode("utf-8", "replace")))
def test_any_judgements_are_read_or_refused_by_name(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "judged"
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    lines([{"_id": "p", "text": "t"}], folder / "corpus")
    lines([{"_id": "q", "text": "q", "answers": ["a"]}], folder / "queries")
    file = folder / "qrels/test.tsv"
    file.write_bytes(b"query-id\tcorpus-id\tscore\n" + content)
    try:
        list(prepared_rows(beir_questions(folder, file), PassageIds(), nothing_left_out()))
    except DataFileError as error:
        assert str(error).startswith(str(folder))


def read_or_refused(path: Path) -> None:
    for reading in (lambda: read(path), lambda: further_passages([path], {}, path)):
        try:
            reading()
        except DataFileError as error:
            assert str(error).startswith(str(path))
