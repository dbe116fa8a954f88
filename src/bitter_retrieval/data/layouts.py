"""Questions and passages in other people's layouts, as records of ours (question_files.py).

FiD, Atlas               question, answers or target, ctxs: [{id, title, text, score, hasanswer, isgold}]
DPR                      question, answers, positive_ctxs, negative_ctxs, hard_negative_ctxs: [{title, text, …}]
tevatron                 query_id, query, positive_passages, negative_passages: [{docid, title, text}]
FlagEmbedding            query, pos: [text], neg: [text], pos_scores, neg_scores, prompt
sentence-transformers    anchor (or query), positive, negative, negative_1, …
BEIR                     a folder of corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/<split>.tsv

The last four have answers only where somebody added them, as a key `answers`; questions without one are left out and
counted. What retrieval needs is read; scores of teachers are label sources (labels/published.py). A passage's title is
part of its text, written as settings.TITLED says.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitter_retrieval.data.settings import TITLED
from bitter_retrieval.files import values
from bitter_retrieval.files.tables import (
    Layout,
    Place,
    Record,
    check_layout,
    data_files,
    records,
    refuse_misspelt,
    stem,
    unread,
)
from bitter_retrieval.files.values import DataFileError, short
from bitter_retrieval.records import Row

IDS = ("passage_id", "docid", "psg_id", "_id", "id")  # what other people call a passage's id
SCORE = re.compile(r"-?\d{1,9}")
DESCRIPTION = (
    "FiD's or Atlas's (question, answers, ctxs), DPR's (question, answers, positive_ctxs, …), tevatron's (query, "
    "positive_passages, negative_passages), FlagEmbedding's (query, pos, neg), sentence-transformers' (anchor, "
    "positive, negative), each with answers"
)
PASSAGE = Layout(("text",), ("title",), "a passage of text, with title and id or without", IDS)
GOLD = replace(PASSAGE, further=("title", "isgold"))


def layout_of(keys: Iterable[str]) -> Layout | None:
    """The layout of a record, or of a table's columns, with these keys; None if it is ours, or unknown."""
    found = set(keys)
    if {"query", "passages"} <= found:
        return None
    return next((layout for layout in READ if found.issuperset(layout.needed)), None)


def translated(record: Any, place: Place) -> Any:
    """A record in the simple layout; one of ours, or of no layout, as it is. Raises DataFileError.

    Fields that its layout does not have stay in it and in its passages.
    """
    layout = layout_of(record) if isinstance(record, dict) else None
    if layout is None:
        return record
    refuse_misspelt(record, place, layout)
    others = {key: record[key] for key in record if key not in layout.names and not values.NEGATIVE.fullmatch(key)}
    return others | READ[layout](record, place)


def _fid(record: Row, place: Place) -> Row:
    answers = record.get("answers") or record.get("target")
    items = _list(record["ctxs"], "ctxs", place)
    passages = [plain_passage(item, place, GOLD) for item in items]
    for passage, item in zip(passages, items, strict=True):
        if item.get("isgold") is not None:
            passage["is_selected"] = values.flag(item["isgold"], "isgold", place)
    return _question(record, record["question"], answers, passages)


def _dpr(record: Row, place: Place) -> Row:
    passages = [
        plain_passage(item, place) | {"is_selected": selected}
        for key, selected in (("positive_ctxs", 1), ("hard_negative_ctxs", 0), ("negative_ctxs", 0))
        for item in _list(record.get(key), key, place)
    ]
    return _question(record, record["question"], record.get("answers"), passages)


def _tevatron(record: Row, place: Place) -> Row:
    passages = [
        plain_passage(item, place) | {"is_selected": selected}
        for key, selected in (("positive_passages", 1), ("negative_passages", 0))
        for item in _list(record.get(key), key, place)
    ]
    return _question(record, record["query"], record.get("answers"), passages)


def _flag_embedding(record: Row, place: Place) -> Row:
    passages = [
        {"text": text, "is_selected": selected}
        for key, selected in (("pos", 1), ("neg", 0))
        for text in _list(record.get(key), key, place)
    ]
    return _question(record, record["query"], record.get("answers"), passages)


def _triplet(record: Row, place: Place) -> Row:
    texts = [(record["positive"], 1), *((text, 0) for text in values.negatives(record))]
    passages = [{"text": values.single(text, "a passage", place), "is_selected": selected} for text, selected in texts]
    query = record["anchor"] if "anchor" in record else record["query"]
    return _question(record, query, record.get("answers"), passages)


QUERY_IDS = ("query_id", "qid", "id", "_id")


def _layout(needed: tuple[str, ...], *further: str) -> Layout:
    return Layout(needed, ("answers", "group_id", *further), DESCRIPTION, QUERY_IDS)


# By the keys that say which layout a record has: all that are needed. The first that fits is taken.
READ: dict[Layout, Callable[[Row, Place], Row]] = {
    _layout(("question", "ctxs"), "target"): _fid,
    _layout(("question", "positive_ctxs"), "negative_ctxs", "hard_negative_ctxs"): _dpr,
    _layout(("query", "positive_passages"), "negative_passages"): _tevatron,
    _layout(("query", "pos"), "neg"): _flag_embedding,
    _layout(("anchor", "positive")): _triplet,
    _layout(("query", "positive")): _triplet,
}


def _question(record: Row, query: Any, answers: Any, passages: list[Row]) -> Row:
    query_id = next((record[key] for key in QUERY_IDS if record.get(key) is not None), None)
    fields = {"query": query, "answers": answers, "passages": passages, "query_id": query_id}
    return fields | {"group_id": record.get("group_id")}


