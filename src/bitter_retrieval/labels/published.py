"""Published soft labels, matched with our rows by content: query, first reference and passage text.

MS MARCO's layout with the mean answer loss of each passage, nats a token, and the empty passage last:

    {"query": "which river is in warsaw", "answers": ["the Vistula"],
     "passages": {"passage_text": ["Warsaw is …", "Warsaw lies on …", ""], "soft_labels": [3.1, 0.2, 2.7], …}, …}

become rows of records.SOFT_LABELS of the first reference, with n_tokens null, as only the mean is known:

    {"query_id": "1185", "passage_id": "", "answer_index": 0, "nll_sum": 2.7, "n_tokens": None}

A passage that was not published gets a null label, like one that a reader could not score: runs leave it out and report
it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from bitter_retrieval.files import values
from bitter_retrieval.files.tables import Layout, Place, Record, check_layout
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import NO_PASSAGE, Row

COLUMN = "soft_labels"
LAYOUT = Layout(
    ("query", "answers", "passages"), (), f"query, answers and passages, {{passage_text: […], {COLUMN}: […]}}"
)

# query and first reference, as a loss is of one reference
PublishedQuestion = tuple[str, str | None]
LossByText = dict[str, float | None]


class PublishedError(ValueError):
    """Labels that belong to other data, or are no losses; the message has the place, the value and the remedy."""


def published_labels(
    records: Iterable[Record], splits: Mapping[str, list[Row]], where: str
) -> tuple[dict[str, list[Row]], dict[str, dict[str, int]], dict[str, int]]:
    """Labels by split, counts by split of what has none, and counts of published rows that are not used.

    where: the published rows' name in errors. Raises PublishedError, and DataFileError for a row of another layout.
    """
    losses, unused = _losses(records, {_asked(row) for rows in splits.values() for row in rows})
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
    records: Iterable[Record], wanted: set[PublishedQuestion]
) -> tuple[dict[PublishedQuestion, LossByText], dict[str, int]]:
    """Losses by question and text, and counts of the rows. A repeated question keeps each text's first loss."""
    found: dict[PublishedQuestion, LossByText] = {}
    queries = {query for query, _ in wanted}
    unused = Counter(dict.fromkeys(("rows", "other_queries", "other_answers", "repeated_queries", "not_finite"), 0))
    for place, record in records:
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


def _read(record: Any, place: Place) -> tuple[PublishedQuestion, list[tuple[str, Any]]]:
    """The question, with None for an absent answer, and each passage's text with its value in COLUMN."""
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


def _asked(row: Row) -> PublishedQuestion:
    return row["query"], row["answers"][0]


def _loss(value: object, place: Place) -> float | None:
    """The loss; None if it is absent or not finite."""
    if isinstance(value, bool) or not isinstance(value, float | int | None):
        raise PublishedError(f"{place}: {COLUMN} holds {value!r}. Give a number for each passage, or null.")
    return value if value is not None and isfinite(value) else None


def _labels(row: Row, losses: Mapping[PublishedQuestion, LossByText]) -> list[Row]:
    """The labels of every candidate and of the empty passage."""
    texts = {passage["passage_id"]: passage["text"] for passage in row["passages"]} | {NO_PASSAGE: ""}
    known, of_query = losses.get(_asked(row), {}), {"query_id": row["query_id"]}
    return [
        {**of_query, "passage_id": name, "answer_index": 0, "nll_sum": known.get(text), "n_tokens": None}
        for name, text in texts.items()
    ]


def _unmatched(rows: list[Row], losses: Mapping[PublishedQuestion, LossByText]) -> dict[str, int]:
    """Counts of questions with no passage published; of the others, passages and empty passages not published."""
    counts = Counter(dict.fromkeys(("questions", "passages", "empty_passages"), 0))
    for row in rows:
        known = losses.get(_asked(row), {})
        absent = sum(passage["text"] not in known for passage in row["passages"])
        if absent == len(row["passages"]):
            counts["questions"] += 1
        else:
            counts["passages"] += absent
            counts["empty_passages"] += "" not in known
    return dict(counts)
