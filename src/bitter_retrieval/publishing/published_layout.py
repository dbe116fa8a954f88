"""Soft labels in the published layout: MS MARCO's columns, one mean answer loss a passage, the empty passage last.

    {"query_id": 1185, "query": "which river is in warsaw", "query_type": "", "wellFormedAnswers": [],
     "answers": ["the Vistula"],
     "passages": {"is_selected": [0, 1, 0], "passage_text": ["Warsaw is …", "Warsaw lies on …", ""],
                  "url": ["", "", ""], "soft_labels": [3.12, 0.08, 2.71]}}

A soft label is the loss of the first reference, in nats a token, as a run learns from it with `nll: mean` and
`references: first`. A second table, the records, keeps all losses, a row a (query, passage, reference):

    {"query_id": 1185, "group_id": "1185", "passage_id": "p7", "passage_index": 1, "answer_index": 0,
     "nll_sum": 0.24, "n_tokens": 3}

Unknown values are null: is_selected in data without annotation, the loss of an answer that could not be scored.
"""

from collections.abc import Iterable

import pyarrow as pa

from bitter_retrieval.labels.soft import LabelError, LossesByQuery, passage_losses
from bitter_retrieval.labels.targets import with_empty, with_labelled
from bitter_retrieval.records import NO_PASSAGE, SOFT_LABELS, Row

LARGEST = 2**31 - 1  # MS MARCO's query_id has 32 bits
TEXTS = pa.list_(pa.string())
PASSAGES = pa.struct(
    [
        ("is_selected", pa.list_(pa.int32())),
        ("passage_text", TEXTS),
        ("url", TEXTS),  # prepared rows have none
        ("soft_labels", pa.list_(pa.float64())),
    ]
)


def whole_ids(rows: Iterable[Row]) -> bool:
    """Whether all query_ids are whole numbers that fit into 32 bits, as in MS MARCO."""
    return all(
        name.isdecimal() and str(int(name)) == name and int(name) <= LARGEST for name in (r["query_id"] for r in rows)
    )


def published_tables(rows: list[Row], labels: list[Row], source: str, whole: bool) -> tuple[pa.Table, pa.Table]:
    """Prepared rows with their soft label rows in the published layout, and the records.

    Passages that the source has labelled in addition to the prepared candidates follow these. whole: query_ids are
    numbers. Raises LabelError if labels belong to other data.
    """
    rows = with_empty(with_labelled(rows, labels))
    losses = passage_losses(labels, references="first", source=source)
    query_id, name = (pa.int32(), int) if whole else (pa.string(), str)
    published = [_published(row, losses) for row in rows]
    records = list(_records(rows, labels, source))
    return tuple(
        pa.Table.from_pylist([row | {"query_id": name(row["query_id"])} for row in table], pa.schema(columns))
        for table, columns in ((published, _published_columns(query_id)), (records, _record_columns(query_id)))
    )


def _published_columns(query_id: pa.DataType) -> list[tuple[str, pa.DataType]]:
    known = [("answers", TEXTS), ("passages", PASSAGES), ("query", pa.string()), ("query_id", query_id)]
    return [*known, ("query_type", pa.string()), ("wellFormedAnswers", TEXTS)]


def _record_columns(query_id: pa.DataType) -> list[tuple[str, pa.DataType]]:
    place = [("group_id", pa.string()), ("passage_id", pa.string()), ("passage_index", pa.int32())]
    return [
        ("query_id", query_id),
        *place,
        *((name, SOFT_LABELS.field(name).type) for name in ("answer_index", "nll_sum", "n_tokens")),
    ]


def _published(row: Row, losses: LossesByQuery) -> Row:
    passages, known = row["passages"], losses.get(row["query_id"], {})
    return {
        "answers": row["answers"],
        "passages": {
            "is_selected": [0 if p["passage_id"] == NO_PASSAGE else p["is_selected"] for p in passages],
            "passage_text": [p["text"] for p in passages],
            "url": [""] * len(passages),
            "soft_labels": [known.get(p["passage_id"]) for p in passages],
        },
        "query": row["query"],
        "query_id": row["query_id"],
        "query_type": "",
        "wellFormedAnswers": [],
    }


def _records(rows: Iterable[Row], labels: Iterable[Row], source: str) -> Iterable[Row]:
    """Labels in their order, with the group of the question and the place of the passage."""
    places = {
        (row["query_id"], passage["passage_id"]): {"group_id": row["group_id"], "passage_index": index}
        for row in rows
        for index, passage in enumerate(row["passages"])
    }
    for label in labels:
        key = label["query_id"], label["passage_id"]
        if key not in places:
            raise LabelError(
                f"labels {source}: query {key[0]} is in no prepared row; the labels belong to other data. Run `dvc "
                f"repro label@{source}`."
            )
        yield label | places[key]
