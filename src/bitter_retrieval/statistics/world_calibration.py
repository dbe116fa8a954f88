"""Simulated studies of known truth over several worlds: do intervals cover, tests reject and powers hold?

    calibrate_worlds(spread, shape, Worlds(16, contrasts=4, world_sd=0.028, fit_sd=0.01), experiments=1000, seed=0)
        Calibration(experiments=1000, mde=0.027, mde_together=0.031, shares={"alone": 0.951, "one_world": 0.5, …})

A contrast is a run's difference to one of several baselines, as a label contrast at each of several levels of annotator
noise. What is measured in a world is the true mean difference, plus what the world, the fits of its readers, and the
draw of seeds, groups and questions add. The first two are normal variables of given standard deviations, in part common
to all contrasts. The last is the error of a mean over thousands of cells, so normal too: its variance follows from the
components that calibration.py measures, and the run that all contrasts share makes it correlated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bitter_retrieval.statistics.calibration import Calibration, CalibrationError, Shape, Spread, shares
from bitter_retrieval.statistics.statistics import LEVEL
from bitter_retrieval.statistics.worlds import OverWorlds, simultaneous_over_worlds

Array = NDArray[np.float64]
DRAWS = 1000  # simulated sets of worlds for each quantile
PILOTS = 200  # studies from which the minimum detectable effect is taken


@dataclass(frozen=True)
class Worlds:
    """A study: how many worlds and contrasts, and how much differences vary with both sources, as shares."""

    worlds: int
    contrasts: int
    world_sd: float
    fit_sd: float  # of the readers' fits, one a world
    common: float = 0.5  # part of these variances that all contrasts have in common

    @property
    def truth_sd(self) -> float:
        """How much true differences vary over worlds with readers fitted once in each."""
        return sqrt(self.world_sd**2 + self.fit_sd**2)


def sampling_sd(spread: Spread, shape: Shape) -> float:
    """Standard deviation of a difference in one world that seeds, groups and questions cause."""
    return sqrt(2 * (_error(spread.own, shape) - _error(spread.shared, shape)))


def _error(parts: Mapping[str, float], shape: Shape) -> float:
    """Variance of the mean over all cells of scores with these components."""
    _, sizes = np.unique(shape.groups, return_counts=True)
    questions, seeds = int(sizes.sum()), shape.seeds
    alike = float((sizes**2).sum()) / questions**2  # one over the number of groups if all have the same size
    cells = {"group": alike, "question": 1 / questions, "seed": 1 / seeds, "group_seed": alike / seeds}
    cells["residual"] = 1 / (questions * seeds)
    return sum(parts[level] * share for level, share in cells.items())


def scattering(scatter: float, fit_sd: float, sampling: float) -> float:
    """The standard deviation of worlds with which measured differences have the standard deviation `scatter`."""
    rest = scatter**2 - fit_sd**2 - sampling**2
    if rest < 0:
        raise CalibrationError(
            f"differences cannot scatter by {100 * scatter:g} points over worlds: fits ({100 * fit_sd:g}) and "
            f"questions and seeds ({100 * sampling:.1f}) alone give more."
        )
    return sqrt(rest)


def calibrate_worlds(spread: Spread, shape: Shape, study: Worlds, experiments: int, seed: int) -> Calibration:
    """Simulate studies.

    shares has one more: `one_world`, how often the interval of one world, over its questions and seeds, covers the mean
    over worlds.
    """
    generator, error = np.random.default_rng(seed), sampling_sd(spread, shape)
    pilots = [_study(study, error, generator) for _ in range(PILOTS)]
    alone = _typical([simultaneous_over_worlds(one[:, :1]) for one in pilots])
    together = _typical([simultaneous_over_worlds(one, draws=DRAWS) for one in pilots])
    found = [_outcome(_study(study, error, generator), (alone, together), error) for _ in range(experiments)]
    return Calibration(experiments, alone, together, shares(found))


def _typical(pilots: Sequence[Sequence[OverWorlds]]) -> float:
    """The root mean square of the first contrast's MDE: with few worlds the mean of standard errors is too low."""
    return sqrt(float(np.mean([found[0].mde ** 2 for found in pilots])))


def _study(study: Worlds, error: float, generator: np.random.Generator) -> Array:
    """Measured differences [worlds, contrasts] whose mean over all possible worlds is 0."""
    true, measured = (_drawn(study, part, generator) for part in (study.common, 0.5))
    return study.truth_sd * true + error * measured  # half of the error of a difference is the common run's


def _drawn(study: Worlds, common: float, generator: np.random.Generator) -> Array:
    """Normal variables [worlds, contrasts] of variance 1 with this correlation between contrasts."""
    shared, own = (generator.standard_normal((study.worlds, size)) for size in (1, study.contrasts))
    return sqrt(common) * shared + sqrt(1 - common) * own


def _outcome(null: Array, gains: tuple[float, float], error: float) -> dict[str, bool]:
    """What happened in one study, by name in Calibration, from differences [worlds, contrasts] of true mean 0."""
    truth = np.zeros(null.shape[1])
    truth[0] = gains[1]
    without, alone = (simultaneous_over_worlds(null[:, :1] + gain)[0] for gain in (0.0, gains[0]))
    nothing, something = (simultaneous_over_worlds(null + true, draws=DRAWS) for true in (0.0, truth))
    return {
        "alone": alone.low <= gains[0] <= alone.high,
        "together": all(one.low <= true <= one.high for one, true in zip(something, truth, strict=True)),
        "rejected": without.p <= LEVEL,
        "familywise": any(one.p <= LEVEL for one in nothing),
        "power": alone.verdict == "better",
        "power_together": something[0].verdict == "better",
        "one_world": abs(null[0, 0]) <= -ndtri(LEVEL / 2) * error,
    }
