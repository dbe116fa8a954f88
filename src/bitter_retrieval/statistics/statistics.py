"""Means, differences and verdicts whose uncertainty covers both questions and training seeds.

Scores of a system are a float array [seeds, questions], such as exact match; NaN is a missing score:

    design = Design(groups=["c1", "c1", "c2", …], seeds=3, draws=4000, seed=0)
    design.estimate(kl)                       Estimate(mean=0.61, low=0.57, high=0.65, seed_sd=0.008, …)
    design.difference(kl, infonce)            Difference(mean=0.05, low=0.02, high=0.08, …, verdict="better"), alone
    design.differences({"kl": (kl, infonce), "mse": (mse, infonce)})       the same by name, simultaneous

Why min F'. Questions and seeds are both samples: a finding must hold for other questions and for training again. A test
over questions alone takes the seeds as given, and one over seeds alone the questions, so each rejects too often. Here
the squared standard error of a mean is the sum of two parts: the variance of the group means over the number of groups,
and that of the seed means over the number of seeds. With Satterthwaite's degrees of freedom this is the test min F' of
Clark (1973, Journal of Verbal Learning and Verbal Behavior 12, 335-359). It is conservative, as it counts the
interaction of groups and seeds in both parts.

Why the largest |t|. Differences that are read together need wider intervals. They share runs and so errors: they are
correlated, and Bonferroni's correction would be too strict. A bootstrap shows how far the most extreme of all strays by
chance. A draw takes groups with replacement and, independently, seeds with replacement; its statistic is the mean over
all drawn cells (seed, question) that are not missing (the pigeonhole bootstrap: Owen 2007, Annals of Applied Statistics
1(2), 386-411). All differences share the draws. The standard errors are not taken from it: it shows only (S - 1) / S of
the variance of S seeds, and three seeds are too few for normal quantiles. A difference that was chosen beforehand
stands alone: it needs no adjustment, and no draws.

Differences are paired by seed and question. With one seed, the interval holds for those trained models, not for
training again.

Why not 0 +- 0. If all groups have the same mean, and all seeds too, the data show no variance, which is not certainty:
60 questions without a right answer do not say that the next one will be wrong. That no group of G differs from the mean
has the probability (1 - x)^G if a share x of all groups does. So x may be as large as 1 - .025^(1/G), which is the
interval of Clopper and Pearson (1934, Biometrika 26, 404-413) for 0 of G, and an exact form of the rule of three
(Hanley and Lippman-Hand 1983, JAMA 249(13), 1743-1745). In the worst case these groups have the scores' lowest, or
highest, possible value: 0 or 1 for a share, -1 or 1 for a difference of shares. Wilson's interval is close to it, but
covers too seldom with few groups (89% with two). For 60 wrong answers it is 0 to .060; for two runs that never differ
on 60 groups -.060 to .060, and they are equivalent within .02 from 149 groups on. Scores without bounds, such as
losses, get no interval. A score that is constant by definition is told apart by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import copysign, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # scipy.stats takes half a second to import

Array = NDArray[np.float64]
Bounds = tuple[float, float]  # least and greatest possible score
UNBOUNDED = (np.nan, np.nan)
LEVEL = 0.05
POWER = 0.8
BLOCK = 500  # draws weighted at a time: bounds memory where every question is a group
DECIMALS = 12  # further ones depend on the order of sums: a spread below them counts as 0


@dataclass(frozen=True)
class Estimate:
    """Mean score with its 95% interval, cut to the range of the scores if these vary.

    low, high: NaN where fewer than two groups have a score, or where scores without bounds do not vary.
    """

    mean: float
    low: float
    high: float
    seed_sd: float  # standard deviation of the seeds' means; NaN with one seed
    n_questions: int  # with a score for at least one seed
    n_missing: int  # cells without a score


@dataclass(frozen=True)
class Difference:
    """System minus baseline over the pairs (seed, question) where both have a score. NaN: it cannot be computed.

    `low`, `high` and `p` hold at once for all differences that were asked for together. `p_equivalent` is of this one
    alone: the larger p of two one-sided tests, that it is above -equivalence, and that it is below +equivalence.
    A high p is no evidence for equality, a low p_equivalent is. Neither p goes below that of a sign test on G
    groups, 2^(1-G) and 2^-G, so a handful of groups decides nothing. Two systems that differ in no group and no seed
    are no exception. The verdicts better and worse take precedence over equivalent. There is no interval and no p, and
    the verdict is inconclusive, if fewer than two groups have a pair, or scores beyond 0 and 1 differ by a constant.
    """

    mean: float
    low: float
    high: float
    p: float
    p_equivalent: float
    mde: float  # true difference that would be called better or worse in 80% of experiments like this one
    seed_sd: float  # of the paired differences of the seeds
    n_missing: int  # pairs left out
    worst_low: float  # mean over all pairs if every missing score, within 0 and 1, went against it
    worst_high: float  # the same in its favour; both NaN if scores are missing and others lie outside 0 and 1
    verdict: str  # better, worse, equivalent or inconclusive


@dataclass(frozen=True)
class _Measured:
    """A mean with its standard error, for Student's t.

    All but the mean are NaN if fewer than two groups have a score; the error also if unbounded scores do not vary.
    """

    mean: float
    error: float  # standard; 0 if the groups do not vary, nor the seeds
    degrees: float  # of freedom
    groups: int  # with a score
    bounds: Bounds

    def ends(self, tail: float) -> tuple[float, float]:
        """Ends of the interval beyond each of which lies the probability `tail`."""
        if self.error == 0:
            return unvaried_ends(self.mean, self.groups, self.bounds, tail)
        reach = self.reach(tail)
        return self.mean - reach, self.mean + reach

    def reach(self, tail: float) -> float:
        """Distance from the mean beyond which the t distribution has the probability `tail` on one side."""
        return float(-stdtrit(self.degrees, tail) * self.error)

    def tail(self, value: float, away: float) -> float:
        """Probability, if the truth is `value`, of a mean as far from it: the inverse of ends.

        away: distance from the mean to `value`, negative if the value is on the other side than the one tested.
        """
        if self.error == 0:
            return unvaried_tail(self.mean, self.groups, self.bounds, value) if away > 0 else 1.0
        return float(stdtr(self.degrees, -away / self.error))


def unvaried_ends(mean: float, groups: int, bounds: Bounds, tail: float) -> tuple[float, float]:
    """Interval of the mean of scores within `bounds` of which no group differed from it, `tail` beyond each end."""
    differing = 1 - tail ** (1 / groups)
    return mean - differing * (mean - bounds[0]), mean + differing * (bounds[1] - mean)


def unvaried_tail(mean: float, groups: int, bounds: Bounds, value: float) -> float:
    """Largest probability that no group differs if the true mean is `value`, within bounds: the inverse of the ends."""
    room = (bounds[1] if value > mean else bounds[0]) - mean
    return float((1 - (value - mean) / room) ** groups) if room else 1.0


class Design:
    """The resamples of one set of questions, drawn once and shared by all comparisons.

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

    def estimate(self, scores: ArrayLike, bounds: Bounds = (0.0, 1.0)) -> Estimate:
        """Mean of scores [seeds or 1, questions]. Raises ValueError if their shape does not fit the design.

        bounds: what a score can be at least and at most, for scores that do not vary; UNBOUNDED for losses, and (c, c)
        for a score that is c by definition.
        """
        cells = self._checked("scores", scores)
        measured, missing = self._measured(cells, bounds), np.isnan(cells)
        low, high = measured.ends(LEVEL / 2)
        if measured.error > 0:
            low, high = np.clip((low, high), np.nanmin(cells), np.nanmax(cells))
        seed_sd, n_questions = _spread([_mean(row) for row in cells]), int((~missing.all(0)).sum())
        return Estimate(measured.mean, float(low), float(high), seed_sd, n_questions, int(missing.sum()))

    def difference(self, system: ArrayLike, baseline: ArrayLike, equivalence: float = 0.02) -> Difference:
        """Compare two systems [seeds or 1, questions] alone; `equivalence` in the unit of the scores."""
        return self.differences({"system": (system, baseline)}, equivalence)["system"]

    def differences(
        self, pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], equivalence: float = 0.02
    ) -> dict[str, Difference]:
        """Compare the first of every pair of systems with the second, simultaneously; one pair stands alone."""
        scores = {
            name: (self._checked(name, system), self._checked(f"baseline of {name}", baseline))
            for name, (system, baseline) in pairs.items()
        }
        shifts = [system - baseline for system, baseline in scores.values()]
        measured = [
            self._measured(cells, UNBOUNDED if _outside(*pair) else (-1.0, 1.0))
            for cells, pair in zip(shifts, scores.values(), strict=True)
        ]
        varying = [cells for cells, one in zip(shifts, measured, strict=True) if one.error > 0]
        alone = len(varying) < 2
        largest = None if alone else _largest_t(self._resampled(varying), np.array([_mean(each) for each in varying]))
        rows = zip(scores.items(), measured, strict=True)
        return {name: _difference(*pair, one, largest, equivalence) for (name, pair), one in rows}

    def _measured(self, cells: Array, bounds: Bounds) -> _Measured:
        """Mean of cells [seeds or 1, questions] with the standard error of min F' and Satterthwaite's degrees."""
        known, mean = self._group_sums(~np.isnan(cells)), _mean(cells)
        groups = int((known.sum(0) > 0).sum())
        if groups < 2:
            return _Measured(mean, np.nan, np.nan, groups, bounds)
        rests = self._group_sums(np.nan_to_num(cells - mean)) / known.sum()  # each cell's part in the error of the mean
        parts = [_between(rests.sum(axis), known.sum(axis) > 0) for axis in (0, 1)]  # over groups, over seeds
        variance = sum(part for part, _ in parts)  # 1 / min F' = 1 / F1 + 1 / F2, times the squared mean
        error = round(sqrt(variance), DECIMALS)
        degrees = variance**2 / sum(part**2 / free for part, free in parts if free) if error else groups - 1
        if not error and np.isnan(bounds).any():
            error = np.nan
        return _Measured(mean, error, degrees, groups, bounds)

    def _checked(self, name: str, scores: ArrayLike) -> Array:
        cells = np.asarray(scores, dtype=np.float64)
        if cells.shape not in (self._shape, (1, self._shape[1])) or np.isinf(cells).any():
            raise ValueError(f"{name}: scores {cells.shape}; give {self._shape} or one row, finite, NaN where missing.")
        return cells

    def _group_sums(self, cells: NDArray) -> Array:
        return np.add.reduceat(cells[..., self._order], self._starts, axis=-1, dtype=np.float64)

    def _resampled(self, systems: Sequence[Array]) -> Array:
        """Mean of every draw [systems, draws] of cells [seeds or 1, questions]; NaN if a draw has only missing ones."""
        cells = np.array([np.broadcast_to(system, self._shape) for system in systems]).reshape(-1, *self._shape)
        # A draw's mean needs only sums by seed and group, weighted by how often each was drawn: no cell is copied.
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
    """Variance of a mean from the residuals of k groups (or seeds), and k - 1 degrees of freedom; 0 if k is 1.

    The residuals add up to 0 and are already divided by the number of cells: the variance of their sum is the sum of
    their squares times k / (k - 1), for groups of any size.
    """
    free = int(known.sum()) - 1
    return (float((rests**2).sum()) * (1 + 1 / free) if free else 0.0), free


