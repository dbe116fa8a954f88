"""study sweep: which experiments a grid is, and what is read and drawn from `dvc exp show --json`."""

import json
from pathlib import Path
from typing import Any

import markdown_tables
import pytest

import study
from bitter_retrieval.studies import experiments as runner
from bitter_retrieval.studies import sweep_plot
from bitter_retrieval.studies.experiments import ExperimentError, states
from bitter_retrieval.studies.sweeps import ANNOTATORS, Grid, SweepError, experiments, markdown, parse_grid, points

GRID: Grid = {"labels.human.annotator": ["skim", "uniform"], "labels.human.noise": ["0", "0.4"]}
RUNS = {"infonce": "human", "mse": "reader_a", "kl": "reader_a", "kl_permuted": "permuted"}


def experiment(annotator: str, noise: float, state: str | None = "success") -> dict[str, Any]:
    """One entry as DVC 3.67 prints it; a run outside the queue has no executor."""
    name = f"annotator-{annotator}-noise-{noise}".replace(".", "-")
    params = {
        "labels": {"human": {"annotator": annotator, "noise": noise}},
        "runs": {run: {"labels": labels} for run, labels in RUNS.items()},
        "compare": {"baseline": "infonce"},
    }
    summary = {
        "em": {"infonce": 0.6 - noise / 2, "mse": 0.58, "kl": 0.6, "kl_permuted": 0.1},
        "mse_vs_infonce": {"diff": noise / 2 - 0.02, "low": noise / 2 - 0.05, "high": noise / 2 + 0.01},
        "disagreement": 0.126 + noise,
    }
    data = {"params": {"params.yaml": {"data": params}}, "metrics": {"metrics/summary.json": {"data": summary}}}
    executor = None if state is None else {"state": state}
    error = {"msg": "Experiment run failed"} if state == "failed" else None
    return {"name": name, "revs": [{"rev": "14db831b", "data": data, "error": error}], "executor": executor}


def shown(*found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"rev": "workspace", "experiments": None}, {"rev": "16f2a2a3", "experiments": list(found)}]


def everything(state: str | None = "success") -> list[dict[str, Any]]:
    return shown(*(experiment(annotator, noise, state) for noise in (0.4, 0) for annotator in ("uniform", "skim")))


def test_the_default_is_eight_experiments_without_dots() -> None:
    made = experiments(ANNOTATORS)
    assert len(made) == 8 and not any("." in name for name in made)
    assert made["annotator-skim-noise-0-1"] == {"labels.human.annotator": "skim", "labels.human.noise": "0.1"}


def test_a_grid_from_arguments() -> None:
    assert parse_grid(["data.world.train_clusters=250,500"]) == {"data.world.train_clusters": ["250", "500"]}
    assert parse_grid([]) == ANNOTATORS
    for wrong in ("noise", "noise=", "=1", "noise=1,,2"):
        with pytest.raises(SweepError, match="KEY=V1,V2"):
            parse_grid([wrong])


def test_points_stand_in_the_order_of_the_grid() -> None:
    found = points(everything(), GRID)
    assert [point.values for point in found] == [("skim", "0"), ("skim", "0.4"), ("uniform", "0"), ("uniform", "0.4")]
    last = found[-1]
    assert (last.baseline, last.soft, last.others) == ("infonce", "mse", ("kl",))
    assert last.em["infonce"] == pytest.approx(0.4) and last.difference["diff"] == pytest.approx(0.18)
    assert points(everything(state=None), GRID) == found


@pytest.mark.parametrize("state", ["failed", "queued", "running"])
def test_what_has_no_result_is_named(state: str) -> None:
    entries = everything()
    entries[1]["experiments"][0] = experiment("uniform", 0.4, state)
    with pytest.raises(ExperimentError, match=rf"annotator-uniform-noise-0-4 \({state}\)\. .*dvc queue logs"):
        points(entries, GRID)
    del entries[1]["experiments"][0]
    with pytest.raises(ExperimentError, match=r"annotator-uniform-noise-0-4 \(not found\)"):
        points(entries, GRID)


