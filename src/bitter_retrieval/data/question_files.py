"""Your own questions with candidate passages, in one of our layouts or other people's (layouts.py), as prepared rows.

SQuAD           v1.1 and v2 (squad.py); a question's only candidate is the paragraph that it was asked about
MS MARCO        v1.1 and v2.1 (https://huggingface.co/datasets/microsoft/ms_marco), where `passages` holds parallel
                lists; or Microsoft's own files, where it is a list of {passage_text, is_selected}
simple          needs only query, answers (or one answer) and passages
prepared rows   records.py; a case of the simple layout, returned unchanged

One question in MS MARCO's layout, and one in the simple layout:

    {"query_id": 1185, "query": "which river is in warsaw", "query_type": "entity", "wellFormedAnswers": [],
     "answers": ["the Vistula"],
     "passages": {"is_selected": [0, 1], "passage_text": ["Warsaw is …", "Warsaw lies on …"], "url": ["…", "…"]}}

    {"query": "which river is in warsaw", "answers": "the Vistula",
     "passages": ["Warsaw is …", {"text": "Warsaw lies on …", "passage_id": "w2", "is_selected": 1}]}

files/tables.py reads the files; SQuAD's are one JSON object, or rows in the Hugging Face layout. Whitespace around
texts is stripped; a text is one passage with one id in all rows (passage_files.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bitter_retrieval.data import layouts, squad
from bitter_retrieval.data.passage_files import PassageIds
from bitter_retrieval.data.settings import TITLED
from bitter_retrieval.files import values
from bitter_retrieval.files.tables import (
    Layout,
    Place,
    Record,
    check_layout,
    column_names,
    files_of_split,
    records,
    refuse_misspelt,
    stem,
    suffix,
    unread,
)
from bitter_retrieval.files.values import DataFileError, short
from bitter_retrieval.records import Row

LEFT_OUT = (
    "empty_query",  # this and the next three: whole rows, counted under the first reason that holds
    "unanswerable",
    "no_passages",
    "duplicate_id",  # in SQuAD, and with repeated=True in prepared_rows; otherwise an error
    "empty_answers",  # from here on: parts of rows that are kept
    "duplicate_answers",
    "empty_passages",
    "duplicate_passages",
    "replaced_passage_ids",  # the text already had an id and keeps it
)


ROLES = ("plain", "hard", "hedged", "lure", "mention", "other", "twin")  # of the generated world's passages


@dataclass(frozen=True)
class LeftOut:
    """What is not used of the files that are read."""

    counts: Counter[str]  # by LEFT_OUT
    fields: Counter[str]  # records by each field that holds something and is not read; passages, by passages.<field>


def nothing_left_out(reasons: Iterable[str] = LEFT_OUT) -> LeftOut:
    return LeftOut(Counter(dict.fromkeys(reasons, 0)), Counter())


@dataclass(frozen=True)
class ReadQuestions:
    rows: list[Row]  # records.PREPARED, in file order
    left_out: dict[str, int]  # counts by LEFT_OUT
    fields: dict[str, int]  # LeftOut.fields


QUESTION = Layout(
    ("query", "answers", "passages"),
    ("query_id", "group_id"),
    "query, answers and passages, which are a list of texts or of {text, passage_id, is_selected}, or MS MARCO's "
    "{passage_text: […], is_selected: […]}; or SQuAD's, {data: [{title, paragraphs: […]}]} or columns "
    f"{', '.join(squad.COLUMNS)}; or {layouts.DESCRIPTION}",
)
CANDIDATE = Layout(("text",), ("title", "passage_id", "is_selected", "role"), "text, passage_id, title, is_selected")


def read_questions(
    path: Path,
    split: str | None = None,
    first: int = 0,
    last: int | None = None,
    unanswered: bool = False,
    graded: bool = False,
) -> ReadQuestions:
    """The questions of a file, of a folder's files whose names contain `split`, in name order, or of BEIR's split.

    first, last: the range of rows, from 0, `last` excluded, counted over all files before any row is left out. An
    absent query_id becomes the row's place, such as train-17, so that a label leads back to its line; an absent
    group_id the query_id; an absent passage_id a hash of the text. In a SQuAD file, the range counts the questions that
    have an answer, `left_out` counts the whole file, and an article is a group. BEIR's split is test if none is given.
    unanswered: whether questions without an answer stay. graded: is_selected is BEIR's score, which may be above 1.
    Raises DataFileError, also if no question is left.
    """
    if first < 0 or (last is not None and last <= first):
        raise DataFileError(f"{path}: rows {first} to {last} are an empty range. Give 0 <= first < last.")
    left_out = nothing_left_out()
    beir = layouts.is_beir(path)
    if beir:
        of_split = layouts.beir_questions(path, layouts.beir_split(path, split or "test"), graded)
    else:
        of_split = file_records(files_of_split(path, split), left_out)
    asked = islice(of_split, first, last)
    prepared = prepared_rows(asked, PassageIds(), left_out, unanswered=unanswered, graded=graded and beir)
    found = (row for _, row in prepared)
    rows = [row | {"group_id": row["group_id"] or row["query_id"]} for row in found]
    if not rows:
        asked_for = f"rows {first} to {'the end' if last is None else last}"
        raise DataFileError(f"{path}: no question is left of {asked_for} ({dict(left_out.counts)}). Give other rows.")
    return ReadQuestions(rows, dict(left_out.counts), dict(left_out.fields))


def file_records(files: Iterable[Path], left_out: LeftOut) -> Iterator[Record]:
    """The records of all files in turn; counts in `left_out` what SQuAD's reader leaves out."""
    return chain.from_iterable(
        _from_squad(file, left_out) if squad.is_squad(file) else records(file, _layout(file)) for file in files
    )