def plain_passage(item: Any, place: Place, layout: Layout = PASSAGE) -> Row:
    """A passage of ours, not yet checked, with title and passage_id or None; fields that the layout lacks stay in it.

    Raises DataFileError.
    """
    check_layout(item, place, layout)
    passage_id = next((item[key] for key in IDS if item.get(key) not in (None, "")), None)
    others = {key: item[key] for key in item if key not in layout.names}
    return others | {"text": item["text"], "title": item.get("title"), "passage_id": passage_id}


def _list(value: Any, name: str, place: Place) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise values.refusal(name, "a list", value, place)
    return value


def titled(text: str, title: str | None, template: str = TITLED) -> str:
    """The passage with its title, if it has one; either alone where the other is empty."""
    if not (title and text):
        return text or title or ""
    before, after = template.split("{text}")
    return before.replace("{title}", title) + text + after.replace("{title}", title)


# -- BEIR ------------------------------------------------------------------------------------------------------------

QUERY = Layout(("_id", "text"), ("metadata", "group_id"), "_id, text and answers", ("answers", "answer"))
DOCUMENT = Layout(("_id", "text"), ("title",), "_id, title and text")
JUDGEMENTS = ".tsv"


def is_beir(path: Path) -> bool:
    """Whether a folder is one of BEIR's."""
    return (path / "qrels").is_dir()


def beir_splits(path: Path) -> dict[str, Path]:
    """Files of qrels/ by split. Raises DataFileError for any other file, there or beside corpus and queries."""
    files = sorted(file for file in (path / "qrels").iterdir() if not file.name.startswith("."))
    for file in files:
        if file.suffix.lower() != JUDGEMENTS:
            raise DataFileError(f"{file}: not a <split>.tsv, as BEIR's folders have. Unpack or convert it, or move it.")
    if not files:
        raise DataFileError(f"{path / 'qrels'}: no <split>.tsv here. BEIR's folders have one for each split.")
    for file in data_files(path):
        if stem(file).lower() not in ("corpus", "queries"):
            raise DataFileError(f"{file}: neither corpus nor queries, which a folder of BEIR has. Move it away.")
    return {file.stem.lower(): file for file in files}


def beir_file(path: Path, name: str) -> Path:
    """corpus or queries of a folder. Raises DataFileError unless there is one such file."""
    found = [file for file in data_files(path) if stem(file).lower() == name]
    if len(found) != 1:
        raise DataFileError(f"{path}: {len(found)} files {name}.jsonl. A folder of BEIR has corpus and queries.")
    return found[0]


def beir_split(path: Path, split: str) -> Path:
    """The file of a split in qrels/. Raises DataFileError if there is none."""
    found = beir_splits(path)
    if split.lower() not in found:
        raise DataFileError(f"{path / 'qrels'}: no {split}{JUDGEMENTS}. Ask for one of the splits {sorted(found)}.")
    return found[split.lower()]


def beir_questions(path: Path, qrels: Path, graded: bool = False) -> Iterator[Record]:
    """The questions of a split, with the passages judged for them, in the simple layout. Raises DataFileError.

    is_selected is whether the score is above 0, or, if graded, the score itself (0 if it is below).
    """
    judged: dict[str, dict[str, int]] = {}
    for query_id, passage_id, score in _judgements(qrels):
        judged.setdefault(query_id, {})[passage_id] = max(score, 0) if graded else int(score > 0)
    wanted = {passage_id for marks in judged.values() for passage_id in marks}
    texts: dict[str, Row] = {}
    for place, record in records(beir_file(path, "corpus"), DOCUMENT):
        if (found := _id(record, place, DOCUMENT)) in wanted:
            texts[found] = plain_passage(record, place)
    for place, record in records(beir_file(path, "queries"), QUERY):
        query_id = _id(record, place, QUERY)
        if query_id not in judged:
            continue
        if absent := [passage_id for passage_id in judged[query_id] if passage_id not in texts]:
            raise DataFileError(f"{qrels}: query {query_id!r} has passage {absent[0]!r}, which corpus lacks. Add it.")
        about = record.get("metadata") or {}
        if not isinstance(about, dict):
            raise values.refusal("metadata", "an object", about, place)
        answers = next((of[key] for of in (record, about) for key in ("answers", "answer") if of.get(key)), None)
        passages = [texts[passage_id] | {"is_selected": mark} for passage_id, mark in judged.pop(query_id).items()]
        others = {key: record[key] for key in unread(record, QUERY.names)}
        yield place, others | _question(record, record["text"], answers, passages)
    if judged:
        raise DataFileError(f"{qrels}: query {short(next(iter(judged)))} is not in queries. Add it, or drop its lines.")


def _id(record: Any, place: Place, layout: Layout) -> str:
    check_layout(record, place, layout)
    found = values.identifier(record["_id"], "_id", place)
    if found is None:
        raise values.refusal("_id", "text or a whole number", found, place)
    return found


def _judgements(file: Path) -> Iterator[tuple[str, str, int]]:
    """Query, passage and score of every line but the header."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFileError(
            f"{file}: not UTF-8 ({error.reason}, byte {error.start + 1:,}). Save it as UTF-8."
        ) from None
    for number, written in enumerate(text.split("\n"), 1):
        line = written.split("\t")
        if not written or (number == 1 and not SCORE.fullmatch(line[-1])):
            continue
        if len(line) != 3 or not SCORE.fullmatch(line[2]):
            place = Place(file, "line", number)
            raise values.refusal("a line", "query-id, corpus-id and score, with tabs between them", line, place)
        yield line[0], line[1], int(line[2])
