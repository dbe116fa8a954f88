"""From label rows to what losses read: one number a candidate, per query.

Soft labels (query, passage, answer) become a mean or summed answer loss, over the first, the best or all references:

    {"query_id": "q7", "passage_id": "p1", "answer_index": 0, "nll_sum": 2.1, "n_tokens": 3}    0.7 nats a token
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from bitter_retrieval.losses import utilities, utility_scale
from bitter_retrieval.records import NO_PASSAGE, Row


class LabelError(ValueError):
    """Labels that do not fit the prepared data."""


@dataclass(frozen=True)
class Targets:
    """Labels of one split, by query, aligned with the query's candidates (C of them)."""

    nll: list[np.ndarray]  # [C] float32 each, nats; zeros for binary sources
    no_passage_nll: np.ndarray  # [queries] float32; zeros for binary sources
    utility: list[np.ndarray]  # [C] in [0, 1] each
    relevant: list[np.ndarray]  # [C] bool each; all False for soft sources
    scale: float | None  # nats that count as full utility; None for binary sources


def scored_rows(rows: list[Row], labels: list[Row]) -> tuple[list[Row], int, int]:
    """Rows without what a reader could not score, and how many queries and candidates that left out.

    A candidate whose label is null is left out; a query goes with its last candidate, or with its loss without a
    passage.
    """
    scored = {(label["query_id"], label["passage_id"]) for label in labels if label["nll_sum"] is not None}
    null = {(label["query_id"], label["passage_id"]) for label in labels} - scored
    if not null:
        return rows, 0, 0
    kept = [
        {**row, "passages": [p for p in row["passages"] if (row["query_id"], p["passage_id"]) not in null]}
        for row in rows
        if (row["query_id"], NO_PASSAGE) not in null
    ]
    kept = [row for row in kept if row["passages"]]
    candidates = sum(len(row["passages"]) for row in rows) - sum(len(row["passages"]) for row in kept)
    return kept, len(rows) - len(kept), candidates


def binary_targets(rows: list[Row], labels: list[Row], source: str) -> Targets:
    """Relevance of each candidate. Raises LabelError for a candidate without a label."""
    relevant = {(label["query_id"], label["passage_id"]): bool(label["relevant"]) for label in labels}
    by_query = [np.array([_find(relevant, row, p, source) for p in row["passages"]], dtype=bool) for row in rows]
    zeros = [np.zeros(len(r), dtype=np.float32) for r in by_query]
    return Targets(zeros, np.zeros(len(rows), dtype=np.float32), zeros, by_query, None)


def soft_targets(
    rows: list[Row], labels: list[Row], source: str, nll: str, references: str, scale: float | None = None
) -> Targets:
    """Answer loss and utility of each candidate.

    nll: mean or sum over the answer's tokens. references: first, best or mean over the reference answers.
    scale: nats that count as full utility; None takes the 95th percentile of the positive gains of these labels.
    Raises LabelError for a candidate without a label or a loss that is not finite.
    """
    losses = answer_losses(labels, nll, references, source)
    by_query = [np.array([_find(losses, row, p, source) for p in row["passages"]], dtype=np.float32) for row in rows]
    without = np.array([_find(losses, row, {"passage_id": NO_PASSAGE}, source) for row in rows], dtype=np.float32)
    if scale is None:
        scale = utility_scale(np.concatenate([base - own for own, base in zip(by_query, without, strict=True)]))
    utility = [_utility(own, base, scale) for own, base in zip(by_query, without, strict=True)]
    return Targets(by_query, without, utility, [np.zeros(len(own), dtype=bool) for own in by_query], scale)


def answer_losses(labels: list[Row], nll: str, references: str, source: str) -> dict[tuple[str, str], float]:
    """One loss for every (query_id, passage_id) of soft labels, in nats (a token, for nll mean)."""
    values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for label in labels:
        if label["nll_sum"] is None:
            continue
        value = label["nll_sum"] / (label["n_tokens"] or 1) if nll == "mean" else label["nll_sum"]
        if not np.isfinite(value):
            raise LabelError(
                f"labels {source}: query {label['query_id']}, passage {label['passage_id']!r}: loss {value} is not "
                f"finite. Delete data/labels/{source} and run `dvc repro`; if it stays, the reader is broken."
            )
        values[label["query_id"], label["passage_id"]][label["answer_index"]] = value
    reduce = {"first": lambda v: v[min(v)], "best": lambda v: min(v.values()), "mean": lambda v: np.mean([*v.values()])}
    return {key: float(reduce[references](by_answer)) for key, by_answer in values.items()}


def _utility(nll: np.ndarray, without: np.float32, scale: float) -> np.ndarray:
    return utilities(torch.from_numpy(nll), torch.tensor(without), scale).numpy()


def _find(labels: dict[tuple[str, str], float], row: Row, passage: Row, source: str) -> float:
    key = (row["query_id"], passage["passage_id"])
    if key not in labels:
        raise LabelError(
            f"labels {source}: query {key[0]}, passage {key[1]!r} has no label; the labels belong to other data. "
            f"Run `dvc repro label@{source}`."
        )
    return labels[key]
