"""Published soft labels, matched with our rows by content: query, first reference and passage text.

MS MARCO's layout with the mean answer loss of each passage, nats a token, and the empty passage last:

    {"query": "which river is in warsaw", "answers": ["the Vistula"],
     "passages": {"passage_text": ["Warsaw is …", "Warsaw lies on …", ""], "soft_labels": [3.1, 0.2, 2.7], …}, …}

become rows of records.SOFT_LABELS of the first reference, with n_tokens null, as only the mean is known:

    {"query_id": "1185", "passage_id": "", "answer_index": 0, "nll_sum": 2.7, "n_tokens": None}

A passage that was not published gets a null label, like one that a reader could not score: runs leave it out and report
it.

Scores of a teacher are read too, where a file has FlagEmbedding's layout (query, pos, neg, pos_scores, neg_scores) or
that of sentence-transformers (query or anchor, positive, negative, …, and label, the list of scores). A score is a loss
with the sign turned. Such files know no answers and no score without a passage: a question is known by its text alone,
and its worst passage stands for none, so that utilities are relative to it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from bitter_retrieval.files import values
from bitter_retrieval.files.tables import Layout, Place, Record, check_layout, column_names, records, suffix
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import NO_PASSAGE, Row

COLUMN = "soft_labels"
LAYOUT = Layout(
    ("query", "answers", "passages"),
    (),
    f"query, answers and passages, {{passage_text: […], {COLUMN}: […]}}; or scores of a teacher, query, pos, neg, "
    "pos_scores and neg_scores, or query, positive, negative and label",
)
ANY = ""  # in place of the first reference, where the labels do not say of which answer they are
SCORES = ("label", "labels", "scores")  # what a column of teachers' scores is called

# query and first reference, as a loss is of one reference
PublishedQuestion = tuple[str, str | None]
LossByText = dict[str, float | None]


class PublishedError(ValueError):
    """Labels that belong to other data, or are no losses; the message has the place, the value and the remedy."""


def published_labels(
    found: Iterable[Record], splits: Mapping[str, list[Row]], where: str
) -> tuple[dict[str, list[Row]], dict[str, dict[str, int]], dict[str, int]]:
    """Labels by split, counts by split of what has none, and counts of published rows that are not used.

    where: the published rows' name in errors. Raises PublishedError, and DataFileError for a row of another layout.
    """
    rows_asked = [row for rows in splits.values() for row in rows]
    losses, unused = _losses(found, {_asked(row) for row in rows_asked} | {(row["query"], ANY) for row in rows_asked})
    labels = {split: [label for row in rows for label in _labels(row, losses)] for split, rows in splits.items()}
    unmatched = {split: _unmatched(rows, losses) for split, rows in splits.items()}
    for split, rows in splits.items():
        if split != "test" and len(rows) == unmatched[split]["questions"]:
            raise PublishedError(
                f"{where}: none of {len(rows)} {split} questions was published with its first answer and one of its "
                f"passages (of {unused['rows']} rows, {unused['other_answers']} have another first answer). The "
                "labels belong to other data. Give those of this data, or name its other configuration."
            )
    return labels, unmatched, unused


def _losses(
    given: Iterable[Record], wanted: set[PublishedQuestion]
) -> tuple[dict[PublishedQuestion, LossByText], dict[str, int]]:
    """Losses by question and text, and counts of the rows. A repeated question keeps each text's first loss."""
    found: dict[PublishedQuestion, LossByText] = {}
    queries = {query for query, _ in wanted}
    unused = Counter(dict.fromkeys(("rows", "other_queries", "other_answers", "repeated_queries", "not_finite"), 0))
    for place, record in given:
        asked, of_texts = _read(record, place)
        query, _ = asked
        unused["rows"] += 1
        unused["repeated_queries"] += asked in found
        unused["other_queries"] += query not in queries
        unused["other_answers"] += query in queries and asked not in wanted
        if asked in wanted:
            own = {text: _loss(value, place) for text, value in of_texts}
            unused["not_finite"] += sum(value is not None and own[text] is None for text, value in of_texts)
            found[asked] = own | found.get(asked, {})
    return found, dict(unused)


def published_records(file: Path) -> Iterator[Record]:
    """Records of a file of losses, or of a teacher's scores. Raises DataFileError."""
    names = column_names(file) if suffix(file) == ".parquet" else []
    scores = "pos_scores" in names or {*SCORES} & {*names}
    return records(file, Layout((), tuple(names), LAYOUT.description) if scores else LAYOUT)


