"""Means, differences and verdicts with the uncertainty of questions and of training seeds together.

Scores of a system are a float array [seeds, questions] such as exact match, NaN where a score is missing:

    design = Design(groups=["c1", "c1", "c2", …], seeds=3, draws=4000, seed=0)
    design.estimate(kl)                       Estimate(mean=0.61, low=0.57, high=0.65, seed_sd=0.008, …)
    design.differences({"kl": kl}, infonce)   {"kl": Difference(mean=0.05, low=0.02, high=0.08, …, verdict="better")}

The squared standard error of a mean is what groups of questions say of it, plus what seeds say: each the variance of
their means over their number. With Satterthwaite's degrees of freedom this is the test min F' of Clark (1973, Journal
of Verbal Learning and Verbal Behavior 12, 335-359). It errs on the wide side by what groups and seeds do to each other.

How several differences err together is what a bootstrap tells: a draw takes groups with replacement and, apart from
that, seeds with replacement; its statistic is the mean over the cells (seed, question) of that product that are not
missing (the pigeonhole bootstrap: Owen 2007, Annals of Applied Statistics 1(2), 386-411). All systems share the draws.
It does not give the standard errors: of S seeds it shows (S - 1) / S of their variance, and three seeds are too few for
normal quantiles. Where seeds differ by 3 points, that would call one of nine equal runs different in 10% of experiments
instead of 7% (src/calibrate.py).

A difference is paired by seed and question. One seed alone says nothing of seeds: the interval then holds for those
trained models, not for training again. Where no group differs from another and no seed either, the interval has no
width: all that the data can say, not certainty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import copysign, inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # scipy.stats takes half a second to import

Array = NDArray[np.float64]
LEVEL = 0.05
POWER = 0.8
BLOCK = 500  # draws weighted at a time: bounds memory where every question is a group
DECIMALS = 12  # beyond them only the order of summing shows


@dataclass(frozen=True)
class Estimate:
    """Mean score with its 95% interval, cut to the range of the scores; NaN where fewer than two groups have one."""

    mean: float
    low: float
    high: float
    seed_sd: float  # standard deviation of the seeds' means; NaN with one seed
    n_questions: int  # with a score for at least one seed
    n_missing: int  # cells without a score


@dataclass(frozen=True)
class Difference:
    """System minus baseline over the pairs (seed, question) where both have a score. NaN: it cannot be computed.

    `low`, `high`, `p_adjusted` hold for all compared systems at once. `p_equivalent` is the larger of two one-sided
    tests against -+equivalence, of this system alone. Neither p goes below what the signs of G groups could show,
    2^(1-G) and 2^-G, so a handful of groups decides nothing; only where no group and no seed differs from 0 are two
    systems called equivalent however few the groups. Better and worse go before equivalent. Where fewer than two groups
    have a pair, there is neither interval nor p, and the verdict is inconclusive.
    """

    mean: float
    low: float
    high: float
    p_adjusted: float
    p_equivalent: float
    mde: float  # difference that would be found, better or worse, with 80% power
    seed_sd: float  # of the paired differences of the seeds
    n_missing: int  # pairs left out
    worst_low: float  # mean over all pairs if every missing score, within 0 and 1, spoke against the system
    worst_high: float  # the same in its favour; both NaN if scores are missing and others lie outside 0 and 1
    verdict: str  # better, worse, equivalent or inconclusive


@dataclass(frozen=True)
class _Measured:
    """A mean and what Student's t says of it; NaN but for the mean where fewer than two groups have a score."""

    mean: float
    error: float  # standard
    degrees: float  # of freedom
    groups: int  # with a score

    def reach(self, tail: float) -> float:
        """How far from the mean the t distribution leaves so much on one side."""
        return float(-stdtrit(self.degrees, tail) * self.error)

    def tail(self, distance: float) -> float:
        """What the t distribution leaves on one side beyond so far from the mean."""
        return float(stdtr(self.degrees, -(distance / self.error if self.error else copysign(inf, distance))))


