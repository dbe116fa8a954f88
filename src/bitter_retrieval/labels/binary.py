"""Label sources that need no model: true support, string match, the data's own selection, and a permutation.

truth_labels(rows)      {"query_id": "q1", "passage_id": "p4", "relevant": 1}, …
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from bitter_retrieval.records import NO_PASSAGE, SUPPORTING_ROLES, Row
from bitter_retrieval.scoring import normalise


def truth_labels(rows: Iterable[Row]) -> list[Row]:
    """The candidates that truly support the answer, as the generated world knows."""
    return _binary(rows, lambda row, passage: passage["role"] in SUPPORTING_ROLES)


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


def permuted_labels(labels: list[Row], seed: int) -> list[Row]:
    """Soft labels with the passages of each query permuted at random; the loss without a passage stays."""
    by_query: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for label in labels:
        by_query[label["query_id"]][label["passage_id"]].append(label)
    rng = np.random.default_rng(seed)
    return [
        {**label, "passage_id": passage_id}
        for by_passage in by_query.values()
        for passage_id, other in _exchange(list(by_passage), rng)
        for label in by_passage[other]
    ]


def _exchange(passage_ids: list[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs of a passage and the passage whose labels it gets."""
    real = [passage_id for passage_id in passage_ids if passage_id != NO_PASSAGE]
    shuffled = [real[place] for place in rng.permutation(len(real))]
    return [*zip(real, shuffled, strict=True), *((p, p) for p in passage_ids if p == NO_PASSAGE)]
