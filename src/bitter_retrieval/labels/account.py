"""A soft label source over one split in figures: its agreement with people, and its reader's use of passages.

A query with losses of .2 (human choice, truly supports), .5 and 3 nats a token, and 2 without a passage, has gains of
1.8, 1.5 and -1; every answer token is the reader's first choice given the first passage alone:

    {"queries": 1, "rows": 4, …, "human_label": {"questions": 1, "left_out": 0, "ties": 0, "disagreement": 0.0, …},
     "gain": {"mean": 0.7667, "median": 1.5, "positive_p95": 1.785}, "worse_than_none": 0.3333, …,
     "auc": {"pooled": 1.0, "within_query": 1.0, "queries": 1}, "exact_without_passage": 0.0,
     "exact_match_by_gain": […, {"gain_from": 1.0, "gain_to": 3.0, "passages": 2, "exact": 0.5}, …]}

soft.py chooses the reference that a loss is of; exact match is teacher-forced and counts for any reference.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from bitter_retrieval.labels.binary import selected_labels
from bitter_retrieval.labels.disagreement import disagreement
from bitter_retrieval.labels.soft import TIE, UTILITY_QUANTILE, LossesByQuery, candidate_losses, passage_losses
from bitter_retrieval.records import NO_PASSAGE, Row, supporting_passages

Array = NDArray[np.float64]
GAIN_EDGES = (-1.0, -0.1, 0.1, 1.0, 3.0)  # nats a token; a bin includes its lower edge
DECIMALS = 4


def account(rows: Sequence[Row], labels: Sequence[Row]) -> dict:
    """Figures of prepared rows and their soft labels (records.SOFT_LABELS with "exact" and "truncated" where known).

    A figure is None if it is unknown or nothing counts towards it; shares and gains are over labelled passages.
    Raises LabelError for a loss that is not finite.
    """
    losses, exact = passage_losses(labels), _exact(labels)
    found = [candidate_losses(row, losses) for row in rows]
    without = _without_passage(rows, losses)
    by_passage = _padded([list(known.values()) for known in found])
    gains = without[:, None] - by_passage
    candidates = sum(len({passage["passage_id"] for passage in row["passages"]}) for row in rows)
    return {
        "queries": len(rows),
        "rows": len(labels),
        "answer_tokens": _total(labels, "n_tokens"),
        "truncated_contexts": _total(labels, "truncated"),
        "queries_without_baseline": int(np.isnan(without).sum()),
        "candidates_without_label": candidates - sum(map(len, found)),
        "human_label": _human_label(rows, losses),
        **_gain(gains),
        "auc": _support_auc(by_passage, _padded(list(map(_supports, rows, found)))),
        "exact_without_passage": _figure(_without_passage(rows, exact)),
        "exact_match_by_gain": _by_gain(gains, _padded(_aligned(rows, found, exact))),
    }


def _exact(labels: Iterable[Row]) -> dict[str, dict[str, float]]:
    """By query_id and passage_id: 1.0 if any reference is matched, else 0.0; absent if unknown."""
    matched: dict[str, dict[str, float]] = {}
    for label in labels:
        if label.get("exact") is not None:
            of_query = matched.setdefault(label["query_id"], {})
            of_query[label["passage_id"]] = max(float(label["exact"]), of_query.get(label["passage_id"], 0.0))
    return matched


# -- arrays of queries [Q] and of their labelled candidates, padded with NaN [Q, C] ------------------------------------


def _without_passage(rows: Sequence[Row], values: LossesByQuery) -> Array:
    return np.array([values.get(row["query_id"], {}).get(NO_PASSAGE, np.nan) for row in rows], dtype=np.float64)


def _supports(row: Row, found: dict[str, float]) -> list[float]:
    supporting = supporting_passages(row)
    return [np.nan if supporting is None else float(passage in supporting) for passage in found]


def _aligned(rows: Sequence[Row], found: Sequence[dict], values: LossesByQuery) -> list[list[float]]:
    of_rows = (values.get(row["query_id"], {}) for row in rows)
    return [[of.get(passage, np.nan) for passage in known] for of, known in zip(of_rows, found, strict=True)]


def _padded(values: Sequence[Sequence[float]]) -> Array:
    lengths = np.array([len(of_query) for of_query in values], dtype=np.int64)
    there = np.arange(lengths.max(initial=1)) < lengths[:, None]
    table = np.full(there.shape, np.nan)
    table[there] = list(chain.from_iterable(values))
    return table


# -- figures -----------------------------------------------------------------------------------------------------------


def _figure(values: ArrayLike, of: Callable[[Array], float] = np.mean) -> float | None:
    """The mean (or `of`) of the values that are not NaN, rounded; None if there are none."""
    cells = np.asarray(values, dtype=np.float64)
    known = cells[~np.isnan(cells)]
    return round(float(of(known)), DECIMALS) if known.size else None


def _total(labels: Iterable[Row], column: str) -> int | None:
    values: list[Any] = [label.get(column) for label in labels]
    return None if None in values else int(sum(values))


def _human_label(rows: Sequence[Row], losses: LossesByQuery) -> dict | None:
    """Disagreement with the data's own annotation, by the rules of disagreement.py; None without annotation."""
    if all(passage["is_selected"] is None for row in rows for passage in row["passages"]):
        return None
    found = disagreement(rows, selected_labels(rows), losses)
    counts = {name: found[name] for name in ("questions", "left_out", "ties")}
    return counts | {name: _figure([found[name]]) for name in ("disagreement", "chance")}