class Design:
    """The resamples of one set of questions, drawn once and shared by all that is compared.

    groups: group id of each question [questions]; seeds: how many; draws: how many; seed: of the random numbers.
    Holds `group_counts` [draws, groups in sorted order] and `seed_counts` [draws, seeds]: how often each was drawn.
    """

    def __init__(self, groups: ArrayLike, seeds: int, draws: int, seed: int) -> None:
        ids, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        if np.ndim(groups) != 1 or not len(ids) or seeds < 1 or draws < 20:
            given = f"groups of shape {np.shape(groups)}, {seeds} seeds, {draws} draws"
            raise ValueError(f"{given}; give a flat list of group ids, 1 seed or more, 20 draws or more.")
        generator = np.random.default_rng(seed)
        self.group_counts = _counts(generator, draws, len(ids))
        self.seed_counts = _counts(generator, draws, seeds)
        self._shape = (seeds, len(index))
        self._order = np.argsort(index, kind="stable")
        self._starts = np.cumsum(sizes) - sizes

    def estimate(self, scores: ArrayLike) -> Estimate:
        """Mean of scores [seeds or 1, questions]. Raises ValueError if they do not fit the design."""
        cells = self._checked("scores", scores)
        measured, missing = self._measured(cells), np.isnan(cells)
        ends = measured.mean + measured.reach(LEVEL / 2) * np.array([-1, 1])
        low, high = ends if missing.all() else np.clip(ends, np.nanmin(cells), np.nanmax(cells))
        seed_sd, n_questions = _spread([_mean(row) for row in cells]), int((~missing.all(0)).sum())
        return Estimate(measured.mean, float(low), float(high), seed_sd, n_questions, int(missing.sum()))

    def differences(
        self, systems: Mapping[str, ArrayLike], baseline: ArrayLike, equivalence: float = 0.02
    ) -> dict[str, Difference]:
        """Compare each system [seeds or 1, questions] with the baseline; `equivalence` in the unit of the scores."""
        base = self._checked("baseline", baseline)
        scores = {name: self._checked(name, values) for name, values in systems.items()}
        pairs = [cells - base for cells in scores.values()]
        measured = [self._measured(cells) for cells in pairs]
        varying = [cells for cells, one in zip(pairs, measured, strict=True) if one.error > 0]
        largest = _largest_t(self._resampled(varying), np.array([_mean(cells) for cells in varying]))
        rows = zip(scores.items(), measured, strict=True)
        return {name: _difference(cells, base, one, largest, equivalence) for (name, cells), one in rows}

    def _measured(self, cells: Array) -> _Measured:
        """Mean of cells [seeds or 1, questions] with the standard error of min F' and Satterthwaite's degrees."""
        known, mean = self._group_sums(~np.isnan(cells)), _mean(cells)
        groups = int((known.sum(0) > 0).sum())
        if groups < 2:
            return _Measured(mean, np.nan, np.nan, groups)
        rests = self._group_sums(np.nan_to_num(cells - mean)) / known.sum()  # each cell's part in the error of the mean
        parts = [_between(rests.sum(axis), known.sum(axis) > 0) for axis in (0, 1)]  # groups, seeds
        variance = sum(part for part, _ in parts)
        error = round(sqrt(variance), DECIMALS)
        degrees = variance**2 / sum(part**2 / free for part, free in parts if free) if error else groups - 1
        return _Measured(mean, error, degrees, groups)

    def _checked(self, name: str, scores: ArrayLike) -> Array:
        cells = np.asarray(scores, dtype=np.float64)
        if cells.shape not in (self._shape, (1, self._shape[1])) or np.isinf(cells).any():
            raise ValueError(f"{name}: scores {cells.shape}; give {self._shape} or one row, finite, NaN where missing.")
        return cells

    def _group_sums(self, cells: NDArray) -> Array:
        return np.add.reduceat(cells[..., self._order], self._starts, axis=-1, dtype=np.float64)

    def _resampled(self, systems: Sequence[Array]) -> Array:
        """Mean of every draw [systems, draws] for cells [seeds or 1, questions]; NaN if all that it drew is missing."""
        cells = np.array([np.broadcast_to(system, self._shape) for system in systems]).reshape(-1, *self._shape)
        tables = self._group_sums(np.stack([np.nan_to_num(cells), ~np.isnan(cells)]))  # [2, systems, seeds, groups]
        sums = np.empty((2, len(cells), len(self.group_counts)))  # of scores and of cells that have one
        for block in (slice(start, start + BLOCK) for start in range(0, sums.shape[-1], BLOCK)):
            weighted = tables @ self.group_counts[block].T.astype(np.float64)  # [2, systems, seeds, block]
            sums[..., block] = np.einsum("xksd,ds->xkd", weighted, self.seed_counts[block])
        return np.divide(sums[0], sums[1], out=np.full(sums.shape[1:], np.nan), where=sums[1] > 0)


