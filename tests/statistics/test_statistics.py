"""Errors and bootstrap against slow loops, errors against t tests, simulated experiments, degenerate input."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from any_values import FEW
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t, ttest_1samp

from bitter_retrieval.statistics.statistics import UNBOUNDED, Design, Difference

pytestmark = pytest.mark.filterwarnings("error")

NAN = float("nan")


def simulated(seed: int, shape: tuple[int, int] = (3, 24), rate: float = 0.6, missing: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    scores = (generator.random(shape) < rate).astype(float)
    return np.where(generator.random(shape) < missing, np.nan, scores)


def uneven_groups() -> list[str]:
    return ["b"] * 3 + ["a"] * 7 + ["d"] * 1 + ["c"] * 5 + ["e"] * 4 + ["f"] * 2 + ["b"] * 2


def against(baseline: np.ndarray, systems: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (system, baseline) for name, system in systems.items()}


def slow_draws(design: Design, groups: list[str], cells: np.ndarray) -> list[float]:
    """Copy every drawn cell as often as it was drawn, then average those that are not missing."""
    names, means = sorted(set(groups)), []
    for group_counts, seed_counts in zip(design.group_counts, design.seed_counts, strict=True):
        drawn = []
        for seed, row in enumerate(cells):
            for question, score in enumerate(row):
                times = int(group_counts[names.index(groups[question])]) * int(seed_counts[seed])
                drawn += [] if math.isnan(score) else [score] * times
        means.append(sum(drawn) / len(drawn))
    return means


def test_draws_take_as_many_groups_and_seeds_as_there_are() -> None:
    design = Design(uneven_groups(), 3, 200, 0)
    assert design.group_counts.shape == (200, 6) and design.seed_counts.shape == (200, 3)
    assert (design.group_counts.sum(1) == 6).all() and (design.seed_counts.sum(1) == 3).all()
    assert abs(design.group_counts.mean(0) - 1).max() < 0.25 and abs(design.seed_counts.mean(0) - 1).max() < 0.25
    assert (design.group_counts != Design(uneven_groups(), 3, 200, 1).group_counts).any()


def slow_error(groups: list[str], cells: np.ndarray) -> tuple[float, float]:
    """Standard error and degrees of freedom, from how far each group, then each seed, moves the mean."""
    known = [(group, seed, x) for seed, row in enumerate(cells) for group, x in zip(groups, row, strict=True) if x == x]
    mean, parts = sum(x for *_, x in known) / len(known), []
    for which in (0, 1):
        names = {one[which] for one in known}
        moves = [sum(x - mean for *key, x in known if key[which] == name) / len(known) for name in names]
        parts.append((len(names) / (len(names) - 1) * sum(move**2 for move in moves), len(names) - 1))
    total = sum(part for part, _ in parts)
    return math.sqrt(total), total**2 / sum(part**2 / free for part, free in parts)


def test_estimate_equals_the_slow_loop() -> None:
    design, cells = Design(uneven_groups(), 3, 60, 0), simulated(1, missing=0.2)
    error, free = slow_error(uneven_groups(), cells)
    estimate = design.estimate(cells)
    ends = np.nanmean(cells) - t.ppf(0.975, free) * error, np.nanmean(cells) + t.ppf(0.975, free) * error
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((np.nanmean(cells), *ends))
    assert estimate.seed_sd == pytest.approx(np.std(np.nanmean(cells, axis=1), ddof=1))
    assert estimate.n_missing == np.isnan(cells).sum() > 0
    assert estimate.n_questions == (~np.isnan(cells).all(0)).sum()


def test_differences_equal_the_slow_loop() -> None:
    groups, draws = uneven_groups(), 99
    design, baseline = Design(groups, 3, draws, 0), simulated(1, missing=0.1)
    systems = {"close": simulated(2, missing=0.2), "far": simulated(3, rate=0.95)}
    pairs = {name: system - baseline for name, system in systems.items()}
    shifts = {name: np.array(slow_draws(design, groups, x)) - np.nanmean(x) for name, x in pairs.items()}
    largest = [max(abs(shift[draw]) / shift.std(ddof=1) for shift in shifts.values()) for draw in range(draws)]
    for name, found in design.differences(against(baseline, systems), equivalence=0.1).items():
        mean, (error, free) = np.nanmean(pairs[name]), slow_error(groups, pairs[name])
        reach = error * t.isf(norm.sf(sorted(largest)[94]), free)  # the 95th of 99
        alone = t.sf(abs(mean) / error, free)
        p = (1 + sum(one >= norm.isf(alone) for one in largest)) / (draws + 1)
        assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach))
        assert found.p == pytest.approx(max(p, 2 * alone, 2**-5))
        assert found.p_equivalent == pytest.approx(max(t.sf((0.1 - abs(mean)) / error, free), 2**-6))
        assert found.mde == pytest.approx(reach + error * t.isf(0.2, free))


def test_one_difference_is_tested_by_min_f() -> None:
    """Clark's min F' from its two t tests, for groups of equal size."""
    baseline, system = simulated(1, (3, 40)), simulated(2, (3, 40), rate=0.75)
    pairs = (system - baseline).reshape(3, 10, 4)
    by_group, by_seed = (ttest_1samp(pairs.mean(axes), 0).statistic ** 2 for axes in ((0, 2), (1, 2)))
    free = (by_group + by_seed) ** 2 / (by_group**2 / 2 + by_seed**2 / 9)
    error = abs(pairs.mean()) / math.sqrt(by_group * by_seed / (by_group + by_seed))
    found = Design(np.repeat(np.arange(10), 4), 3, 200, 0).difference(system, baseline)
    assert found.mde == pytest.approx(found.high - found.mean + error * t.isf(0.2, free))
    assert found.p == pytest.approx(2 * t.sf(abs(pairs.mean()) / error, free))
    reach = t.isf(0.025, free) * error
    assert (found.low, found.high) == pytest.approx((pairs.mean() - reach, pairs.mean() + reach))


def test_seeds_that_differ_widen_the_interval_by_more_than_normal_quantiles_would() -> None:
    generator, groups = np.random.default_rng(0), np.repeat(np.arange(80), 8)
    cells = np.tile((generator.random(640) < 0.5).astype(float), (3, 1))
    apart = np.array([[-0.1], [0.0], [0.1]])
    calm, torn = (Design(groups, 3, 500, 0).estimate(one) for one in (cells, cells + apart))
    seeds_alone = t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert calm.high - calm.low < 0.1
    assert 1.5 * seeds_alone < torn.high - torn.low < 2.2 * seeds_alone  # 1.96 for t's 4.3 would give 0.9


def test_an_interval_of_a_mean_stays_within_the_scores() -> None:
    cells = np.ones((2, 40))
    cells[0, 0] = 0
    estimate = Design(np.repeat(np.arange(10), 4), 2, 50, 0).estimate(cells)
    assert 0.9 < estimate.low < estimate.mean < estimate.high == 1


def test_many_groups_are_weighted_in_blocks_without_seams() -> None:
    design, cells = Design(uneven_groups(), 3, 1203, 0), simulated(4)
    means = slow_draws(design, uneven_groups(), cells)
    assert design._resampled([cells])[0] == pytest.approx(np.array(means))


def test_order_of_questions_does_not_matter() -> None:
    groups, baseline, system = np.array(uneven_groups()), simulated(1, missing=0.1), simulated(2, missing=0.1)
    order = np.random.default_rng(0).permutation(len(groups))
    first, second = Design(groups, 3, 500, 0), Design(groups[order], 3, 500, 0)
    mixed = baseline[:, order], system[:, order]
    assert astuple(first.estimate(system)) == pytest.approx(astuple(second.estimate(mixed[1])))
    one, other = (
        astuple(design.differences(against(b, {"x": x, "y": 1 - x}))["x"])
        for design, b, x in ((first, baseline, system), (second, *mixed))
    )
    assert one[:-1] == pytest.approx(other[:-1]) and one[-1] == other[-1]


def test_pairing_narrows_the_interval() -> None:
    generator, baseline = np.random.default_rng(0), simulated(1, (3, 120))
    close = np.where(generator.random((3, 120)) < 0.1, 1 - baseline, baseline)
    shuffled = np.stack([generator.permutation(row) for row in close])  # the same means a seed, no pairing
    design = Design(np.repeat(np.arange(30), 4), 3, 500, 0)
    paired, unpaired = (design.difference(x, baseline) for x in (close, shuffled))
    assert paired.mean == pytest.approx(unpaired.mean)
    assert (paired.high - paired.low) < 0.7 * (unpaired.high - unpaired.low)
    assert paired.mde < 0.7 * unpaired.mde


def test_more_systems_widen_the_intervals_and_raise_p() -> None:
    design, baseline = Design(np.repeat(np.arange(30), 4), 3, 500, 0), simulated(0, (3, 120))
    systems = {str(i): simulated(i, (3, 120), 0.65) for i in range(1, 9)}
    alone, together = design.difference(systems["1"], baseline), design.differences(against(baseline, systems))["1"]
    assert together.high > alone.high and together.low < alone.low
    assert together.p > alone.p
    assert together.p_equivalent == alone.p_equivalent and together.mde > alone.mde


GROUPS = np.repeat(np.arange(80), 5)


def experiment(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two systems of the same true mean .5: questions of a group, and answers of a seed, are right together."""
    of_group = generator.uniform(-0.3, 0.3, 80)[GROUPS]
    shared = generator.random((1, 400))  # how hard the question is for both
    scores = []
    for _ in range(2):
        own = np.where(generator.random((3, 400)) < 0.5, generator.random((3, 400)), shared)
        scores.append((own < 0.5 + of_group + generator.uniform(-0.03, 0.03, (3, 1))).astype(float))
    return scores[0], scores[1]