def _layout(file: Path) -> Layout:
    """All columns: other people's have names of their own, and those that are not used are counted."""
    if suffix(file) != ".parquet":
        return QUESTION
    names = column_names(file)
    check_layout(dict.fromkeys(names), file, layouts.layout_of(names) or QUESTION)
    return Layout((), tuple(names), QUESTION.description)


def prepared_rows(
    found: Iterable[Record],
    ids: PassageIds,
    left_out: LeftOut,
    repeated: bool = False,
    template: str = TITLED,
    unanswered: bool = False,
    graded: bool = False,
) -> Iterator[tuple[Place, Row]]:
    """Prepared rows, each with its place; counts in `left_out` what is left out.

    An absent group_id is None. ids: one for all rows that share passages. repeated: of rows with the same query_id,
    keep the first instead of refusing the others. template: how a title becomes part of a passage. unanswered: whether
    questions without an answer stay. graded: whether is_selected may be above 1. Raises DataFileError.
    """
    asked: dict[str, Place] = {}
    for place, record in found:
        ours = layouts.translated(record, place)
        dials = template, unanswered, graded
        row, counts = _prepared(ours, place, ids, *dials, left_out.fields, local=ours is not record)
        if row is not None and (other := asked.setdefault(row["query_id"], place)) != place:
            if not repeated:
                raise DataFileError(
                    f"{other}, and {place} have the same query_id {short(row['query_id'])}. Give each its own."
                )
            row, counts = None, Counter(["duplicate_id"])
        left_out.counts.update(counts)
        if row is not None:
            yield place, row


def _from_squad(file: Path, left_out: LeftOut) -> Iterator[Record]:
    questions, counts = squad.read_squad(file)
    left_out.fields.update(counts.pop("left_out_fields", {}))
    left_out.counts.update(
        empty_query=counts["empty_question"],
        unanswerable=counts["unanswerable"],
        no_passages=counts["empty_context"],
        duplicate_id=counts["duplicate_id"],
        duplicate_answers=counts["duplicate_answers"],
    )
    for number, asked in enumerate(questions, 1):
        fields = {"query_id": asked.id, "group_id": asked.article, "query": asked.question}
        passages = [{"text": asked.context, "is_selected": 1}]
        yield Place(file, "question", number), fields | {"answers": list(asked.answers), "passages": passages}