def _spread(values: ArrayLike) -> float:
    known = np.asarray(values)[~np.isnan(values)]
    return round(float(known.std(ddof=1)), DECIMALS) if known.size > 1 else np.nan


def _largest_t(draws: Array, means: Array) -> Array:
    """The largest |t| of any system in each draw, sorted [draws], from means [systems, draws].

    Draws are centred on the observed means: they show errors alone, as if no system differed from the baseline. One
    maximum for all is the single-step adjustment (Westfall and Young 1993, Resampling-Based Multiple Testing).
    """
    shifts = draws - means[:, None]
    t = np.abs(shifts) / np.array([_spread(shift) for shift in shifts])[:, None]
    return np.sort(np.nan_to_num(t).max(axis=0, initial=0.0))


def verdict_of(mean: float, p: float, p_equivalent: float) -> str:
    """Better or worse where p is at most LEVEL, else equivalent where p_equivalent is, else inconclusive."""
    if p <= LEVEL:
        return "better" if mean > 0 else "worse"
    return "equivalent" if p_equivalent <= LEVEL else "inconclusive"


def _difference(
    system: Array, baseline: Array, measured: _Measured, largest: Array | None, equivalence: float
) -> Difference:
    pairs, mean = system - baseline, measured.mean
    seed_sd, n_missing = _spread([_mean(row) for row in pairs]), int(np.isnan(pairs).sum())
    quantile = -ndtri(LEVEL / 2)
    if largest is not None:  # the 95% quantile of the largest |t|, and never less than that of one normal variable
        quantile = max(float(largest[int(np.ceil((1 - LEVEL) * (len(largest) + 1))) - 1]), quantile)
    # The resampled |t| is on the scale of a normal variable. Its tail probability is kept and looked up in Student's t,
    # which has longer tails where seeds are few.
    tail = float(ndtr(-quantile))
    p, p_equivalent = _p_values(measured, largest, equivalence)
    # An estimate beyond `reach` is called different. 80% of the estimates are, if the true difference lies this much
    # farther out. Without any spread there is no such figure.
    mde = measured.reach(tail) + measured.reach(1 - POWER) or np.nan
    tests = *measured.ends(tail), p, p_equivalent, mde
    worst = _worst_case(system, baseline) if n_missing else (mean, mean)
    return Difference(mean, *tests, seed_sd, n_missing, *worst, verdict_of(mean, p, p_equivalent))


def _p_values(measured: _Measured, largest: Array | None, margin: float) -> tuple[float, float]:
    mean, floor = measured.mean, 0.5**measured.groups  # the smallest one-sided p of a sign test
    if np.isnan(measured.error):
        return np.nan, np.nan
    alone = measured.tail(0.0, abs(mean))
    p = min(1.0, max(2 * alone, 2 * floor))
    if largest is not None:  # the data count as one more draw, so p is never 0
        p = max(p, (1 + int((largest >= -ndtri(alone)).sum())) / (len(largest) + 1))
    # of the two one-sided tests, that with the larger p
    nearer_margin = measured.tail(copysign(margin, mean), margin - abs(mean))
    return p, max(nearer_margin, floor)


def _outside(*systems: Array) -> bool:
    return any(((cells < 0) | (cells > 1)).any() for cells in systems)


def _worst_case(system: Array, baseline: Array) -> tuple[float, float]:
    low, high = (_mean(np.nan_to_num(system, nan=x) - np.nan_to_num(baseline, nan=1 - x)) for x in (0.0, 1.0))
    outside = _outside(system, baseline)
    return (np.nan, np.nan) if outside and np.isnan(system - baseline).any() else (low, high)
