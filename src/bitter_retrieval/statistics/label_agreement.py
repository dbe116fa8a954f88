"""How far label sources agree: the order that they give a question's candidates, and the candidate that they put first.

    source_agreements(rows, {"reader_a": (soft rows, True), "human": (binary rows, False), …}, Design(groups, …))
        [SourceAgreement(first="reader_a", second="reader_b", questions=640, few_candidates=0, tied=0,
                         tau=Estimate(mean=0.53, low=0.51, …), disagreement=Estimate(mean=0.36, …), chance=0.9), …]

Kendall's tau-b of each question compares the order, between two soft sources alone. Whether the best passages agree is
asked of any two: a soft source's best is the passage of lowest loss, a binary source's are those that it marks. A soft
source's best is looked for among a binary source's, as in disagreement.py; two of a kind are asked both ways and the
answers averaged. Ties count in fractions. A question is left out where fewer than two candidates have a label of both
sources, or where one of them puts all candidates level, as one does that marks none, or all. Intervals are over groups.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from bitter_retrieval.labels.soft import (
    TIE,
    Losses,
    LossesByQuery,
    best_passages,
    candidate_losses,
    passage_losses,
    share_outside,
)
from bitter_retrieval.records import Row
from bitter_retrieval.statistics.statistics import Design, Estimate


@dataclass(frozen=True)
class SourceAgreement:
    """Two label sources over the questions where they can be compared; NaN in an estimate: they nowhere can."""

    first: str
    second: str
    questions: int  # that count
    few_candidates: int  # left out: fewer than two candidates with both labels
    tied: int  # left out: level for one of the sources
    tau: Estimate | None  # Kendall's tau-b, mean of the questions; None unless both sources are soft
    disagreement: Estimate  # share of questions whose best passages differ
    chance: float  # what it would be if one source put a random candidate first


def source_agreements(
    rows: Sequence[Row], sources: Mapping[str, tuple[Sequence[Row], bool]], design: Design
) -> list[SourceAgreement]:
    """Every two sources over prepared rows, soft ones first; `design` holds the groups of the rows.

    sources: label rows by name, and whether they are soft (as records.read_labels returns them).
    """
    soft = {name for name, (_, is_soft) in sources.items() if is_soft}
    names = sorted(sources, key=lambda name: name not in soft)
    losses = {
        name: passage_losses(labels, source=name) if is_soft else _marks(labels)
        for name, (labels, is_soft) in sources.items()
    }
    return [
        _compared(rows, design, (first, losses[first]), (second, losses[second]), (first in soft) + (second in soft))
        for first, second in combinations(names, 2)
    ]


def _marks(labels: Iterable[Row]) -> dict[str, dict[str, float]]:
    """0 for a candidate that is marked, else 1, by query_id and passage_id."""
    marks: dict[str, dict[str, float]] = {}
    for row in labels:
        marks.setdefault(row["query_id"], {})[row["passage_id"]] = float(not row["relevant"])
    return marks


def _compared(
    rows: Sequence[Row],
    design: Design,
    first: tuple[str, LossesByQuery],
    second: tuple[str, LossesByQuery],
    soft: int,
) -> SourceAgreement:
    figures, left_out = np.full((3, len(rows)), np.nan), Counter()
    for number, row in enumerate(rows):
        one, other = (candidate_losses(row, losses) for _, losses in (first, second))
        both = [passage for passage in one if passage in other]
        one, other = ({passage: losses[passage] for passage in both} for losses in (one, other))
        if len(both) < 2:
            left_out["few"] += 1
        elif _level(one) or _level(other):
            left_out["tied"] += 1
        else:
            figures[:, number] = _tau(one, other) if soft == 2 else np.nan, *_differ(one, other, both_ways=soft != 1)
    tau, disagreement, chance = (design.estimate(values[None]) for values in figures)
    counts = len(rows) - left_out.total(), left_out["few"], left_out["tied"]
    return SourceAgreement(first[0], second[0], *counts, tau if soft == 2 else None, disagreement, chance.mean)


def _level(losses: Losses) -> bool:
    return max(losses.values()) - min(losses.values()) <= TIE


def _tau(one: Losses, other: Losses) -> float:
    """Kendall's tau-b; losses are told apart to the width of a tie."""
    ranked = (np.round(np.array(list(losses.values())) / TIE) for losses in (one, other))
    return float(kendalltau(*ranked, method="asymptotic").statistic)  # the method is that of the p value, not used


def _differ(one: Losses, other: Losses, both_ways: bool) -> tuple[float, float]:
    """Whether the best of one is not among the best of the other, and how often a random candidate would not be."""
    best, wanted = best_passages(one), best_passages(other)
    ways = [(best, wanted), (wanted, best)][: 1 + both_ways]
    return (
        float(np.mean([share_outside(these, those) for these, those in ways])),
        float(np.mean([1 - len(those) / len(one) for _, those in ways])),
    )
