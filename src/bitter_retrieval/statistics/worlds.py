"""Differences of runs over independent worlds: the unit of a claim that is to hold beyond one world.

    simultaneous_over_worlds([[0.031, 0.012], [0.044, -0.003], …])          rows: worlds, columns: contrasts
        [OverWorlds(mean=0.034, low=0.008, high=0.060, p=0.011, mde=0.033, verdict="better", …), …]

A contrast is one difference of two runs at one level of noise, say. Each is measured once a world, so its error is the
standard deviation over worlds: seeds, questions and fits of readers are all in it.
"""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit

from bitter_retrieval.statistics.statistics import DECIMALS, LEVEL, POWER, unvaried_ends, unvaried_tail, verdict_of

DRAWS = 20_000  # simulated sets of worlds: the 95% quantile of |t| has an error of about 1%
BOUNDS = (-1.0, 1.0)  # of a difference of shares
BLOCK = 2_000  # sets at a time: bounds memory


@dataclass(frozen=True)
class OverWorlds:
    """Mean difference over n worlds. `low`, `high` and `p` hold for all contrasts at once, the others for this one.

    p_equivalent: the larger p of two one-sided t tests against -+equivalence (Schuirmann 1987, J. Pharmacokinet.
    Biopharm. 15(6), 657-680). mde: the true difference that is called better or worse with 80% power, at this standard
    error and among these contrasts. Better and worse take precedence over equivalent.
    """

    mean: float
    se: float
    low: float
    high: float
    p: float
    p_equivalent: float
    mde: float  # NaN without any spread
    verdict: str  # better, worse, equivalent or inconclusive
    above: int  # worlds with a difference above 0
    worlds: tuple[float, ...]


def simultaneous_over_worlds(differences: ArrayLike, equivalence: float = 0.02, draws: int = DRAWS) -> list[OverWorlds]:
    """One OverWorlds a contrast from differences [worlds, contrasts]; a single contrast gives Student's t.

    draws: simulated sets of worlds, from which the quantile for several contrasts is taken.
    Raises ValueError if a difference is missing, or for fewer than two worlds.
    """
    cells = np.asarray(differences, dtype=np.float64)
    if cells.ndim != 2 or len(cells) < 2 or not cells.size or not np.isfinite(cells).all():
        raise ValueError(
            f"differences of shape {cells.shape}: give [worlds, contrasts], finite, of two worlds or more. "
            "A contrast that a world lacks must be left out of all."
        )
    free = len(cells) - 1
    means = cells.mean(0).round(DECIMALS)
    errors = (cells.std(0, ddof=1) / sqrt(len(cells))).round(DECIMALS)
    largest = _largest_t(cells[:, errors > 0], draws)
    alone = float(stdtrit(free, 1 - LEVEL / 2))
    quantile = alone if largest is None else max(alone, float(np.quantile(largest, 1 - LEVEL, method="higher")))
    found = zip(cells.T, means.tolist(), errors.tolist(), strict=True)
    return [_one(column, mean, error, quantile, largest, equivalence) for column, mean, error in found]


def _largest_t(cells: NDArray[np.float64], draws: int) -> NDArray[np.float64] | None:
    """The largest |t| of any contrast [draws] if none differs; None where there are fewer than two contrasts.

    Worlds are drawn from a normal distribution with the correlation that was measured, shrunk, and every contrast gets
    its own standard deviation, as in the data.
    """
    worlds, contrasts = cells.shape
    if contrasts < 2:
        return None
    values, vectors = np.linalg.eigh(_correlation(cells))
    root = (vectors * np.sqrt(values.clip(min=0))).T  # root.T @ root is the correlation
    generator, found = np.random.default_rng(0), []
    for start in range(0, draws, BLOCK):
        drawn = generator.standard_normal((min(BLOCK, draws - start), worlds, contrasts)) @ root
        t = np.abs(drawn.mean(1)) / (drawn.std(1, ddof=1) / sqrt(worlds))
        found.append(t.max(1))
    return np.concatenate(found)


def _correlation(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of contrasts [contrasts, contrasts], shrunk towards none.

    From few worlds contrasts look more alike than they are, and the quantile would be too low. Weight of the measured
    correlations by Schaefer and Strimmer (2005, doi 10.2202/1544-6115.1175), with (1 - r^2)^2 / (n - 1) as the variance
    of a correlation r from n worlds.
    """
    found: NDArray[np.float64] = np.asarray(np.corrcoef(cells.T))
    none = np.identity(len(found))
    others = found[none == 0]
    variance, size = float(((1 - others**2) ** 2).sum()) / (len(cells) - 1), float((others**2).sum())
    kept = max(0.0, 1 - variance / size) if size else 0.0
    return kept * found + (1 - kept) * none


def _one(
    column: NDArray[np.float64],
    mean: float,
    error: float,
    quantile: float,
    largest: NDArray[np.float64] | None,
    equivalence: float,
) -> OverWorlds:
    free = len(column) - 1
    p = min(1.0, 2 * _beyond(mean, error, len(column), 0.0, abs(mean)))
    if largest is not None and error:
        p = max(p, (1 + int((largest >= abs(mean) / error).sum())) / (1 + len(largest)))
    low, high = mean - quantile * error, mean + quantile * error
    if not error:
        low, high = unvaried_ends(mean, len(column), BOUNDS, float(stdtr(free, -quantile)))
    margins = (-equivalence, mean + equivalence), (equivalence, equivalence - mean)
    p_equivalent = max(_beyond(mean, error, len(column), *margin) for margin in margins)
    return OverWorlds(
        mean=mean,
        se=error,
        low=low,
        high=high,
        p=p,
        p_equivalent=p_equivalent,
        mde=detected(error, free, quantile) if error else nan,
        verdict=verdict_of(mean, p, p_equivalent),
        above=int((column > 0).sum()),
        worlds=tuple(column.tolist()),
    )


def detected(error: float, free: int, quantile: float) -> float:
    """The true difference of which |t| exceeds `quantile` with 80% power.

    error: its standard error, with `free` degrees of freedom. It is where 80% of the noncentral t distribution lie
    beyond the quantile.
    """
    return float(nctdtrinc(free, 1 - POWER, quantile)) * error


def _beyond(mean: float, error: float, worlds: int, value: float, away: float) -> float:
    """One-sided p of a mean that is `away` from a true difference of `value`; statistics.py has that without spread."""
    if error:
        return float(stdtr(worlds - 1, -away / error))
    return unvaried_tail(mean, worlds, BOUNDS, value) if away > 0 else 1.0