def _gain(gains: Array) -> dict:
    """Figures of gains L0 - L [Q, C]. Below -TIE, a passage misleads the reader."""
    known = gains[~np.isnan(gains)]
    best = np.fmax.reduce(gains, axis=1)  # NaN where a query has no gain
    return {
        "gain": {
            "mean": _figure(known),
            "median": _figure(known, np.median),
            "positive_p95": _figure(known[known > 0], lambda positive: np.quantile(positive, UTILITY_QUANTILE)),
        },
        "worse_than_none": _figure(known < -TIE),
        "best_is_worse_than_none": _figure(best[~np.isnan(best)] < -TIE),
    }


def _support_auc(losses: Array, supports: Array) -> dict:
    """How well lower loss [Q, C] separates supporting (1) from other candidates (0); NaN is unknown."""
    within = _auc(losses, supports)
    return {
        "pooled": _figure(_auc(losses.reshape(1, -1), supports.reshape(1, -1))),
        "within_query": _figure(within),
        "queries": int((~np.isnan(within)).sum()),  # with candidates of both kinds
    }


def _auc(losses: Array, supports: Array) -> Array:
    """[Q] share of (supporting, other) pairs in which the supporting loss is lower, a tie counting half.

    This is Mann-Whitney's U as a share of the pairs, computed from ranks. NaN for a row without such a pair.
    """
    ranks = rankdata(np.where(np.isnan(supports), np.inf, losses), axis=1)  # unknown ones rank last
    n_supporting = (supports == 1).sum(1)
    pairs = n_supporting * (supports == 0).sum(1)
    higher = np.where(supports == 1, ranks, 0).sum(1) - n_supporting * (n_supporting + 1) / 2
    return np.divide(pairs - higher, pairs, out=np.full(len(losses), np.nan), where=pairs > 0)


def _by_gain(gains: Array, exact: Array) -> list[dict]:
    """Exact match [Q, C] of the passages in each bin of gains [Q, C]; an open end is None."""
    there = ~np.isnan(gains)
    bins, matched = np.digitize(gains[there], GAIN_EDGES), exact[there]
    return [
        {
            "gain_from": low,
            "gain_to": high,
            "passages": int((bins == number).sum()),
            "exact": _figure(matched[bins == number]),
        }
        for number, (low, high) in enumerate(pairwise((None, *GAIN_EDGES, None)))
    ]