def test_intervals_cover_the_truth_and_no_difference_is_seldom_called_one() -> None:
    generator, design = np.random.default_rng(0), Design(GROUPS, 3, 400, 0)
    covered = rejected = questions_alone = 0
    for _ in range(300):
        baseline, system = experiment(generator)
        estimate, found = design.estimate(system), design.difference(system, baseline)
        covered += estimate.low <= 0.5 <= estimate.high
        rejected += found.p <= 0.05
        questions_alone += abs(system.mean() - 0.5) <= 1.96 * system.std() / math.sqrt(system.size)
        outside = not found.low <= 0 <= found.high
        assert (found.p <= 0.05) == outside == (found.verdict in ("better", "worse"))
    assert 0.90 <= covered / 300 <= 0.99
    assert rejected / 300 <= 0.08
    assert questions_alone / 300 < 0.85  # what happens without groups and seeds


def compared(difference: list[list[float]], groups: list[int], **kwargs: float) -> Difference:
    system = np.array(difference, dtype=float)
    return Design(groups, len(system), 200, 0).difference(system, np.zeros_like(system), **kwargs)


def test_verdicts() -> None:
    generator, groups = np.random.default_rng(0), list(range(400))
    few, many = (np.where(generator.random((2, 400)) < rate, 1.0, 0.0) for rate in (0.004, 0.2))
    assert compared(many.tolist(), groups).verdict == "better"
    assert compared((-many).tolist(), groups).verdict == "worse"
    noise = np.where(generator.random((2, 400)) < 0.5, few, -few)
    assert compared(noise.tolist(), groups).verdict == "equivalent"
    assert compared(noise.tolist(), groups, equivalence=0.0001).verdict == "inconclusive"


