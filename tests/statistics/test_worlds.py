"""Differences over worlds against Student's t, and simulated worlds of known truth."""

import math

import numpy as np
import pytest
from scipy.stats import nct, t, ttest_1samp

from bitter_retrieval.statistics.worlds import OverWorlds, simultaneous_over_worlds

pytestmark = pytest.mark.filterwarnings("error")


def drawn(generator: np.random.Generator, worlds: int, contrasts: int, correlation: float) -> np.ndarray:
    """Differences that scatter by 3.2 points around 0: of a world and of each of its contrasts."""
    parts = generator.standard_normal((worlds, 1)), generator.standard_normal((worlds, contrasts))
    return 0.032 * (math.sqrt(correlation) * parts[0] + math.sqrt(1 - correlation) * parts[1])


def test_one_contrast_is_students_t() -> None:
    values = drawn(np.random.default_rng(0), 6, 1, 0) + 0.02
    (found,) = simultaneous_over_worlds(values, equivalence=0.05)
    wanted = ttest_1samp(values[:, 0], 0)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    sides = [ttest_1samp(values[:, 0], at, alternative=how).pvalue for at, how in ((-0.05, "greater"), (0.05, "less"))]
    assert found.p_equivalent == pytest.approx(max(sides))
    assert found.above == (values > 0).sum() and found.worlds == tuple(values[:, 0])


def test_a_difference_of_the_stated_size_is_found_in_80_percent() -> None:
    values = drawn(np.random.default_rng(0), 8, 3, 0.5)
    for one in simultaneous_over_worlds(values):
        quantile = (one.high - one.mean) / one.se
        assert nct.sf(quantile, 7, one.mde / one.se) == pytest.approx(0.8, abs=1e-6)


def test_contrasts_are_wider_together_than_alone_and_narrower_than_by_bonferroni() -> None:
    values = drawn(np.random.default_rng(1), 12, 4, 0.6)
    alone = [simultaneous_over_worlds(values[:, [number]])[0] for number in range(4)]
    for single, one in zip(alone, simultaneous_over_worlds(values), strict=True):
        reach = (one.high - one.mean) / one.se
        assert t.ppf(1 - 0.025, 11) < reach < t.ppf(1 - 0.025 / 4, 11)
        assert single.p <= one.p <= min(1, 4 * single.p + 0.01) and one.p_equivalent == single.p_equivalent
        assert one.mde > single.mde


def test_contrasts_that_are_the_same_cost_nothing() -> None:
    values = drawn(np.random.default_rng(1), 12, 1, 0)
    once, twice = simultaneous_over_worlds(values)[0], simultaneous_over_worlds(np.repeat(values, 2, axis=1))[0]
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=0.001)


@pytest.mark.parametrize(("worlds", "contrasts", "correlation"), [(5, 4, 0.5), (16, 4, 0.5), (16, 8, 0.0)])
def test_all_intervals_cover_at_once_in_95_percent(worlds: int, contrasts: int, correlation: float) -> None:
    generator, held = np.random.default_rng(0), []
    for _ in range(400):
        found = simultaneous_over_worlds(drawn(generator, worlds, contrasts, correlation), draws=1000)
        held.append(all(one.low <= 0 <= one.high for one in found))
        assert held[-1] == all(one.verdict not in ("better", "worse") for one in found)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)  # 2.7 Monte-Carlo errors


def verdict(values: list[float], **settings: float) -> OverWorlds:
    return simultaneous_over_worlds([[value] for value in values], **settings)[0]


def test_verdicts() -> None:
    assert verdict([0.05, 0.06, 0.04]).verdict == "better" and verdict([-0.05, -0.06, -0.04]).verdict == "worse"
    assert verdict([0.001, -0.002, 0.002]).verdict == "equivalent"
    assert verdict([0.001, -0.002, 0.002], equivalence=0.001).verdict == "inconclusive"
    assert verdict([0.2, -0.1, 0.1]).verdict == "inconclusive"


def test_without_spread_the_number_of_worlds_decides_and_the_other_contrasts_are_left_alone() -> None:
    values = drawn(np.random.default_rng(2), 6, 1, 0)
    same, other, nothing = simultaneous_over_worlds(np.hstack([np.full((6, 1), 0.1), values, np.zeros((6, 1))]))
    differing = 1 - 0.025 ** (1 / 6)  # share of the worlds that may differ, with -1 or 1 at worst
    assert (same.low, same.high) == pytest.approx((0.1 - 1.1 * differing, 0.1 + 0.9 * differing))
    assert same.p == 1 and same.verdict == "inconclusive" and math.isnan(same.mde)
    assert (nothing.p, nothing.verdict) == (1, "inconclusive") and nothing.p_equivalent == pytest.approx(0.98**6)
    assert verdict([0.0] * 200).verdict == "equivalent" and verdict([1.0] * 6).verdict == "better"
    assert other == simultaneous_over_worlds(values)[0]


def test_the_same_worlds_give_the_same_figures() -> None:
    values = drawn(np.random.default_rng(3), 6, 3, 0.3)
    assert simultaneous_over_worlds(values) == simultaneous_over_worlds(values)


@pytest.mark.parametrize("values", [[[0.1]], [0.1, 0.2], [[], []], [[0.1], [math.nan]]])
def test_differences_that_are_not_of_two_worlds_are_refused(values: list) -> None:
    with pytest.raises(ValueError, match="two worlds or more"):
        simultaneous_over_worlds(values)
