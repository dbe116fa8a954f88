"""study confirm: which worlds are queued, contrasts over worlds, the map of errors, page and picture."""

import json
import math
from pathlib import Path
from typing import Any

import markdown_tables
import numpy as np
import pytest
import yaml
from study_reports import experiment, report, with_settings

import study
import use_profile
from bitter_retrieval.params import Params, parse_params
from bitter_retrieval.statistics.worlds import simultaneous_over_worlds
from bitter_retrieval.studies import experiments, map_plot, replication, sweep_plot
from bitter_retrieval.studies.confirmation import analyse, break_even, design, wanted
from bitter_retrieval.studies.confirmation_page import markdown
from bitter_retrieval.studies.replication import ReplicationError, figures
from bitter_retrieval.typed_yaml import parse_yaml

ROOT = Path(__file__).parents[2]
LEVELS = {"infonce_human_00": 0.0, "infonce_human_10": 0.1, "infonce_human_20": 0.2, "infonce_human_40": 0.4}
ERRORS = {"human_00": 0.0, "human_10": 0.1, "human_20": 0.2, "human_40": 0.4}
ERRORS |= {"reader_a": 0.05, "noisy_1": 0.1, "noisy_2": 0.2, "noisy_3": 0.4}


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(ROOT)
    return parse_params(parse_yaml(use_profile.render("confirm"), "a profile"), "confirm")


def world(params: Params, number: int, readers: tuple[str, ...] = ("reader_a",)) -> dict[str, Any]:
    """A report in which a run loses half a point a point of its labels' error, and chance adds to every run."""
    chance = np.random.default_rng(number).normal(0, 0.01, len(params.runs))
    em = {
        name: 0.7 - ERRORS[run.labels] / 2 + float(error)
        for (name, run), error in zip(params.runs.items(), chance, strict=True)
    }
    labels = {name: run.labels for name, run in params.runs.items()}
    systems = em | {"bm25": 0.4}
    return report({reader: systems for reader in readers}, labels, ERRORS, "infonce_human_10")


def worlds(params: Params, count: int = 6, **more: Any) -> dict[str, dict[str, Any]]:
    numbers = range(101, 101 + count)
    return {f"world-{number}": figures(world(params, number, **more)) | {"code": "0a6091d"} for number in numbers}


def em(found: dict[str, dict[str, Any]], run: str) -> np.ndarray:
    return np.array([one["scores"]["reader_a"]["em"][run] for one in found.values()])


# -- analysis ------------------------------------------------------------------------------------------------------


def test_label_contrasts_are_one_family_over_worlds(params: Params) -> None:
    found = worlds(params)
    confirmed = analyse(design(params), found)
    differences = np.transpose([em(found, "infonce_a") - em(found, run) for run in LEVELS])
    assert confirmed.contrasts == list(zip(LEVELS, simultaneous_over_worlds(differences, 0.02), strict=True))
    alone = simultaneous_over_worlds((em(found, "kl_a") - em(found, "infonce_a"))[:, None], 0.02)
    assert confirmed.losses == [("kl_a", alone[0])]
    assert confirmed.em["infonce_a"] == pytest.approx(em(found, "infonce_a").mean())
    assert confirmed.em["bm25"] == pytest.approx(0.4)


def test_the_map_has_a_cell_a_pair_of_errors(params: Params) -> None:
    found = worlds(params)
    errors = analyse(design(params), found).errors_map
    softs = {"infonce_a": 0.05, "infonce_noisy_1": 0.1, "infonce_noisy_2": 0.2, "infonce_noisy_3": 0.4}
    assert list(dict(errors.annotators)) == list(LEVELS) and dict(errors.annotators) == pytest.approx(LEVELS)
    assert list(dict(errors.labellers)) == list(softs) and dict(errors.labellers) == pytest.approx(softs)
    for row, human in zip(errors.cells, LEVELS, strict=True):
        for cell, soft in zip(row, softs, strict=True):
            assert cell.worlds == pytest.approx(tuple(em(found, soft) - em(found, human)))
    everything = np.transpose([em(found, soft) - em(found, human) for human in LEVELS for soft in softs])
    assert errors.grid("low").ravel() == pytest.approx([one.low for one in simultaneous_over_worlds(everything)])


def test_axes_ascend_whatever_the_order_of_the_runs(params: Params) -> None:
    found = worlds(params)
    for one in found.values():
        one["errors"] = one["errors"] | {"human_00": 0.3, "noisy_3": 0.01}
    errors = analyse(design(params), found).errors_map
    assert [error for _, error in errors.annotators] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert errors.labellers[0] == ("infonce_noisy_3", pytest.approx(0.01))
    cell = errors.cells[2][0]  # annotators of human_00, now the third
    assert cell.worlds == pytest.approx(tuple(em(found, "infonce_noisy_3") - em(found, "infonce_human_00")))


def test_further_measures_are_support_and_other_readers(params: Params) -> None:
    two = parse_params(
        use_profile.resolve("confirm")[0] | {"readers": use_profile.resolve("default")[0]["readers"]}, "two readers"
    )
    confirmed = analyse(design(two), worlds(two, readers=("reader_a", "reader_b")))
    assert list(confirmed.measures) == ["the passage truly supports", "EM of reader_b"]
    assert confirmed.measures["EM of reader_b"] == confirmed.contrasts
    assert list(analyse(design(params), worlds(params)).measures) == ["the passage truly supports"]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ([0.1, 0.05, -0.05], 15.0),
        ([0.1, 0.0, -0.1], 10.0),
        ([-0.1, -0.2, 0.3], -math.inf),
        ([0.1, 0.2, 0.3], math.inf),
        ([0.3, -0.1, 0.2], 7.5),
    ],
)
def test_break_even_is_the_first_zero(values: list[float], where: float) -> None:
    assert break_even([0.0, 10.0, 20.0], values) == pytest.approx(where)


def test_one_world_or_no_errors_are_refused(params: Params) -> None:
    with pytest.raises(ReplicationError, match="worlds with results: 1. Two are needed"):
        analyse(design(params), worlds(params, count=1))
    found = worlds(params)
    found["world-102"]["errors"]["noisy_2"] = None
    with pytest.raises(ReplicationError, match="labels noisy_2: .*no share of wrong labels"):
        analyse(design(params), found)


def test_params_without_a_map_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    other = parse_params(parse_yaml(use_profile.render("spread"), "a profile"), "spread")
    with pytest.raises(ReplicationError, match="a map needs .*use_profile.py confirm"):
        wanted(other, 2)


# -- page and picture ----------------------------------------------------------------------------------------------


def test_the_page_has_the_figures_and_the_break_even(params: Params) -> None:
    confirmed = analyse(design(params), worlds(params))
    page = markdown(confirmed, design(params), 6, ["python src/study.py confirm table"], "../plots/map.png")
    rows = markdown_tables.rows(page)
    (first,) = (row for row in rows if row[0] == "infonce_human_40" and row[1] == "40.0")
    one = dict(confirmed.contrasts)["infonce_human_40"]
    assert one.verdict == "better" and one.mean == pytest.approx(0.175, abs=0.02)
    assert first[2].startswith(f"+{100 * one.mean:.1f} [+{100 * one.low:.1f}, ") and first[5:7] == ["6 of 6", "better"]
    (row,) = (row for row in rows if row[0] == "infonce_human_20, 20.0%")
    places, cells = [0.05, 0.1, 0.2, 0.4], confirmed.errors_map.cells[2]
    even = break_even(places, [cell.mean for cell in cells])
    assert row[5].startswith(f"{100 * even:.1f} [") and 0.1 < even < 0.3
    (row,) = (row for row in rows if row[0] == "infonce_human_00, 0.0%")
    assert row[5].startswith("below 5.0 [below 5.0, ")
    levels = [f"{100 * one.worlds[2]:+.1f}".replace("-", "−") for _, one in confirmed.contrasts]
    assert ["world-103", *levels] in rows
    assert "Code: 0a6091d. Processors: a processor." in " ".join(page.split())
    assert "![" in page and "(../plots/map.png)" in page and "Not finished" not in page
    assert "- Annotators wrong about 40.0% (`infonce_human_40`): soft labels answer more questions" in page


def test_a_page_of_some_worlds_says_so(params: Params) -> None:
    page = markdown(analyse(design(params), worlds(params, 5)), design(params), 16, [], "")
    assert "**Not finished: 5 of 16 worlds have results.**" in page


def test_the_same_map_is_the_same_picture(params: Params, tmp_path: Path) -> None:
    for name, count in (("one", 6), ("two", 6), ("other", 5)):
        errors = analyse(design(params), worlds(params, count)).errors_map
        map_plot.draw(errors, count, tmp_path / f"{name}.png")
    pictures = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert pictures["one"] == pictures["two"] != pictures["other"]


def reported(**contrasts: list[str]) -> dict[str, Any]:
    """The part of a report that a sweep reads: 3 points against the baseline, 5 in every contrast."""
    shares, at_start = ({"mean": mean, "low": mean - 0.01, "high": mean + 0.02} for mean in (0.05, 0.03))
    about = {"reader": "r", "primary_metrics": ["em"], "primary": "soft", "contrasts": contrasts}
    found = {name: shares for name in contrasts}
    return {
        "about": about,
        "differences": {"r": {"em": {"soft": at_start, "other": shares}}},
        "contrasts": {"r": {"em": found}} if found else {},
    }


def test_a_sweep_is_of_contrasts_of_the_primary_that_name_kind_and_share() -> None:
    given = {"loss": ["kl", "soft"], "kl_20": ["kl", "x"], "far_40": ["soft", "y"], "far_20": ["soft", "x"]}
    start, later = pytest.approx((0, 3, 2, 5)), (pytest.approx((share, 5, 4, 7)) for share in (20, 40))
    assert sweep_plot.of(reported(**given)) == {"far": [start, *later]}
    assert sweep_plot.of(reported(loss=["kl", "soft"])) == sweep_plot.of(reported()) == {}


def test_the_same_sweeps_are_the_same_picture(params: Params, tmp_path: Path) -> None:
    confirmed = sweep_plot.worlds(analyse(design(params), worlds(params)))
    assert [round(place) for place, *_ in confirmed["annotators"]] == [0, 10, 20, 40]
    real = {"nq": reported(far_20=["soft", "x"]), "no sweep": reported()}
    for name, reports in (("one", real), ("two", real), ("other", {})):
        sweep_plot.draw(confirmed, reports, tmp_path / f"{name}.png")
    pictures = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert pictures["one"] == pictures["two"] != pictures["other"]


def test_the_map_is_interpolated_between_its_cells() -> None:
    across, up = np.array([0.0, 10.0, 40.0]), np.array([5.0, 25.0])
    values = np.add.outer(2 * across, -up)
    fine_across, fine_up = map_plot._fine(across, up)
    assert map_plot._between(across, up, values) == pytest.approx(np.add.outer(2 * fine_across, -fine_up))


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def known(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The worlds that DVC knows, to be filled; in a folder with profile confirm."""
    seeds: list[int] = []
    tree = parse_yaml(use_profile.render("confirm"), "a profile")

    def dvc(*arguments: str) -> str:
        if arguments[:3] == ("exp", "run", "--queue"):
            print("asked for", *arguments[4:6])
        made = {f"world-{seed}": with_settings(tree, wanted(params, 16)[f"world-{seed}"]) for seed in seeds}
        return json.dumps([{"experiments": [experiment(name, params) for name, params in made.items()]}])

    def git(*arguments: str) -> str:
        if arguments[0] == "rev-parse":
            return "0a6091d\n"
        return json.dumps(world(params, int(arguments[1].split(":")[0].removeprefix("world-"))))

    monkeypatch.setattr(experiments, "dvc", dvc)
    for module in (experiments, replication):
        monkeypatch.setattr(module, "git", git)
    monkeypatch.chdir(tmp_path)
    Path("profiles").symlink_to(ROOT / "profiles")
    Path("metrics").mkdir()
    assert use_profile.main(["confirm"]) == 0
    return seeds


def test_queue_asks_for_the_worlds_without_figures(known: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    known += [101, 102]
    assert study.main(["confirm", "table", "--worlds", "4"]) == 0
    known[:] = [103]  # the others are in metrics/confirm.json alone
    capsys.readouterr()
    assert study.main(["confirm", "queue", "--worlds", "4"]) == 0
    said = capsys.readouterr().out
    assert "asked for world-104 --set-param=data.seed=104" in said and said.count("asked for") == 1
    assert "python src/study.py confirm table --worlds 4" in said


def test_table_writes_page_picture_and_figures(known: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert study.main(["confirm", "table"]) == 2
    assert "worlds with results: 0. Two are needed" in capsys.readouterr().err and not Path("docs").exists()
    known += [101, 102, 103]
    assert study.main(["confirm", "table"]) == 0
    assert "3 of 8 worlds" in capsys.readouterr().out
    page = Path("docs/confirm.md").read_text()
    assert "3 of 8 worlds have results" in page and Path("plots/map.png").stat().st_size > 1000
    assert list(json.loads(Path("metrics/confirm.json").read_text())["experiments"]) == [
        "world-101",
        "world-102",
        "world-103",
    ]
    known.clear()
    assert study.main(["confirm", "table"]) == 0 and Path("docs/confirm.md").read_text() == page


def test_parameters_that_changed_are_refused(known: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    known += [101, 102]
    assert study.main(["confirm", "table"]) == 0
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["train"]["epochs"] = 99
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    assert study.main(["confirm", "queue"]) == 2
    assert "params.yaml has train.epochs = 99" in capsys.readouterr().err


# -- the profile ---------------------------------------------------------------------------------------------------


def test_the_profile_freezes_the_defaults_of_reader_and_runs(params: Params) -> None:
    default = use_profile.resolve("default")[0]
    confirmed = use_profile.resolve("confirm")[0]
    assert confirmed["readers"]["reader_a"] == default["readers"]["reader_a"]
    for name, run in confirmed["runs"].items():
        base = default["runs"]["infonce_human" if "human" in name else "kl_a" if name == "kl_a" else "infonce_a"]
        assert run | {"labels": ""} == base | {"labels": ""}
    levels = [(one.noise, one.seed) for one in params.labels.values() if one.kind == "annotators"]
    assert levels == [(0, 0), (0.1, 0), (0.2, 0), (0.4, 0)], "one seed: draws of errors are nested"
    assert params.data.seed == 101 and default["data"]["seed"] == 0