def test_equivalence_is_not_shown_by_a_mean_at_the_edge_of_the_region() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.1, (2, 400))
    for edge in (0.02, -0.02):
        cells = noise - noise.mean() + edge
        assert compared(cells.tolist(), list(range(400))).p_equivalent == pytest.approx(0.5, abs=0.1)


def test_missing_pairs_are_left_out_of_both() -> None:
    groups = [0, 0, 1, 1, 2, 2]
    system = np.array([[1, 1, 0, NAN, 1, 0], [1, 0, NAN, NAN, 1, 1]])
    baseline = np.array([[0, NAN, 0, 1, 1, 0], [1, 0, 1, NAN, 0, 1]])
    found = Design(groups, 2, 200, 0).difference(system, baseline)
    assert found.n_missing == 4
    assert found.mean == pytest.approx((1 + 0 + 0 + 0 + 0 + 0 + 1 + 0) / 8)
    # known scores stay: 1 - ?, ? - 1, ? - 1, ? - ?
    assert found.worst_low == pytest.approx((2 + 0 - 1 - 1 - 1) / 12)
    assert found.worst_high == pytest.approx((2 + 1 + 0 + 0 + 1) / 12)
    assert found.seed_sd == pytest.approx(np.std([1 / 4, 1 / 4], ddof=1))