def _counts(generator: np.random.Generator, draws: int, size: int) -> NDArray[np.int16]:
    drawn = (np.bincount(generator.integers(size, size=size), minlength=size) for _ in range(draws))
    return np.stack([counts.astype(np.int16) for counts in drawn])


def _mean(cells: Array) -> float:
    known = cells[~np.isnan(cells)]
    return float(known.mean()) if known.size else np.nan


def _between(rests: Array, known: NDArray[np.bool_]) -> tuple[float, int]:
    """Variance of a mean by its parts in groups or seeds, and degrees of freedom; 0 where there is but one."""
    free = int(known.sum()) - 1
    return (float((rests**2).sum()) * (1 + 1 / free) if free else 0.0), free


def _spread(values: ArrayLike) -> float:
    known = np.asarray(values)[~np.isnan(values)]
    return round(float(known.std(ddof=1)), DECIMALS) if known.size > 1 else np.nan


def _largest_t(draws: Array, means: Array) -> Array:
    """Largest |t| over systems [systems, draws], sorted [draws] (single step: Westfall and Young 1993)."""
    shifts = draws - means[:, None]
    t = np.abs(shifts) / np.array([_spread(shift) for shift in shifts])[:, None]
    return np.sort(np.nan_to_num(t).max(axis=0, initial=0.0))


def _difference(system: Array, baseline: Array, measured: _Measured, largest: Array, equivalence: float) -> Difference:
    pairs, mean = system - baseline, measured.mean
    seed_sd, n_missing = _spread([_mean(row) for row in pairs]), int(np.isnan(pairs).sum())
    quantile = max(float(largest[int(np.ceil((1 - LEVEL) * (len(largest) + 1))) - 1]), -ndtri(LEVEL / 2))
    reach = measured.reach(ndtr(-quantile))  # the quantile is of errors that are normal; few seeds have longer tails
    p_adjusted, p_equivalent = _p_values(measured, largest, equivalence)
    verdict = "equivalent" if p_equivalent <= LEVEL else "inconclusive"
    if p_adjusted <= LEVEL:  # which is where the interval leaves out 0, unless the groups are too few
        verdict = "better" if mean > 0 else "worse"
    mde = reach + measured.reach(1 - POWER) or np.nan
    tests = mean - reach, mean + reach, p_adjusted, p_equivalent, mde
    return Difference(mean, *tests, seed_sd, n_missing, *_worst_case(system, baseline), verdict)


def _p_values(measured: _Measured, largest: Array, margin: float) -> tuple[float, float]:
    mean, floor, tries = measured.mean, 0.5**measured.groups, len(largest) + 1
    if np.isnan(measured.error):
        return np.nan, np.nan
    if round(mean, DECIMALS) == measured.error == 0:
        return 1.0, 1 / tries
    alone = measured.tail(abs(mean))
    adjusted = (1 + int((largest >= -ndtri(alone)).sum())) / tries
    return max(adjusted, 2 * alone, 2 * floor), max(measured.tail(margin - abs(mean)), floor)


def _worst_case(system: Array, baseline: Array) -> tuple[float, float]:
    low, high = (_mean(np.nan_to_num(system, nan=x) - np.nan_to_num(baseline, nan=1 - x)) for x in (0.0, 1.0))
    outside = any(((cells < 0) | (cells > 1)).any() for cells in (system, baseline))
    return (np.nan, np.nan) if outside and np.isnan(system - baseline).any() else (low, high)
