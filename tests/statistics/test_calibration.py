"""Calibration: measured spread against slow loops, simulated scores against the spread, and a short calibration."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import multivariate_normal, norm

import calibrate as command
from bitter_retrieval.params import load_params
from bitter_retrieval.records import PREDICTIONS, Row, read_rows, write_rows
from bitter_retrieval.statistics import calibration
from bitter_retrieval.statistics.calibration import (
    LEVELS,
    Calibration,
    CalibrationError,
    Shape,
    Spread,
    calibrate,
    components,
    exact_matches,
    latent,
    measure,
)

REPOSITORY = Path(__file__).parents[2]
GROUPS = [f"g{number // 8}" for number in range(640)]
MEASURED = Spread(  # of the default
    rate=0.666,
    own={"group": 0.0061, "question": 0.1723, "seed": 0.00002, "group_seed": 0.0, "residual": 0.044024},
    shared={"group": 0.0058, "question": 0.0625, "seed": 0.00001, "group_seed": 0.0, "residual": 0.0},
)


def scores(seed: int, missing: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 2, 12) + generator.normal(0, 0.5, (3, 1))
    cells = (common + generator.normal(0, 1, (3, 12)) < 0.3).astype(float)
    return np.where(generator.random((3, 12)) < missing, np.nan, cells)


def slow_covariances(first: np.ndarray, second: np.ndarray, groups: list[str]) -> dict[str, float]:
    """Covariances of two cells by what they have in common, over all pairs of cells, one of each system."""
    products: dict[tuple[bool, bool, bool], list[float]] = {}
    cells = [(seed, question) for seed in range(3) for question in range(12)]
    for one in cells:
        for other in cells:
            if not np.isnan(first[one]) and not np.isnan(second[other]):
                both = one[0] == other[0], one[1] == other[1], groups[one[1]] == groups[other[1]]
                products.setdefault(both, []).append(first[one] * second[other])
    names = {"001": "group", "011": "question", "100": "seed", "101": "group_seed", "111": "residual", "000": "nothing"}
    means = {names["".join(str(int(same)) for same in both)]: np.mean(found) for both, found in products.items()}
    return {name: float(mean - means["nothing"]) for name, mean in means.items()}


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_components_equal_the_slow_loop_over_pairs_of_cells(missing: float) -> None:
    groups = list("aabbbbccdddd")
    for first, second in ((scores(1, missing), scores(1, missing)), (scores(1, missing), scores(2, missing))):
        wanted, found = slow_covariances(first, second, groups), components(first, second, groups)
        assert found["group"] == pytest.approx(wanted["group"])
        assert found["seed"] == pytest.approx(wanted["seed"])
        assert found["group"] + found["question"] == pytest.approx(wanted["question"])
        assert found["group"] + found["seed"] + found["group_seed"] == pytest.approx(wanted["group_seed"])
        assert sum(found.values()) == pytest.approx(wanted["residual"])


def test_components_of_a_difference_are_those_of_its_parts() -> None:
    one, other, groups = scores(1), scores(2), list("aabbbbccdddd")
    parts = [components(*pair, groups) for pair in ((one, one), (other, other), (one, other))]
    whole = components(one - other, one - other, groups)
    for level in LEVELS:
        assert whole[level] == pytest.approx(parts[0][level] + parts[1][level] - 2 * parts[2][level])


def test_normal_variables_have_the_covariance_of_the_scores() -> None:
    for rate in (0.2, 0.5, 0.9):
        for correlation in (-0.3, 0.0, 0.4, 0.95):
            normal = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])
            covariance = normal.cdf([norm.ppf(rate)] * 2) - rate**2
            assert calibration._correlation(covariance, rate) == pytest.approx(correlation, abs=2e-3)


def test_simulated_scores_vary_as_was_measured() -> None:
    spread = MEASURED.changed("seed", 0.1**2, "residual").changed("group", 0.06, "question")
    generator = np.random.default_rng(0)
    shape, gains = Shape(GROUPS, 3, 2), [0.05, 0.1]
    found = [one for _ in range(5) for one in calibration._experiments(spread, shape, gains, generator)]
    assert np.mean([null.mean() for null, *_ in found]) == pytest.approx(0.666, abs=0.01)
    for place, gain in enumerate(gains):
        gained = np.mean([more[place].mean() - null[1].mean() for null, *more in found])
        assert gained == pytest.approx(gain, abs=0.005)
    own = [components(null[1], null[1], GROUPS) for null, *_ in found]
    shared = [components(null[1], null[0], GROUPS) for null, *_ in found]
    for level in LEVELS:
        assert np.mean([one[level] for one in own]) == pytest.approx(spread.own[level], abs=0.003), level
        assert np.mean([one[level] for one in shared]) == pytest.approx(spread.shared[level], abs=0.003), level


def test_the_spread_is_the_median_over_runs_and_never_negative() -> None:
    groups, base = list("aabbbbccdddd"), scores(0)
    runs = {str(seed): scores(seed) for seed in (1, 2, 3)}
    found = measure({"base": base} | runs, groups, "base")
    of_base, *of_runs = (components(one, one, groups)["question"] for one in (base, *runs.values()))
    own = [(one + of_base) / 2 for one in of_runs]
    assert found.own["question"] == pytest.approx(sorted(own)[1])
    assert sum(found.own.values()) == pytest.approx(found.rate * (1 - found.rate))
    assert all(0 <= found.shared[level] <= found.own[level] for level in LEVELS)


def test_another_spread_of_seeds_is_that_of_the_difference() -> None:
    changed = MEASURED.changed("seed", 0.03**2, "residual")
    assert changed.of_difference("seed") == pytest.approx(0.03**2)
    assert sum(changed.own.values()) == pytest.approx(sum(MEASURED.own.values()))
    assert changed.own["question"] == MEASURED.own["question"]


# -- a short calibration: `python src/calibrate.py` is the long one ------------------------------------------------


def short(spread: Spread, runs: int, experiments: int) -> Calibration:
    return calibrate(spread, Shape(GROUPS, 3, runs), experiments, 200, 0)


def test_intervals_cover_tests_keep_their_level_and_the_power_is_as_stated() -> None:
    found = short(MEASURED, runs=4, experiments=300)
    assert found.experiments == 300 and 0.045 < found.mde < found.mde_together < 0.075
    for figure in ("mean", "alone", "together"):
        assert 0.91 <= found.shares[figure] <= 0.99, figure
    assert found.shares["rejected"] <= 0.07 and found.shares["familywise"] <= 0.07
    for figure in ("power", "power_together"):
        assert 0.73 <= found.shares[figure] <= 0.87, figure


def test_seeds_that_differ_by_eight_points_fool_the_test_seldom() -> None:
    found = short(MEASURED.changed("seed", 0.08**2, "residual"), runs=1, experiments=300)
    assert found.shares["rejected"] <= 0.11  # normal quantiles and the bootstrap's own errors: .16
    assert found.shares["alone"] >= 0.89


def test_a_share_is_held_to_what_is_wanted_within_two_errors() -> None:
    def held(figure: str, share: float) -> bool:
        return Calibration(10_000, 0.06, 0.07, {figure: share}).held(figure)

    assert Calibration(10_000, 0.06, 0.07, {}).error(0.8) == pytest.approx(0.004)
    assert held("power_together", 0.8) and held("alone", 0.95) and held("rejected", 0.0)
    assert held("power_together", 0.837) and not held("power_together", 0.84)
    assert held("familywise", 0.054) and not held("familywise", 0.06)
    assert held("mean", 0.973) and not held("mean", 0.98)


# -- what cannot be measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "groups"), [(1, "aabbbbccdddd"), (3, "aaaaaaaaaaaa")])
def test_one_seed_or_one_group_cannot_be_measured(seeds: int, groups: str) -> None:
    with pytest.raises(CalibrationError, match=f"{seeds} seeds, {len(set(groups))} groups.*two of each"):
        measure({"a": scores(1)[:seeds], "b": scores(2)[:seeds]}, list(groups), "a")


def test_groups_of_one_question_vary_as_questions() -> None:
    groups = list("abcdefghijkl")
    found, wanted = components(scores(1), scores(1), groups), slow_covariances(scores(1), scores(1), groups)
    assert found["group"] == found["group_seed"] == 0 and found["question"] == pytest.approx(wanted["question"])


@pytest.mark.parametrize(
    "systems",
    [{"a": scores(1)}, {"a": np.ones((3, 12)), "b": scores(2)}, {"a": scores(1), "b": scores(2)[:2]}],
)
def test_systems_that_cannot_be_compared_are_refused(systems: dict[str, np.ndarray]) -> None:
    with pytest.raises(CalibrationError, match="two systems or more"):
        measure(systems, list("aabbbbccdddd"), "a")


def test_more_spread_than_scores_can_have_is_refused() -> None:
    with pytest.raises(CalibrationError, match="cannot vary so much"):
        latent(MEASURED.changed("seed", 0.5, "residual"))
    with pytest.raises(CalibrationError, match="cannot vary so much"):
        latent(MEASURED.changed("group", 0.4, "question"))


def test_an_effect_beyond_all_questions_is_refused() -> None:
    with pytest.raises(CalibrationError, match="so few groups"):
        calibrate(MEASURED, Shape(list("aabbbb"), 3, 1), 20, 50, 0)


# -- the command -----------------------------------------------------------------------------------------------------


def predictions(cells: np.ndarray) -> list[Row]:
    """Predictions of one run: two readers, one and five passages shown, four questions a group."""
    bare = dict.fromkeys(PREDICTIONS.names)
    return [
        {**bare, "reader": reader, "seed": seed, "shown": shown}
        | {"query_id": f"q{number}", "group_id": f"g{number // 4}"}
        | {"em": score if (reader, shown) == ("reader_a", 1) else 0.0}
        for seed, row in enumerate(cells)
        for number, score in enumerate(row)
        for reader in ("reader_a", "reader_b")
        for shown in (1, 5)
    ]


def test_exact_matches_are_placed_by_question_and_seed() -> None:
    rows = [row for row in predictions(scores(1)) if (row["reader"], row["shown"]) == ("reader_a", 1)]
    systems, groups = exact_matches({"kl": rows[::-1], "mse": rows[:5]})
    assert groups == [f"g{number // 4}" for number in range(11, -1, -1)]
    assert (systems["kl"] == scores(1)[:, ::-1]).all()
    assert systems["mse"].shape == (1, 12) and np.isnan(systems["mse"]).sum() == 7


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parameters of the default with three runs, and their predictions."""
    params = yaml.safe_load((REPOSITORY / "profiles/default.yaml").read_text(encoding="utf-8"))
    params["runs"] = {run: params["runs"][run] for run in ("infonce_human", "infonce_a", "kl_a")}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    groups = [str(number // 4) for number in range(120)]
    (simulated,) = next(calibration._experiments(MEASURED, Shape(groups, 3, 2), [], np.random.default_rng(0)))
    for run, cells in zip(params["runs"], simulated, strict=True):
        write_rows(tmp_path / f"data/predictions/runs/{run}.parquet", predictions(cells), PREDICTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_prints_what_was_measured_and_what_happened(
    repository: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "PILOTS", 20)
    options = ["--experiments", "40", "--draws", "50", "--seed-sd", "3", "--correlation", "--worlds", "5"]
    assert command.main([*options, "--scatter", "9"]) in (0, 1)  # 40 experiments are few
    text = capfd.readouterr().out
    assert "% of 40 experiments" in text and "as measured" in text and "seeds ±3 points" in text
    assert "93 to 97" in text and "stated MDE, points" in text and "question of a group" in text
    (row,) = [line for line in text.splitlines() if line.startswith(" one world's interval")]
    assert row.count("-") == 2 and "±" in row  # only studies over worlds have it
    assert command.main([*options, "--scatter", "2"]) == 2
    assert "cannot scatter by 2 points over worlds" in capfd.readouterr().err


def test_the_family_is_of_the_secondary_differences(repository: Path) -> None:
    assert command.measured(load_params())[1].runs == 2  # kl_a, and the contrast kl_a to infonce_a


def test_questions_from_another_domain_are_left_out(repository: Path) -> None:
    before = command.measured(load_params())
    rows = [row | {"beyond": True, "group_id": "far"} for row in predictions(scores(1))]
    for run in load_params().runs:
        path = repository / f"data/predictions/runs/{run}.parquet"
        write_rows(path, read_rows(path, PREDICTIONS) + rows, PREDICTIONS)
    assert command.measured(load_params()) == before


def test_the_command_says_what_is_missing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "data/predictions/runs/kl_a.parquet").unlink()
    assert command.main([]) == 2
    assert "dvc repro evaluate@kl_a" in capsys.readouterr().err