def test_worst_case_of_scores_without_bounds_is_unknown() -> None:
    system, baseline = np.array([[2.5, NAN, 1.0]]), np.array([[1.0, 1.0, 1.0]])
    found = Design([0, 1, 2], 1, 50, 0).difference(system, baseline)
    assert found.mean == 0.75 and math.isnan(found.worst_low) and math.isnan(found.worst_high)
    found = Design([0, 1, 2], 1, 50, 0).difference(baseline, np.array([[2.5, 1.0, 1.0]]))
    assert found.worst_low == found.worst_high == found.mean == -0.5  # nothing is missing


@pytest.mark.parametrize("groups", [[0], [0, 0, 0]])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_group_has_no_interval(groups: list[int], score: float) -> None:
    found = compared([[score] * len(groups)] * 2, groups)
    assert found.mean == score and found.verdict == "inconclusive"
    assert np.isnan([found.low, found.high, found.p, found.p_equivalent, found.mde]).all()
    estimate = Design(groups, 2, 50, 0).estimate([[score] * len(groups)] * 2)
    assert estimate.mean == score and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_one_group_with_scores_among_many_has_no_interval() -> None:
    cells = [[1, 0, NAN, NAN, NAN, NAN], [1, 1, NAN, NAN, NAN, NAN]]
    found = compared(cells, [0, 0, 1, 2, 3, 4])
    assert found.mean == 0.75 and math.isnan(found.low) and found.verdict == "inconclusive"


@pytest.mark.parametrize("groups", [2, 3, 10, 60, 640])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_scores_that_never_vary_get_the_interval_of_a_proportion(groups: int, score: float) -> None:
    exact = binomtest(round(score) * groups, groups).proportion_ci(method="exact")  # Clopper-Pearson
    for each in (1, 4):  # questions of a group, which say no more than one
        estimate = Design(np.repeat(np.arange(groups), each), 3, 20, 0).estimate(np.full((3, groups * each), score))
        assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high)) and estimate.mean == score


def test_sixty_wrong_answers_are_not_certainty() -> None:
    estimate = Design(range(60), 1, 20, 0).estimate(np.zeros((1, 60)))
    assert (estimate.mean, estimate.low, round(estimate.high, 3)) == (0, 0, 0.060)


def test_groups_alike_are_not_certainty_though_their_questions_vary() -> None:
    estimate = Design(np.repeat(np.arange(9), 2), 1, 20, 0).estimate(np.tile([0.0, 1.0], (1, 9)))
    assert (estimate.low, estimate.high) == pytest.approx((0.5 * 0.025 ** (1 / 9), 1 - 0.5 * 0.025 ** (1 / 9)))


def test_losses_that_never_vary_have_no_interval() -> None:
    design, losses = Design(range(60), 1, 20, 0), np.full((1, 60), 2.5)
    assert math.isnan(design.estimate(losses, UNBOUNDED).low)
    found = design.difference(losses, losses + 1)
    assert found.mean == -1 and math.isnan(found.low) and math.isnan(found.p) and found.verdict == "inconclusive"
    known = design.estimate(np.zeros((1, 60)), (0.0, 0.0))  # by definition
    assert known.low == known.high == 0


def test_bounds_matter_only_where_nothing_varies() -> None:
    design, cells = Design(uneven_groups(), 3, 60, 0), simulated(1)
    assert design.estimate(cells) == design.estimate(cells, UNBOUNDED)


def test_equal_scores_are_equivalent_by_the_number_of_groups() -> None:
    scores = simulated(0, missing=0.1)
    found = Design(uneven_groups(), 3, 200, 0).difference(scores, scores)
    bound = 1 - 0.025 ** (1 / 6)
    assert (found.mean, found.p, found.verdict) == (0, 1, "inconclusive") and math.isnan(found.mde)
    assert (found.low, found.high) == pytest.approx((-bound, bound))
    verdicts = {number: compared([[0.0] * number], list(range(number))).verdict for number in (2, 148, 149)}
    assert verdicts == {2: "inconclusive", 148: "inconclusive", 149: "equivalent"}  # .98^149 is less than .05


