"""How far label sources agree on the order of a question's candidates, and on the best one.

    source_agreements(rows, {"reader_a": (soft rows, True), "human": (binary rows, False), …}, Design(groups, …))
        [SourceAgreement(first="reader_a", second="reader_b", questions=640, few_candidates=0, tied=0,
                         tau=Estimate(mean=0.53, low=0.51, …), disagreement=Estimate(mean=0.36, …), chance=0.9), …]

Orders are compared by Kendall's tau-b of each question, and only between two soft sources. Best passages are compared
between any two: the passage of lowest loss of a soft source, the marked ones of a binary source. Between a soft and a
binary source, the question is whether the soft one's best is marked (as in labels/disagreement.py); between two of a
kind, both directions are averaged. Ties count in fractions. A question is left out if fewer than two candidates have a
label of both sources, or if one source ranks all candidates level (a binary one that marks none, or all). Intervals are
over groups.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from bitter_retrieval.bm25 import scores_of
from bitter_retrieval.labels.binary import has_answer_labels
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
from bitter_retrieval.scoring import normalise
from bitter_retrieval.statistics.statistics import Design, Estimate

RANK, WORDS, ELSEWHERE = "BM25 rank of the marked", "words of the answer", "answer elsewhere too"
KINDS = RANK, WORDS, ELSEWHERE


@dataclass(frozen=True)
class SourceAgreement:
    """Two label sources on the questions where they can be compared; estimates are NaN if there is none."""

    first: str
    second: str
    questions: int  # compared
    few_candidates: int  # left out: fewer than two candidates with both labels
    tied: int  # left out: one source ranks all candidates level
    tau: Estimate | None  # Kendall's tau-b, mean of the questions; None unless both sources are soft
    disagreement: Estimate  # share of questions whose best passages differ
    chance: float  # disagreement if one source put a random candidate first


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
    figures, left_out = np.full((3, len(rows)), np.nan), Counter[str]()
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
    tau = design.estimate(figures[:1], bounds=(-1.0, 1.0))
    disagreement, chance = (design.estimate(values[None]) for values in figures[1:])
    counts = len(rows) - left_out.total(), left_out["few"], left_out["tied"]
    return SourceAgreement(first[0], second[0], *counts, tau if soft == 2 else None, disagreement, chance.mean)


def _level(losses: Losses) -> bool:
    return max(losses.values()) - min(losses.values()) <= TIE


def _tau(one: Losses, other: Losses) -> float:
    """Kendall's tau-b of losses rounded to the width of a tie."""
    ranked = (np.round(np.array(list(losses.values())) / TIE) for losses in (one, other))
    return float(kendalltau(*ranked, method="asymptotic").statistic)  # the method affects only the p value


def _differ(one: Losses, other: Losses, both_ways: bool) -> tuple[float, float]:
    """Share of the best of one that are not among the best of the other, and the same for a random candidate."""
    best, wanted = best_passages(one), best_passages(other)
    ways = [(best, wanted), (wanted, best)][: 1 + both_ways]
    return (
        float(np.mean([share_outside(these, those) for these, those in ways])),
        float(np.mean([1 - len(those) / len(one) for _, those in ways])),
    )


# -- by kind of question ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stratum:
    """Questions of one kind; estimates are NaN if none of them can be compared."""

    by: str  # what tells the kinds apart
    kind: str
    agreed: Estimate  # share of questions whose passage of lowest loss is a marked one; its n_questions were compared
    chance: float  # the same if the passage were a random candidate
    answered: Estimate  # share of the other questions whose passage of lowest loss holds an answer all the same


def strata(rows: Sequence[Row], soft: Sequence[Row], binary: Sequence[Row], design: Design) -> list[Stratum]:
    """How often a reader's lowest loss is a passage that a binary source marks, over all questions and by kind.

    Kinds: the best rank of a marked candidate by BM25 among the question's own (with the word frequencies of all
    candidates of `rows`), the words of the shortest answer, and whether a candidate without a mark holds an answer.
    Left out as by source_agreements: questions with fewer than two candidates that both label, or all level.
    """
    losses, marks = passage_losses(soft), _marks(binary)
    holding = {(row["query_id"], row["passage_id"]) for row in has_answer_labels(rows) if row["relevant"]}
    agreed, chance, answered = np.full((3, len(rows)), np.nan)
    kinds: dict[str, list[str | None]] = {name: [None] * len(rows) for name in ("", *KINDS)}
    for number, (row, scores) in enumerate(zip(rows, _scores(rows), strict=True)):
        one, other = candidate_losses(row, losses), candidate_losses(row, marks)
        one, other = ({passage: found[passage] for passage in one if passage in other} for found in (one, other))
        if len(one) < 2 or _level(one) or _level(other):
            continue
        best, marked = best_passages(one), best_passages(other)
        held = {passage for passage in one if (row["query_id"], passage) in holding}
        agreed[number], chance[number] = 1 - share_outside(best, marked), len(marked) / len(one)
        if not best & marked:
            answered[number] = 1 - share_outside(best, held)
        rank = 1 + sum(score > max(scores[passage] for passage in marked) for score in scores.values())
        kinds[""][number] = "all"
        kinds[RANK][number] = _band(rank, (1, 2, 4))
        kinds[WORDS][number] = _band(min(len(normalise(answer).split()) for answer in row["answers"]), (1, 2, 3, 5))
        kinds[ELSEWHERE][number] = "yes" if held - marked else "no"
    found = []
    for by, of_rows in kinds.items():
        for kind in sorted({kind for kind in of_rows if kind}):
            of_kind = np.array([one == kind for one in of_rows])
            shares = (np.where(of_kind, values, np.nan)[None] for values in (agreed, chance, answered))
            estimates = [design.estimate(values) for values in shares]
            found.append(Stratum(by, kind, estimates[0], estimates[1].mean, estimates[2]))
    return found


def _scores(rows: Sequence[Row]) -> Iterator[dict[str, float]]:
    """BM25 of each question's own candidates, by passage_id."""
    texts = {passage["text"]: None for row in rows for passage in row["passages"]}
    places = {text: place for place, text in enumerate(texts)}
    for row, scores in zip(rows, scores_of(list(texts), [row["query"] for row in rows]), strict=True):
        yield {passage["passage_id"]: float(scores[places[passage["text"]]]) for passage in row["passages"]}


def _band(number: int, starts: Sequence[int]) -> str:
    """The band of a count: 1, 2-3 and "4 or more" for starts 1, 2, 4; 0 belongs to the first."""
    place = max(bisect_right(starts, number) - 1, 0)
    if place == len(starts) - 1:
        return f"{starts[place]} or more"
    last = starts[place + 1] - 1
    return f"{starts[place]}" if last == starts[place] else f"{starts[place]}-{last}"
