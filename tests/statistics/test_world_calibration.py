"""Studies over worlds: what is simulated against its variance, and a short calibration."""

import numpy as np
import pytest

from bitter_retrieval.statistics import world_calibration
from bitter_retrieval.statistics.calibration import CalibrationError, Shape, Spread, _experiments
from bitter_retrieval.statistics.world_calibration import Worlds, calibrate_worlds, sampling_sd, scattering

SPREAD = Spread(
    rate=0.666,
    own={"group": 0.0161, "question": 0.1623, "seed": 0.0008, "group_seed": 0.0, "residual": 0.043244},
    shared={"group": 0.0058, "question": 0.0625, "seed": 0.0, "group_seed": 0.0, "residual": 0.0},
)
SHAPE = Shape([f"g{number // 4}" for number in range(160)] + ["one"] * 20, 3, 1)  # groups of 4, and one of 20


def test_the_error_in_one_world_is_that_of_simulated_scores() -> None:
    generator = np.random.default_rng(0)
    drawn = [one for _ in range(50) for (one,) in _experiments(SPREAD, SHAPE, [], generator)]
    spread = np.std([one[1].mean() - one[0].mean() for one in drawn])
    assert sampling_sd(SPREAD, SHAPE) == pytest.approx(spread, rel=0.06)  # 1,000 draws: two errors are 4.5%


def test_studies_scatter_as_asked_and_contrasts_are_correlated() -> None:
    study = Worlds(5, 3, scattering(0.032, 0.01, 0.02), 0.01, common=0.25)
    assert study.truth_sd**2 + 0.02**2 == pytest.approx(0.032**2)
    generator = np.random.default_rng(0)
    cells = np.concatenate([world_calibration._study(study, 0.02, generator) for _ in range(4000)])
    assert cells.std(0) == pytest.approx([0.032] * 3, rel=0.02)
    wanted = (0.25 * study.truth_sd**2 + 0.5 * 0.02**2) / 0.032**2
    assert np.corrcoef(cells.T)[0, 1:] == pytest.approx([wanted] * 2, abs=0.02)


def test_more_scatter_by_fits_and_questions_than_in_all_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"scatter by 3 points .*fits \(2\) and questions and seeds \(3.0\)"):
        scattering(0.03, 0.02, 0.03)


@pytest.mark.parametrize("worlds", [5, 16])
def test_intervals_over_worlds_cover_where_that_of_one_world_does_not(worlds: int) -> None:
    error = sampling_sd(SPREAD, SHAPE)
    study = Worlds(worlds, 4, world_sd=2 * error, fit_sd=error)
    found = calibrate_worlds(SPREAD, SHAPE, study, experiments=400, seed=0)
    for figure in ("alone", "together"):
        assert 0.92 <= found.shares[figure] <= 0.98, figure
    assert found.shares["rejected"] <= 0.08 and found.shares["familywise"] <= 0.08
    for figure in ("power", "power_together"):
        assert 0.74 <= found.shares[figure] <= 0.86, figure
    assert found.mde_together > found.mde
    assert found.shares["one_world"] < 0.65  # 1.96 of sqrt(6) errors