def test_a_constant_difference_counts_by_the_number_of_groups() -> None:
    assert compared([[1.0] * 5], list(range(5))).verdict == "inconclusive"  # 2^-4 is more than .05
    found = compared([[1.0] * 6], list(range(6)))
    assert found.verdict == "better" and found.p == 2**-5
    assert 0 < found.low == pytest.approx(2 * 0.025 ** (1 / 6) - 1) and found.high == 1
    lost = Design(range(6), 1, 20, 0).difference(np.zeros((1, 6)), np.ones((1, 6)))
    assert (lost.low, lost.high) == (-1, -found.low) and lost.verdict == "worse"


@pytest.mark.parametrize("groups", range(2, 30))
@pytest.mark.parametrize("size", [0.1, 0.3, 1.0])
def test_p_and_interval_agree_on_a_constant_difference(size: float, groups: int) -> None:
    """A difference of .3 on 6 groups may be chance: a seventh may lose 1, and the mean is then nearly 0."""
    found = Design(range(groups), 1, 20, 0).difference(np.full((1, groups), size), np.zeros((1, groups)))
    assert found.p == pytest.approx(min(1, 2 * (1 + size) ** -groups))
    assert (found.low > 0) == (found.p < 0.05) == (found.verdict == "better")


def test_a_constant_difference_among_others_is_adjusted_like_them() -> None:
    design, baseline = Design(range(24), 3, 400, 0), np.zeros((3, 24))
    others = {"x": simulated(1), "y": simulated(2), "z": simulated(3), "won": np.ones((3, 24))}
    alone, together = design.difference(others["won"], baseline), design.differences(against(baseline, others))["won"]
    assert together.low < alone.low and together.p >= alone.p and together.p_equivalent == alone.p_equivalent


def test_near_equality_on_few_groups_is_not_equivalence() -> None:
    found = compared([[0.001, 0.002, -0.001, 0.0]], list(range(4)))
    assert found.p_equivalent == 2**-4 and found.verdict == "inconclusive"


def test_rounding_is_not_a_difference() -> None:
    cells = [[0.1, 0.2, -0.3, -0.3, 0.1, 0.2] * 80]
    assert sum(cells[0][:3]) != sum(cells[0][3:6])  # each 0 but for rounding
    found = Design(np.repeat(np.arange(160), 3), 1, 200, 0).difference(np.clip(cells, 0, 1), -np.clip(cells, -1, 0))
    assert found.p == 1 and found.verdict == "equivalent" and math.isnan(found.mde)


def test_a_system_that_never_differs_leaves_the_others_alone() -> None:
    design, baseline, other = Design(uneven_groups(), 3, 200, 0), simulated(0), simulated(1)
    alone = design.difference(other, baseline)
    assert design.differences(against(baseline, {"same": baseline, "other": other}))["other"] == alone


def test_all_missing() -> None:
    design, nothing = Design(uneven_groups(), 3, 50, 0), np.full((3, 24), np.nan)
    estimate = design.estimate(nothing)
    assert math.isnan(estimate.mean) and math.isnan(estimate.low) and math.isnan(estimate.seed_sd)
    assert estimate.n_questions == 0 and estimate.n_missing == 72
    found = design.differences(against(simulated(1), {"x": nothing, "y": simulated(2)}))
    assert math.isnan(found["x"].mean) and found["x"].verdict == "inconclusive" and found["x"].n_missing == 72
    assert found["x"].worst_low == pytest.approx(-simulated(1).mean())
    assert found["x"].worst_high == pytest.approx(1 - simulated(1).mean())
    assert found["y"] == design.difference(simulated(2), simulated(1))


def test_draws_that_meet_only_missing_scores_do_not_count() -> None:
    cells = np.full((1, 12), np.nan)
    cells[0, :3] = 0.2, 0.4, 0.5
    design = Design(range(12), 1, 200, 0)
    assert (design.group_counts[:, :3].sum(1) == 0).any()
    found = design.differences(against(np.zeros((1, 12)), {"x": cells, "y": cells / 2}))["x"]
    assert found.n_missing == 9 and found.low < 0 < found.high < 2 and 0.05 < found.p < 1


