"""Agreement of two judges on the same answers: how far a judge's figures can be trusted.

                        second: correct   incorrect
    first: correct                    a           b          (a, b, c, d) = (40, 10, 5, 45)
           incorrect                  c           d

    observed 0.85     expected by chance 0.50     kappa = (observed - expected) / (1 - expected) = 0.70

Cohen's kappa (1960, Educational and Psychological Measurement 20(1), 37-46), with the percentile interval of a
bootstrap over groups of questions. Judges that never disagree get the lowest kappa that these groups allow, as in
statistics.py: a share of disagreements of 1 - .025^(1/G) among G groups, at the observed rates. Agreement by class is
the specific agreement 2a / (2a + b + c) and 2d / (2d + b + c): of one judge's verdicts of that class, the share that
the other judge confirms. Answers that lack a verdict of either judge are counted and left out. NaN means undefined, as
kappa is where both judges give every answer the same verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitter_retrieval.judging.judges import Case, judgement_key
from bitter_retrieval.records import Row
from bitter_retrieval.statistics.statistics import LEVEL, Design, unvaried_ends

UNDEFINED = LEVEL / 2  # no interval if a larger share of the resamples has no kappa


class AgreementError(ValueError):
    """Judgements that cannot be compared."""


@dataclass(frozen=True)
class Agreement:
    answers: int  # with a verdict of both judges
    first_alone: int  # answers that the second judge did not judge
    second_alone: int
    neither: int
    counts: tuple[int, int, int, int]  # a, b, c, d
    observed: float  # share of the answers on which they agree
    kappa: float
    low: float  # of its 95% interval
    high: float
    on_correct: float
    on_incorrect: float
    first_rate: float  # share that the first judge calls correct
    second_rate: float


class Verdicts:
    """The verdicts in a table of judgements, which must be of one judge."""

    def __init__(self, rows: Sequence[Row], source: str) -> None:
        judges = {(row["judge"], row["model"]) for row in rows}
        if len(judges) != 1:
            raise AgreementError(f"{source}: must hold the verdicts of one judge, got {sorted(judges) or 'no rows'}.")
        self.judge, self.model = judges.pop()
        self._said = {row["key"]: row["verdict"] == "correct" for row in rows if row["verdict"] != "missing"}

    def of(self, case: Case) -> bool | None:
        """Whether the answer is correct; None without a verdict."""
        return self._said.get(judgement_key(case.query, case.references, case.answer, self.judge, self.model))


def agreement(cases: Mapping[Case, str], first: Verdicts, second: Verdicts, draws: int, seed: int) -> Agreement:
    """Compare two judges. cases: distinct answers, each with the group of its question."""
    pairs = [(first.of(case), second.of(case), group) for case, group in cases.items()]
    both = [(one, other, group) for one, other, group in pairs if one is not None and other is not None]
    cells = np.array([2 * (not one) + (not other) for one, other, _ in both], dtype=np.int64)
    tables = np.eye(4, dtype=np.int64)[cells]  # [answers, 4]
    a, b, c, d = (int(count) for count in tables.sum(0))
    low, high = _interval(tables, [group for *_, group in both], draws, seed)
    return Agreement(
        answers=len(both),
        first_alone=sum(one is not None and other is None for one, other, _ in pairs),
        second_alone=sum(one is None and other is not None for one, other, _ in pairs),
        neither=sum(one is None and other is None for one, other, _ in pairs),
        counts=(a, b, c, d),
        observed=_share(a + d, len(both)),
        kappa=float(kappa((a, b, c, d))),
        low=low,
        high=high,
        on_correct=_share(2 * a, 2 * a + b + c),
        on_incorrect=_share(2 * d, 2 * d + b + c),
        first_rate=_share(a + b, len(both)),
        second_rate=_share(a + c, len(both)),
    )


def kappa(counts: ArrayLike) -> NDArray[np.float64]:
    """Cohen's kappa of counts a, b, c, d in the last dimension; NaN where agreement by chance is certain."""
    a, b, c, d = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    # Numerator and denominator of (observed - expected) / (1 - expected) times n², which keeps them whole numbers: the
    # denominator is exactly 0 where kappa is undefined.
    beyond_chance, most = 2 * (a * d - b * c), (a + b) * (b + d) + (a + c) * (c + d)
    return np.divide(beyond_chance, most, out=np.full(most.shape, np.nan), where=most > 0)


def _interval(tables: NDArray[np.int64], groups: Sequence[str], draws: int, seed: int) -> tuple[float, float]:
    if len(set(groups)) < 2:
        return np.nan, np.nan
    names, place = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(names), 4), dtype=np.int64)
    np.add.at(sums, place, tables)
    drawn = kappa(Design(groups, 1, draws, seed).group_counts.astype(np.int64) @ sums)
    if np.isnan(drawn).mean() > UNDEFINED:
        return np.nan, np.nan
    a, b, c, d = sums.sum(0)
    if b == c == 0:  # every resample has kappa 1, which is not certainty
        _, disagreement = unvaried_ends(0.0, len(names), (0.0, 1.0), LEVEL / 2)
        by_chance = (a**2 + d**2) / (a + d) ** 2
        return float(max(-1.0, 1 - disagreement / (1 - by_chance))), 1.0
    low, high = np.nanquantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan
