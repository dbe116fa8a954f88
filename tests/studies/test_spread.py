"""study spread: variance components against slow sums and simulated worlds, and the page."""

from pathlib import Path
from typing import Any

import markdown_tables
import numpy as np
import pytest
from study_reports import report

import use_profile
from bitter_retrieval.params import Params, parse_params
from bitter_retrieval.studies.replication import ReplicationError, detectable, figures, worlds_needed
from bitter_retrieval.studies.spread import analyse, components, fits, markdown, sd_of_a_world, wanted
from bitter_retrieval.typed_yaml import parse_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(ROOT)
    return parse_params(parse_yaml(use_profile.render("spread"), "a profile"), "spread")


def found(params: Params, cells: np.ndarray) -> dict[str, dict[str, Any]]:
    """Figures of the worlds 201, 202, … with these contrasts [worlds, draws, fits], each by its own reader alone."""
    made = {}
    for (world, draw), row in zip(np.ndindex(cells.shape[:2]), cells.reshape(-1, cells.shape[2]), strict=True):
        em = {
            reader: {"infonce_human": 0.5} | {run: 0.1 for run in fits(params).values()} | {run: 0.5 + float(value)}
            for (reader, run), value in zip(fits(params).items(), row, strict=True)
        }
        labels = {name: run.labels for name, run in params.runs.items()}
        one = figures(report(em, labels, {}, "infonce_human"))
        made[f"spread-{201 + world}-{draw}"] = one | {"code": "0a6091d"}
    return made


def simulated(sd: dict[str, float], worlds: int, draws: int, readers: int) -> np.ndarray:
    normal = np.random.default_rng(0).standard_normal
    return (
        sd["world"] * normal((worlds, 1, 1))
        + sd["draw"] * normal((worlds, draws, 1))
        + sd["fit"] * normal((worlds, 1, readers))
        + sd["rest"] * normal((worlds, draws, readers))
    )


def test_components_of_many_simulated_worlds_are_those_simulated() -> None:
    sd = {"world": 0.03, "draw": 0.02, "fit": 0.01, "rest": 0.015}
    parts = components(simulated(sd, 20_000, 2, 4))
    assert {name: part.variance**0.5 for name, part in parts.items()} == pytest.approx(sd, rel=0.03)
    assert sd_of_a_world(parts) == pytest.approx((0.03**2 + 0.02**2 + 0.01**2 + 0.015**2) ** 0.5, rel=0.02)
    averaged = 0.03**2 + 0.02**2 / 2 + 0.01**2 / 4 + 0.015**2 / 8
    assert sd_of_a_world(parts, draws=2, readers=4) == pytest.approx(averaged**0.5, rel=0.02)


def test_mean_squares_are_slow_sums_over_cells() -> None:
    y = simulated(dict.fromkeys(("world", "draw", "fit", "rest"), 0.02), 4, 2, 3)
    world, draw, fit = y.mean((1, 2)), y.mean(2), y.mean(1)
    sums = dict.fromkeys(("world", "draw", "fit", "rest"), 0.0)
    for a, b, c in np.ndindex(y.shape):
        sums["world"] += (world[a] - y.mean()) ** 2
        sums["draw"] += (draw[a, b] - world[a]) ** 2
        sums["fit"] += (fit[a, c] - world[a]) ** 2
        sums["rest"] += (y[a, b, c] - draw[a, b] - fit[a, c] + world[a]) ** 2
    assert sum(sums.values()) == pytest.approx(((y - y.mean()) ** 2).sum()), "the sums of squares add up"
    free = {"world": 3, "draw": 4, "fit": 8, "rest": 8}
    parts = components(y)
    assert {name: part.free for name, part in parts.items()} == free
    assert {name: part.mean_square for name, part in parts.items()} == pytest.approx(
        {name: sums[name] / free[name] for name in sums}
    )


def test_a_component_below_0_is_0() -> None:
    cells = np.array([[[1.0, 1.0], [-1.0, -1.0]], [[-1.0, -1.0], [1.0, 1.0]]])  # draws alone differ
    variances = {name: part.variance for name, part in components(cells).items()}
    assert variances == {"world": 0, "draw": pytest.approx(2.0), "fit": 0, "rest": 0}, "the world's would be -1"


def test_experiments_are_worlds_times_draws(params: Params) -> None:
    made = wanted(params, 2)
    assert list(made) == ["spread-201-0", "spread-202-0", "spread-201-1", "spread-202-1"]
    one, other = made["spread-202-0"], made["spread-202-1"]
    assert {key for key in one if one[key] != other[key]} == {"++data.world.train_draw"}
    assert one["data.seed"] == "202"


def test_a_cell_is_a_readers_run_answered_by_that_reader(params: Params) -> None:
    cells = np.random.default_rng(1).normal(0.03, 0.02, (4, 2, 4))
    spread = analyse(params, found(params, cells))
    assert spread.cells == pytest.approx(cells) and spread.worlds == [201, 202, 203, 204]
    assert spread.errors == pytest.approx(np.full((4, 2, 4), 0.01))


def test_worlds_without_all_draws_wait(params: Params) -> None:
    made = found(params, np.random.default_rng(1).normal(0.03, 0.02, (3, 2, 4)))
    del made["spread-202-1"]
    spread = analyse(params, made)
    assert spread.worlds == [201, 203]
    assert "**Not finished: 2 of 4 worlds have results.**" in markdown(spread, 4, [])
    assert "Not finished" not in markdown(spread, 2, [])
    del made["spread-203-0"]
    with pytest.raises(ReplicationError, match="1 worlds have results for all 2 draws: two are needed"):
        analyse(params, made)


def test_other_params_are_refused(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    for profile in ("confirm", "default"):
        other = parse_params(parse_yaml(use_profile.render(profile), "a profile"), profile)
        with pytest.raises(ReplicationError, match="use_profile.py spread"):
            wanted(other, 4)


def test_the_page_has_shares_that_add_up_and_the_worlds_needed(params: Params) -> None:
    cells = np.random.default_rng(1).normal(0.03, 0.02, (4, 2, 4))
    spread = analyse(params, found(params, cells))
    page = markdown(spread, 4, ["python src/study.py spread table"])
    rows, sd = markdown_tables.rows(page), sd_of_a_world(spread.parts)
    first = next(at for at, row in enumerate(rows) if row[0] == "source")
    assert 98 <= sum(int(row[3]) for row in rows[first + 1 : first + 5]) <= 102
    assert rows[first + 5] == ["all", "-", f"{100 * sd:.1f}", "100"]
    assert ["1", "1", f"{100 * sd:.1f}", str(worlds_needed(sd))] in rows
    assert any(row[0] == "detect, points" and row[3] == f"{100 * detectable(sd, 16):.1f}" for row in rows)
    assert rows[-1] == ["204", "1", *(f"{100 * value:+.1f}".replace("-", "−") for value in cells[3, 1])]
    assert "imply a standard deviation of 1.0 points in a cell" in " ".join(page.split())