def test_one_seed_says_nothing_of_seeds() -> None:
    design, cells = Design(np.repeat(np.arange(8), 3), 1, 60, 0), simulated(1, (1, 24))
    assert (design.seed_counts == 1).all()
    groups = ttest_1samp(cells.reshape(8, 3).mean(1), 0).confidence_interval()
    estimate = design.estimate(cells)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(groups)) and math.isnan(estimate.seed_sd)
    found = design.difference(cells, np.zeros_like(cells))
    assert found.verdict == "better" and math.isnan(found.seed_sd) and found.low > 0


def test_a_system_without_seeds_meets_every_seed_of_the_other() -> None:
    design, control, system = Design(uneven_groups(), 3, 200, 0), simulated(1, (1, 24), missing=0.1), simulated(2)
    repeated = np.repeat(control, 3, axis=0)
    assert design.difference(control, system) == design.difference(repeated, system)
    once, thrice = design.estimate(control), design.estimate(repeated)
    assert (once.mean, once.low, once.high) == pytest.approx((thrice.mean, thrice.low, thrice.high))
    assert once.n_missing * 3 == thrice.n_missing > 0 and math.isnan(once.seed_sd) and thrice.seed_sd == 0


def test_nothing_to_compare() -> None:
    assert Design([0, 1], 2, 50, 0).differences({}) == {}


@pytest.mark.parametrize("scores", [np.zeros((3, 23)), np.zeros((2, 24)), np.zeros(24), np.full((3, 24), np.inf)])
def test_scores_that_do_not_fit_are_refused_by_name(scores: np.ndarray) -> None:
    design = Design(uneven_groups(), 3, 50, 0)
    with pytest.raises(ValueError, match=r"kl: .*\(3, 24\)"):
        design.differences({"kl": (scores, np.zeros((3, 24)))})
    with pytest.raises(ValueError, match="baseline of kl"):
        design.differences({"kl": (np.zeros((3, 24)), scores)})
    with pytest.raises(ValueError, match="scores"):
        design.estimate(scores)


@pytest.mark.parametrize(("groups", "seeds", "draws"), [([], 1, 50), ([[0, 1]], 1, 50), ([0], 0, 50), ([0], 1, 19)])
def test_designs_that_cannot_be_drawn_are_refused(groups: list, seeds: int, draws: int) -> None:
    with pytest.raises(ValueError, match="draws"):
        Design(groups, seeds, draws, 0)


SCORE = st.sampled_from([0.0, 1.0, 0.5, NAN]) | st.floats(0, 1)


@FEW
@given(st.data())
def test_any_scores_have_their_estimate_within_the_interval(data: st.DataObject) -> None:
    seeds, questions = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    groups = data.draw(st.lists(st.sampled_from("abcde"), min_size=questions, max_size=questions))
    table = st.lists(st.lists(SCORE, min_size=questions, max_size=questions), min_size=seeds, max_size=seeds)
    one, other = np.array(data.draw(table)), np.array(data.draw(table))
    design = Design(groups, seeds, 20, 0)
    found = design.estimate(one)
    if not math.isnan(found.low):
        assert -1e-9 <= found.low <= found.mean + 1e-9 and found.mean - 1e-9 <= found.high <= 1 + 1e-9
    order = data.draw(st.permutations(range(questions)))
    moved = Design([groups[at] for at in order], seeds, 20, 0).estimate(one[:, order])
    assert astuple(moved) == pytest.approx(astuple(found), abs=1e-9, nan_ok=True)
    differences = design.differences({"apart": (one, other), "turned": (other, one), "same": (one, one)})
    for difference in differences.values():
        if not math.isnan(difference.low):
            assert difference.low - 1e-9 <= difference.mean <= difference.high + 1e-9
            assert 0 <= difference.p <= 1 and 0 <= difference.p_equivalent <= 1
    apart, turned, same = differences.values()
    assert (turned.mean, turned.p) == pytest.approx((-apart.mean, apart.p), abs=1e-9, nan_ok=True)
    assert same.verdict in ("equivalent", "inconclusive") and (same.mean == 0 or np.isnan(one).all())
