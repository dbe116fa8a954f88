"""From label rows to what losses read: one number a candidate, per query.

Soft labels (query, passage, answer) become a mean or summed answer loss, over the first, the best or all references:

    {"query_id": "q7", "passage_id": "p1", "answer_index": 0, "nll_sum": 2.1, "n_tokens": 3}    0.7 nats a token

Rows of prepared data say which passages a query's candidates are; with_labelled adds what a source has labelled beyond
them, scored_rows takes out what it could not label, with_empty adds the empty passage.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from bitter_retrieval.records import NEGATIVES, NO_PASSAGE, Row, passage_texts, read_rows
from bitter_retrieval.training.losses import utilities, utility_scale

Value = TypeVar("Value")
NEGATIVES_FILE = "negatives.parquet"  # beside the labels of a source that mines


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


def with_labelled(rows: list[Row], labels: list[Row]) -> list[Row]:
    """Rows with the passages that a source has labelled beyond the prepared candidates, after these.

    Their texts are those of the split's passages. Raises LabelError for a passage that is none of them.
    """
    texts = passage_texts(rows)
    own = {row["query_id"]: {NO_PASSAGE, *(p["passage_id"] for p in row["passages"])} for row in rows}
    beyond: dict[str, dict[str, Row]] = defaultdict(dict)
    for label in labels:
        query_id, passage_id = label["query_id"], label["passage_id"]
        if passage_id not in own.get(query_id, (passage_id,)):
            beyond[query_id][passage_id] = _passage(passage_id, texts, query_id)
    return [
        {**row, "passages": [*row["passages"], *beyond[row["query_id"]].values()]} if row["query_id"] in beyond else row
        for row in rows
    ]


def with_empty(rows: list[Row]) -> list[Row]:
    """Rows with the empty passage as one more candidate, whose label is the loss without a passage."""
    return [{**row, "passages": [*row["passages"], {"passage_id": NO_PASSAGE, "text": ""}]} for row in rows]


def mined_negatives(source: Path, rows: list[Row]) -> dict[str, list[Row]]:
    """Passages by query_id that the label source in folder `source` has mined for `rows`; none if it does not mine."""
    path, texts = source / NEGATIVES_FILE, passage_texts(rows)
    mined: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(path, NEGATIVES) if path.exists() else ():
        mined[row["query_id"]].append(_passage(row["passage_id"], texts, row["query_id"]))
    return dict(mined)


def _passage(passage_id: str, texts: dict[str, str], query_id: str) -> Row:
    if passage_id not in texts:
        raise LabelError(
            f"query {query_id}: passage {passage_id!r} of its labels is in no row of the split; the labels belong to "
            "other data. Run `dvc repro`."
        )
    return {"passage_id": passage_id, "text": texts[passage_id], "is_selected": None, "role": None}


def scored_rows(rows: list[Row], labels: list[Row]) -> tuple[list[Row], int, int]:
    """Rows without what a reader could not score, and how many queries and candidates that left out.

    A candidate is left out that lacks the loss of a reference by which its query's candidates are compared
    (_comparable); a query goes with its last candidate, or with its losses without a passage.
    """
    scored: dict[tuple[str, str], dict[int, Row]] = defaultdict(dict)
    for label in labels:
        if label["nll_sum"] is not None:
            scored[label["query_id"], label["passage_id"]][label["answer_index"]] = label
    null = {(label["query_id"], label["passage_id"]) for label in labels} - _comparable(scored).keys()
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
    rows: list[Row],
    labels: list[Row],
    source: str,
    nll: str,
    references: str,
    scale: float | None = None,
    gain: bool = False,
) -> Targets:
    """Answer loss and utility of each candidate.

    nll: mean or sum over the answer's tokens. references: first, best or mean over the reference answers.
    scale: nats that count as full utility; None takes the 95th percentile of the positive gains of these labels.
    gain: losses are L - L0, reference by reference, so that no passage has 0.
    Raises LabelError for a candidate without a label or a loss that is not finite.
    """
    losses = answer_losses(labels, nll, references, source, gain)
    by_query = [np.array([_find(losses, row, p, source) for p in row["passages"]], dtype=np.float32) for row in rows]
    without = np.array([_find(losses, row, {"passage_id": NO_PASSAGE}, source) for row in rows], dtype=np.float32)
    if scale is None:
        scale = utility_scale(np.concatenate([base - own for own, base in zip(by_query, without, strict=True)]))
    utility = [_utility(own, base, scale) for own, base in zip(by_query, without, strict=True)]
    return Targets(by_query, without, utility, [np.zeros(len(own), dtype=bool) for own in by_query], scale)


def answer_losses(
    labels: list[Row], nll: str, references: str, source: str, gain: bool = False
) -> dict[tuple[str, str], float]:
    """One loss for every (query_id, passage_id) of soft labels, in nats (a token, for nll mean).

    With `gain` the loss without a passage is taken off before the references become one: `best` is then the reference
    that the passage helps most, not the one that is easiest to guess. For first and mean that moves all losses of a
    query alike. A passage that lacks a loss of those that its query's passages are compared by has none here.
    """
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
    values = _comparable(values)
    if gain:
        values = {key: _over_no_passage(values, key) for key in values if (key[0], NO_PASSAGE) in values}
    reduce = {"first": lambda v: v[min(v)], "best": lambda v: min(v.values()), "mean": lambda v: np.mean([*v.values()])}
    return {key: float(reduce[references](by_answer)) for key, by_answer in values.items()}


def _comparable(scored: Mapping[tuple[str, str], Mapping[int, Value]]) -> dict[tuple[str, str], dict[int, Value]]:
    """Of each (query_id, passage_id), by reference, what a query's passages can all be compared by.

    These are the references that are scored without a passage; a pair that lacks one of them is left out, as another
    reference's loss in its place would say nothing of the passage.
    """
    found = {}
    for key, own in scored.items():
        wanted = scored.get((key[0], NO_PASSAGE), own)
        if wanted.keys() <= own.keys():
            found[key] = {index: own[index] for index in sorted(wanted)}
    return found


def _over_no_passage(values: dict[tuple[str, str], dict[int, float]], key: tuple[str, str]) -> dict[int, float]:
    """L - L0 of each reference."""
    without = values[key[0], NO_PASSAGE]
    return {index: value - without[index] for index, value in values[key].items()}


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
