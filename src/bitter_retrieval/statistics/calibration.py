"""Simulated experiments of known truth: do intervals cover, tests reject and powers hold as statistics.py claims?

    spread = measure({"kl": kl, "infonce": infonce, …}, groups, "infonce")
        Spread(rate=0.67, own={"group": 0.006, "question": 0.172, …}, shared={"group": 0.006, "question": 0.062, …})
    calibrate(spread, Shape(groups, seeds=4, runs=9), experiments=1000, draws=500, seed=0)
        Calibration(experiments=1000, mde=0.028, mde_together=0.035, shares={"alone": 0.954, "power": 0.81, …})

Scores of 0 and 1 vary between groups of questions, between a group's questions, between seeds, between seeds within a
group, and in the residual. The variance at each level is measured without a model, from products of two scores that
have exactly that level in common (symmetric sums: Koch 1967, Technometrics 9(1), 93-118), which allows groups of any
size and missing scores. `own` is of one system, `shared` the part that all systems have in common: a hard question is
hard for all. The difference of two systems then has variance 2 (own - shared) at that level.

An experiment draws one normal variable per level; a score is 1 if their sum lies below a threshold. The variances of
the normal variables are chosen so that the scores have the measured ones (tetrachoric correlations: Pearson 1900,
Philosophical Transactions of the Royal Society A 195, 1-47).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bitter_retrieval.records import Row
from bitter_retrieval.statistics.statistics import LEVEL, Design, Difference

Array = NDArray[np.floating]
LEVELS = ("group", "question", "seed", "group_seed", "residual")
PILOTS = 100  # experiments from which the minimum detectable effect is taken
BLOCK = 20  # experiments drawn at a time: bounds memory
WANTED = {  # lowest and highest acceptable share
    "mean": (0.93, 0.97),
    "alone": (0.93, 0.97),
    "together": (0.93, 0.97),
    "rejected": (0.0, 0.05),
    "familywise": (0.0, 0.05),
    "power": (0.77, 0.83),
    "power_together": (0.77, 0.83),
}


class CalibrationError(ValueError):
    """Scores whose spread cannot be measured, or a spread that is impossible for scores of 0 and 1."""


@dataclass(frozen=True)
class Spread:
    """Variance components of scores of 0 and 1 by name in LEVELS."""

    rate: float  # mean score
    own: Mapping[str, float]  # of one system; they add up to rate (1 - rate)
    shared: Mapping[str, float]  # the part that all systems have in common

    def of_difference(self, level: str) -> float:
        """Variance component of the difference of two systems."""
        return 2 * (self.own[level] - self.shared[level])

    def changed(self, level: str, variance: float, out_of: str) -> "Spread":
        """The same total with another component of the difference at `level`, balanced by level `out_of`."""
        own = dict(self.own) | {level: self.shared[level] + variance / 2}
        own[out_of] += self.own[level] - own[level]
        return dataclasses.replace(self, own=own)


@dataclass(frozen=True)
class Shape:
    """Size of an experiment: group of each question, number of seeds, and of differences that hold at once."""

    groups: Sequence[str]
    seeds: int
    runs: int


@dataclass(frozen=True)
class Calibration:
    """Results of simulated experiments, or studies of several worlds, in which nothing differs or one run gains.

    shares of experiments, by name:
        mean             the interval of a system's mean covers the truth
        alone            the interval of the one run's difference does, tested alone as the primary one is
        together         the intervals of all differences do
        rejected         nothing differs, yet one run tested alone is called better or worse
        familywise       nothing differs, yet any of all runs is called better or worse
        power            the one run gains mde, and is called better, tested alone
        power_together   it gains mde_together, and is called better among all
    """

    experiments: int
    mde: float  # typical stated minimum detectable effect of a difference alone, and of one among all
    mde_together: float
    shares: Mapping[str, float]

    def error(self, share: float) -> float:
        """Monte-Carlo standard error of a share."""
        return sqrt(share * (1 - share) / self.experiments)

    def held(self, figure: str) -> bool:
        """Whether a share is within WANTED, give or take two Monte-Carlo errors."""
        low, high = WANTED[figure]
        return low - 2 * self.error(low) <= self.shares[figure] <= high + 2 * self.error(high)


def shares(outcomes: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    """By name, in how many of the experiments it happened."""
    return {name: float(np.mean([one[name] for one in outcomes])) for name in outcomes[0]}


# -- how much scores vary, and at what ------------------------------------------------------------------------------


def exact_matches(predictions: Mapping[str, Sequence[Row]]) -> tuple[dict[str, Array], list[str]]:
    """Exact match [seeds, questions] of each system by its prediction rows, and the group of each question."""
    groups = {row["query_id"]: row["group_id"] for rows in predictions.values() for row in rows}
    place = {query: number for number, query in enumerate(groups)}
    systems = {}
    for name, rows in predictions.items():
        seeds = sorted({row["seed"] for row in rows})
        systems[name] = np.full((len(seeds), len(place)), np.nan)
        for row in rows:
            score = np.nan if row["em"] is None else row["em"]
            systems[name][seeds.index(row["seed"]), place[row["query_id"]]] = score
    return systems, list(groups.values())


def measure(systems: Mapping[str, Array], groups: Sequence[str], baseline: str) -> Spread:
    """Spread of scores [seeds, questions]: medians over runs of own components and of those shared with the baseline.

    The median, as a run trained on random labels varies with the seed far more than the others. Components that are
    negative by chance become 0. Raises CalibrationError if runs, seeds, groups or questions of a group are too few.
    """
    base, runs = systems[baseline], [scores for name, scores in systems.items() if name != baseline]
    shapes = {name: scores.shape for name, scores in systems.items()}
    if not runs or len(set(shapes.values())) > 1 or not 0 < np.nanmean(base) < 1:
        raise CalibrationError(
            f"seeds and questions of the systems: {shapes}, mean score of {baseline}: {np.nanmean(base):.3f}. Give two "
            "systems or more, all of the same seeds and questions, and a baseline that is sometimes right, not always."
        )
    of_base = components(base, base, groups)
    owns = [{level: (of_base[level] + own) / 2 for level, own in components(run, run, groups).items()} for run in runs]
    crosses = [components(run, base, groups) for run in runs]
    own = {level: max(0.0, float(np.median([one[level] for one in owns]))) for level in LEVELS}
    shared = {level: float(np.clip(np.median([one[level] for one in crosses]), 0, own[level])) for level in LEVELS}
    rate = float(np.nanmean(base))
    own["residual"] = rate * (1 - rate) - sum(own[level] for level in LEVELS[:-1])
    return Spread(rate, own, shared)


def components(first: Array, second: Array, groups: Sequence[str]) -> dict[str, float]:
    """(Co)variance components of the scores [seeds, questions] of two systems, or of one with itself."""
    _, group = np.unique(groups, return_inverse=True)
    scores = _products(np.nan_to_num(first), np.nan_to_num(second), group)
    counts = _products(~np.isnan(first), ~np.isnan(second), group)
    for alone, instead in (("group", "nothing"), ("group_seed", "seed")):
        if not counts[alone]:  # groups of one question: their variance cannot be separated from the question's
            scores[alone], counts[alone] = scores[instead], counts[instead]
    if not all(counts.values()):
        raise CalibrationError(
            f"{len(first)} seeds, {group.max() + 1} groups of questions: variance between them needs at least "
            "two of each, with scores. Give train.seeds more seeds, or the test split more groups."
        )
    means = {relation: scores[relation] / counts[relation] for relation in counts}
    return _apart({relation: mean - means["nothing"] for relation, mean in means.items()})


def _products(first: Array, second: Array, group: NDArray[np.integer]) -> dict[str, float]:
    """Sums of products over pairs of cells, by what exactly the two cells have in common.

    Sums over all pairs are squares of sums, so no pair is visited; pairs that have more in common are subtracted.
    """
    a, b = (np.stack([np.bincount(group, row) for row in cells]) for cells in (first, second))  # [seeds, groups]
    cell, question = (first * second).sum(), (first.sum(0) * second.sum(0)).sum()
    of_group_and_seed, of_group = (a * b).sum(), (a.sum(0) * b.sum(0)).sum()
    of_seed, everything = (a.sum(1) * b.sum(1)).sum(), a.sum() * b.sum()
    return {
        "group": of_group - of_group_and_seed - question + cell,
        "question": question - cell,
        "seed": of_seed - of_group_and_seed,
        "group_seed": of_group_and_seed - cell,
        "residual": cell,  # the cell itself
        "nothing": everything - of_group - of_seed + of_group_and_seed,
    }


def _apart(covariances: Mapping[str, float]) -> dict[str, float]:
    """Components from covariances: cells of one question are of one group too, so that component is subtracted."""
    group, question, seed, group_seed, cell = (covariances[level] for level in LEVELS)
    parts = group, question - group, seed, group_seed - group - seed, cell - question - group_seed + group
    return dict(zip(LEVELS, map(float, parts), strict=True))


def _together(parts: Mapping[str, float]) -> dict[str, float]:
    """Covariances from components: the inverse of _apart."""
    group, question, seed, group_seed, _ = (parts[level] for level in LEVELS)
    covariances = group, group + question, seed, group + seed + group_seed, sum(parts.values())
    return dict(zip(LEVELS, covariances, strict=True))


# -- experiments ----------------------------------------------------------------------------------------------------


def calibrate(spread: Spread, shape: Shape, experiments: int, draws: int, seed: int) -> Calibration:
    """Simulate experiments, `draws` resamples each."""
    generator = np.random.default_rng(seed)
    pilots = [null for _ in range(0, PILOTS, BLOCK) for null, *_ in _experiments(spread, shape, [], generator)]
    design, blocks = Design(shape.groups, shape.seeds, draws, seed), range(-(-experiments // BLOCK))
    alone = float(np.median([design.difference(null[1], null[0]).mde for null in pilots]))
    together = float(np.median([_against_first(design, null)["1"].mde for null in pilots]))
    if not spread.rate + max(alone, together) < 1:
        raise CalibrationError(
            f"the minimum detectable effect, {together:.2f}, is more than a mean of {spread.rate:.2f} can gain: power "
            "cannot be simulated with so few groups or seeds, or so much spread."
        )
    found = [
        _outcome(Design(shape.groups, shape.seeds, draws, seed + block), one, spread.rate, (alone, together))
        for block in blocks
        for one in _experiments(spread, shape, [alone, together], generator)
    ]
    return Calibration(len(found), alone, together, shares(found))


def _outcome(design: Design, scores: Sequence[Array], rate: float, gains: tuple[float, float]) -> dict[str, bool]:
    """What happened in one experiment, by name in Calibration.

    scores: [systems, seeds, questions] that do not differ, baseline first; then [seeds, questions] of run 1 if it gains
    the first of `gains`, and if it gains the second.
    """
    (baseline, first, *others), alone, together = scores
    mean = design.estimate(baseline)
    without, one = (design.difference(run, baseline) for run in (first, alone))
    nothing, something = (_against_first(design, (baseline, run, *others)) for run in (first, together))
    return {
        "mean": mean.low <= rate <= mean.high,
        "alone": one.low <= gains[0] <= one.high,
        "together": all(each.low <= gains[1] * (name == "1") <= each.high for name, each in something.items()),
        "rejected": without.p <= LEVEL,
        "familywise": any(each.p <= LEVEL for each in nothing.values()),
        "power": one.verdict == "better",
        "power_together": something["1"].verdict == "better",
    }


def _against_first(design: Design, systems: Iterable[Array]) -> dict[str, Difference]:
    """Differences of the systems to the first one, named 1, 2, …"""
    baseline, *runs = systems
    return design.differences({str(number): (scores, baseline) for number, scores in enumerate(runs, 1)})


def _experiments(
    spread: Spread, shape: Shape, gains: Sequence[float], generator: np.random.Generator
) -> Iterator[list[Array]]:
    """BLOCK experiments: scores of baseline and runs that do not differ, then those of run 1 by what it gains."""
    own, shared = latent(spread)
    _, group = np.unique(shape.groups, return_inverse=True)
    systems, seeds, questions, groups = shape.runs + 1, shape.seeds, len(group), group.max() + 1
    sizes = (1, groups), (1, questions), (seeds, 1), (seeds, groups), (seeds, questions)
    total = np.zeros((BLOCK, systems, seeds, questions), dtype=np.float32)
    for level, size in zip(LEVELS, sizes, strict=True):
        for variance, count in ((shared[level], 1), (own[level] - shared[level], systems)):
            drawn = generator.standard_normal((BLOCK, count, *size), dtype=np.float32) * np.float32(sqrt(variance))
            total += drawn[..., group] if "group" in level else drawn
    for one in total:
        gained = [(one[1] < ndtri(spread.rate + gain)).astype(float) for gain in gains]
        yield [(one < ndtri(spread.rate)).astype(float), *gained]


def latent(spread: Spread) -> tuple[dict[str, float], dict[str, float]]:
    """Variances of the normal variables behind the scores, own and shared, by level; those of own add up to 1."""
    own, shared = (
        _apart({level: _correlation(each, spread.rate) for level, each in _together(parts).items()})
        for parts in (spread.own, spread.shared)
    )
    own = {level: max(0.0, own[level]) for level in LEVELS}
    own["residual"] = 1 - sum(own[level] for level in LEVELS[:-1])
    if min(own["residual"], *spread.own.values()) < 0:
        raise CalibrationError(f"scores of mean {spread.rate:.3f} cannot vary so much: {spread.own}. Take less spread.")
    return own, {level: float(np.clip(shared[level], 0, own[level])) for level in LEVELS}


def _correlation(covariance: float, rate: float) -> float:
    """Correlation of two standard normal variables whose scores, 1 below the quantile of `rate`, have this covariance.

    The covariance at correlation sin(a) is the integral over 0…a of exp(-z² / (1 + sin)) / 2π, z the threshold.
    """
    angles = np.linspace(-np.pi / 2, np.pi / 2, 4001)[1:]
    heights = np.exp(-(ndtri(rate) ** 2) / (1 + np.sin(angles))) / (2 * np.pi)
    area = np.concatenate([[0], np.cumsum((heights[1:] + heights[:-1]) / 2 * np.diff(angles))])
    return float(np.sin(np.interp(covariance, area - np.interp(0, angles, area), angles)))