def test_a_success_counts_though_an_attempt_failed() -> None:
    failed, good = experiment("skim", 0.4, "failed"), experiment("skim", 0.4)
    name = good["name"]
    for entries in (shown(failed, good), shown(good, failed)):
        assert states(entries) == {name: "success"}
        assert points(entries, {"labels.human.annotator": ["skim"], "labels.human.noise": ["0.4"]})


def test_an_experiment_of_other_params_or_without_interval_is_refused() -> None:
    entries = everything()
    data = entries[1]["experiments"][0]["revs"][0]["data"]
    del data["metrics"]["metrics/summary.json"]["data"]["mse_vs_infonce"]["low"]
    with pytest.raises(SweepError, match="annotator-uniform-noise-0-4: metrics/summary.json has no difference"):
        points(entries, GRID)
    data["params"]["params.yaml"]["data"]["labels"]["human"]["noise"] = 0.3
    with pytest.raises(ExperimentError, match=r"ran with labels.human.noise=0.3, not 0.4"):
        points(entries, GRID)


def test_the_page_has_a_row_an_experiment_and_says_where_nothing_is_shown() -> None:
    page = markdown(points(everything(), GRID), GRID, ["python src/study.py sweep queue"], "../plots/sweep.png")
    (rows,) = markdown_tables.tables(page)
    assert len(rows) == 1 + 4
    assert ["skim", "0.4", "52.6", "40.0", "58.0", "60.0", "+18.0 [+15.0, +21.0]"] in rows
    assert "is shown at: skim 0, uniform 0." in page


def test_the_picture_is_the_same_twice_also_for_values_that_are_words(tmp_path: Path) -> None:
    grid = {"labels.human.noise": ["0.4"], "labels.human.annotator": ["skim", "uniform"]}
    entries = json.loads(json.dumps(everything()).replace("annotator-skim-noise-0-4", "noise-0-4-annotator-skim"))
    entries = json.loads(json.dumps(entries).replace("annotator-uniform-noise-0-4", "noise-0-4-annotator-uniform"))
    for name in ("one", "two"):
        sweep_plot.draw(points(entries, grid), grid, tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    sweep_plot.draw(points(everything(), GRID), GRID, tmp_path / "other.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of DVC, which knows the experiments of `everything`, except one."""
    asked: list[tuple[str, ...]] = []

    def dvc(*arguments: str) -> str:
        asked.append(arguments)
        return json.dumps(everything()) if arguments[1] == "show" else ""

    monkeypatch.setattr(runner, "dvc", dvc)
    monkeypatch.chdir(tmp_path)
    return asked


def test_queue_leaves_out_what_has_a_result(calls: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert study.main(["sweep", "queue"]) == 0
    queued = [arguments for arguments in calls if arguments[:3] == ("exp", "run", "--queue")]
    assert [arguments[4] for arguments in queued] == [
        f"annotator-{annotator}-noise-0-{tenths}" for annotator in ("skim", "uniform") for tenths in (1, 2)
    ]
    assert queued[0][5:] == ("--set-param=labels.human.annotator=skim", "--set-param=labels.human.noise=0.1")
    assert "dvc exp run --run-all" in capsys.readouterr().out


def test_draw_writes_picture_and_page_or_says_what_is_missing(
    calls: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "labels.human.annotator=skim", "--set", "labels.human.noise=0,0.4"]
    assert study.main(["sweep", "draw", "--rev", "v1", *settings]) == 0
    assert calls == [("exp", "show", "--json", "--rev", "v1")]
    assert Path("plots/sweep-annotator-noise.png").is_file()
    assert (
        "python src/study.py sweep queue --set labels.human.annotator=skim"
        in Path("docs/sweep-annotator-noise.md").read_text()
    )
    assert study.main(["sweep", "draw"]) == 2
    assert "annotator-skim-noise-0-1 (not found)" in capsys.readouterr().err
    assert not Path("docs/sweep.md").exists()