def _read(record: Any, place: Place) -> tuple[PublishedQuestion, list[tuple[str, Any]]]:
    """The question, with None for an absent answer, and each passage's text with its value in COLUMN."""
    if isinstance(record, dict) and (pairs := _teacher(record, place)) is not None:
        asked = record["anchor"] if "anchor" in record else record.get("query")
        return (values.text(asked, "query", place), ANY), pairs
    check_layout(record, place, LAYOUT)
    passages = record["passages"] if isinstance(record["passages"], dict) else {}
    texts, labels = passages.get("passage_text"), passages.get(COLUMN)
    if not isinstance(texts, list):
        raise values.refusal("passage_text in passages", "a list of texts", texts, place)
    if not isinstance(labels, list):
        raise values.refusal(f"{COLUMN} in passages", "a list parallel to passage_text", labels, place)
    if len(texts) != len(labels):
        lengths = f"{len(texts)} passage_text and {len(labels)} {COLUMN}"
        raise DataFileError(f"{place}: {lengths} are not parallel. Give one {COLUMN} for each text.")
    first = next(iter(values.given(values.answers(record["answers"], place))), None)
    names = [values.text(text, f"passage {number}", place) for number, text in enumerate(texts, 1)]
    return (values.text(record["query"], "query", place), first), list(zip(names, labels, strict=True))


def _teacher(record: Mapping[str, Any], place: Place) -> list[tuple[str, float | None]] | None:
    """Texts with their scores, the sign turned; None if the record has another layout."""
    texts: list[Any] = []
    scores: list[Any] = []
    if "pos" in record and "pos_scores" in record:
        for part in ("pos", "neg"):
            own, of_part = record.get(part) or [], record.get(f"{part}_scores")
            _refuse_unlike(own, of_part, part, place)
            texts += own
            scores += of_part or [None] * len(own)
    elif "positive" in record and (name := next((name for name in SCORES if name in record), None)):
        texts = [record["positive"], *values.negatives(record)]
        _refuse_unlike(texts, record[name], name, place)
        scores = record[name] or [None] * len(texts)
    else:
        return None
    names = [values.text(text, f"passage {number}", place) for number, text in enumerate(texts, 1)]
    found: dict[str, float | None] = {}
    for name, score in zip(names, scores, strict=True):
        if found.get(name) is None:  # a text keeps its first score
            found[name] = None if (loss := _loss(score, place)) is None else -loss
    return list(found.items())


def _refuse_unlike(texts: Any, scores: Any, name: str, place: Place) -> None:
    for value in (texts, scores):
        if not isinstance(value, list | None):
            raise values.refusal(name, "a list", value, place)
    if scores and len(scores) != len(texts):
        raise DataFileError(f"{place}: {len(texts)} texts and {len(scores)} scores of {name}. Give a score for each.")


def _asked(row: Row) -> PublishedQuestion:
    return row["query"], next(iter(row["answers"]), None)


def _loss(value: object, place: Place) -> float | None:
    """The loss; None if it is absent or not finite."""
    if isinstance(value, bool) or not isinstance(value, float | int | None):
        raise PublishedError(f"{place}: {COLUMN} holds {value!r}. Give a number for each passage, or null.")
    return value if value is not None and isfinite(value) else None


def _known(row: Row, losses: Mapping[PublishedQuestion, LossByText]) -> LossByText:
    """Losses by text; of a teacher's scores, with the worst in place of that without a passage."""
    if known := losses.get(_asked(row)):
        return known
    scored = losses.get((row["query"], ANY), {})
    finite = [loss for loss in scored.values() if loss is not None]
    return scored | {"": max(finite)} if finite else scored


def _labels(row: Row, losses: Mapping[PublishedQuestion, LossByText]) -> list[Row]:
    """The labels of every candidate and of the empty passage."""
    texts = {passage["passage_id"]: passage["text"] for passage in row["passages"]} | {NO_PASSAGE: ""}
    known, of_query = _known(row, losses), {"query_id": row["query_id"]}
    return [
        {**of_query, "passage_id": name, "answer_index": 0, "nll_sum": known.get(text), "n_tokens": None}
        for name, text in texts.items()
    ]


def _unmatched(rows: list[Row], losses: Mapping[PublishedQuestion, LossByText]) -> dict[str, int]:
    """Counts of questions with no passage published; of the others, passages and empty passages not published."""
    counts = Counter(dict.fromkeys(("questions", "passages", "empty_passages"), 0))
    for row in rows:
        known = _known(row, losses)
        absent = sum(passage["text"] not in known for passage in row["passages"])
        if absent == len(row["passages"]):
            counts["questions"] += 1
        else:
            counts["passages"] += absent
            counts["empty_passages"] += "" not in known
    return dict(counts)