def _prepared(
    record: Any,
    place: Place,
    ids: PassageIds,
    template: str,
    unanswered: bool,
    graded: bool,
    fields: Counter[str],
    local: bool,
) -> tuple[Row | None, Counter[str]]:
    """The prepared row, None if it is left out, and the number of parts left out by reason.

    fields: counts the fields that are not read, LeftOut.fields.
    local: a passage's id may be its place in the question, and then another passage's elsewhere.
    """
    if isinstance(record, dict) and "query_type" in record:  # MS MARCO's, whose evaluation files have no answers
        record = {"answers": None} | record
    check_layout(record, place, QUESTION)
    query = values.text(record["query"], "query", place)
    answers = values.answers(record["answers"], place)
    items = _candidates(record["passages"], place)
    candidates = [_candidate(item, number, place, template, graded, fields) for number, item in enumerate(items, 1)]
    fields.update(unread(record, QUESTION.names))
    query_id = values.identifier(record.get("query_id"), "query_id", place) or f"{stem(place.file)}-{place.number}"
    group_id = values.identifier(record.get("group_id"), "group_id", place)
    given = values.given(answers)
    shown = [candidate for candidate in candidates if candidate["text"]]
    if not (query and (given or unanswered) and shown):
        return None, Counter(["empty_query" if not query else "no_passages" if given or unanswered else "unanswerable"])
    references = list(dict.fromkeys(given))
    passages, replaced = _passages(shown, place, ids, local)
    row = {"query_id": query_id, "group_id": group_id, "query": query, "answers": references, "passages": passages}
    return row, Counter(
        empty_answers=len(answers) - len(given),
        duplicate_answers=len(given) - len(references),
        empty_passages=len(candidates) - len(shown),
        duplicate_passages=len(shown) - len(passages),
        replaced_passage_ids=replaced,
    )


def _passages(candidates: list[Row], place: Place, ids: PassageIds, local: bool) -> tuple[list[Row], int]:
    """Each text once, selected if any copy is, and the number of ids replaced by the text's first one."""
    passages: dict[str, Row] = {}
    replaced = 0
    for candidate in candidates:
        given = candidate["passage_id"]
        free = not local or ids.is_free(given, candidate["text"])
        passage_id = ids.claim(candidate["text"], given if free else None, place)
        replaced += candidate["passage_id"] not in (None, passage_id)
        passage = passages.setdefault(passage_id, candidate | {"passage_id": passage_id})
        marks = [mark for mark in (passage["is_selected"], candidate["is_selected"]) if mark is not None]
        passage["is_selected"] = max(marks, default=None)
    return list(passages.values()), replaced


def _candidates(passages: Any, place: Place) -> list[Any]:
    """The passages as one list; MS MARCO's parallel lists are zipped, with those that nobody reads."""
    if isinstance(passages, dict) and "passage_text" in passages:
        texts, marks = passages["passage_text"], passages.get("is_selected")
        if not isinstance(texts, list) or not isinstance(marks, list | None):
            raise values.refusal("passage_text and is_selected", "lists", passages, place)
        if marks is not None and len(texts) != len(marks):
            lengths = f"{len(texts)} passage_text and {len(marks)} is_selected"
            raise DataFileError(f"{place}: {lengths} are not parallel. Give one is_selected for each text, or none.")
        lists = {name: value for name, value in passages.items() if value is not None}
        for name, value in lists.items():
            if not isinstance(value, list) or len(value) != len(texts):
                raise values.refusal(f"{name} in passages", f"a list parallel to the {len(texts)} texts", value, place)
        return [dict(zip(lists, item, strict=True)) for item in zip(*lists.values(), strict=True)]
    if not isinstance(passages, list | None):
        raise values.refusal("passages", "a list, or {passage_text: […], is_selected: […]}", passages, place)
    return passages or []


def _candidate(item: Any, number: int, place: Place, template: str, graded: bool, fields: Counter[str]) -> Row:
    """A prepared row's passage, whose passage_id may still be None."""
    name = f"passage {number}"
    item = {"text": item} if isinstance(item, str) else item
    if isinstance(item, dict) and "passage_text" in item and "text" not in item:
        item = {"text" if key == "passage_text" else key: value for key, value in item.items()}
    if not isinstance(item, dict) or "text" not in item:
        raise values.refusal(name, "a text or {text, passage_id, is_selected}", item, place)
    refuse_misspelt(item, f"{place}, {name}", CANDIDATE)
    fields.update(f"passages.{key}" for key in unread(item, CANDIDATE.names))
    text = values.text(item["text"], f"text of {name}", place)
    title = None if item.get("title") is None else values.text(item["title"], f"title of {name}", place)
    mark = item.get("is_selected")
    if not graded and mark not in (None, -1, 0, 1):
        raise values.refusal(f"is_selected of {name}", "0, 1 or null", mark, place)
    if item.get("role") not in (None, *ROLES):
        raise values.refusal(f"role of {name}", f"null or one of {', '.join(ROLES)}", item["role"], place)
    return {
        "passage_id": values.identifier(item.get("passage_id"), f"passage_id of {name}", place),
        "text": layouts.titled(text, title, template),
        "is_selected": None if mark in (None, -1) else int(mark),  # -1: the test split of MS MARCO v2.1, not annotated
        "role": item.get("role"),
    }
