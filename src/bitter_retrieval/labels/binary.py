"""Label sources that need no model: true support, string match and the data's own selection.

truth_labels(rows)      {"query_id": "q1", "passage_id": "p4", "relevant": 1}, …
"""

from collections.abc import Callable, Iterable
from typing import Literal

from bitter_retrieval.labels.draws import uniform
from bitter_retrieval.records import SUPPORTING_ROLES, Row
from bitter_retrieval.scoring import normalise


def truth_labels(rows: Iterable[Row], supports: Literal["all", "one"] = "all", seed: int = 0) -> list[Row]:
    """The candidates that truly support the answer, as the generated world knows: all, or one of them drawn by seed."""
    if supports == "one":
        return _binary(rows, lambda row, passage: passage["passage_id"] == _one_support(row, seed))
    return _binary(rows, lambda row, passage: passage["role"] in SUPPORTING_ROLES)


def _one_support(row: Row, seed: int) -> str | None:
    supporting = [passage["passage_id"] for passage in row["passages"] if passage["role"] in SUPPORTING_ROLES]
    return supporting[int(len(supporting) * uniform(seed, row["query_id"]))] if supporting else None


def selected_labels(rows: Iterable[Row]) -> list[Row]:
    """The candidates that the data's annotators selected; candidates without an annotation count as not selected."""
    return _binary(rows, lambda row, passage: passage["is_selected"] == 1)


def has_answer_labels(rows: Iterable[Row]) -> list[Row]:
    """Candidates that contain a reference answer as whole words, after SQuAD's normalisation."""
    return _binary(rows, lambda row, passage: any(_contains(passage["text"], answer) for answer in row["answers"]))


def _contains(text: str, answer: str) -> bool:
    words = normalise(answer)
    return bool(words) and f" {words} " in f" {normalise(text)} "


def _binary(rows: Iterable[Row], rule: Callable[[Row, Row], bool]) -> list[Row]:
    return [
        {"query_id": row["query_id"], "passage_id": passage["passage_id"], "relevant": int(rule(row, passage))}
        for row in rows
        for passage in row["passages"]
    ]
