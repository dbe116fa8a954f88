"""study tune: the trials of a run, and which of them is taken."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import markdown_tables
import pytest

import study
import use_profile
from bitter_retrieval import params
from bitter_retrieval.studies import experiments
from bitter_retrieval.studies.tuning import TuningError, choose, grid, markdown, outcomes, trials

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> params.Params:
    monkeypatch.chdir(REPOSITORY)
    return params.parse_params(use_profile.resolve("tuning")[0], "profile tuning")


def report(em: dict[str, float], half: float) -> dict[str, Any]:
    scores = {run: {"reader_a": {"em": {"mean": m, "low": m - half, "high": m + half}}} for run, m in em.items()}
    about = {"reader": "reader_a", "questions": 480, "seeds": 1}
    return {"about": about, "systems": {run: {"scores": score} for run, score in scores.items()}}


def test_every_run_has_the_same_number_of_different_trials_starting_values_first(tuned: params.Params) -> None:
    grids = {name: grid(run, tuned.train.learning_rate) for name, run in tuned.runs.items()}
    for made in grids.values():
        assert len(made) == len({tuple(each.items()) for each in made}) == len(trials(tuned)) == 9
        assert made[0]["learning_rate"] == tuned.train.learning_rate
    kl = tuned.runs["kl_a"]
    assert grid(kl, 0.001)[0]["temperature.student"] == kl.temperature.student
    assert grid(replace(kl, losses={"margin": 1.0}), 0.001)[0]["margin"] == kl.margin
    mse = grid(replace(kl, losses={"mse": 1.0}), 0.001)
    assert {len(each) for each in mse} == {1} and len(mse) == 9  # it has no dial: learning rates alone


def test_a_trial_is_what_params_can_hold(tuned: params.Params) -> None:
    tree = use_profile.resolve("tuning")[0]
    for key, value in trials(tuned)["trial-8"].items():
        *above, last = key.lstrip("+").split(".")
        at = tree
        for part in above:
            at = at[part]
        assert (last in at) != key.startswith("++"), f"{key}: ++ is for what params.yaml does not have"
        at[last] = float(value)
    made = params.parse_params(tree, "trial-8").runs
    assert made["kl_a"].learning_rate == 0.002 and made["kl_a"].temperature.student == 0.2
    assert made["infonce_human"].temperature.student == 0.2


def test_trials_are_refused_on_test_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(TuningError, match="evaluate.split is test.*use_profile.py tuning"):
        trials(params.load_params("profiles/default.yaml"))


@pytest.mark.parametrize(
    ("em", "se", "best", "chosen"),
    [
        ([0.5, 0.51, 0.49], [0.02, 0.02, 0.02], 1, 0),  # within one standard error of the best: it stays
        ([0.5, 0.56, 0.55], [0.02, 0.02, 0.02], 1, 1),
        ([0.5, 0.55, 0.56], [0.02, 0.02, 0.02], 2, 1),  # the first of those, not the best
        ([0.5, 0.55, 0.56], [0.9, 0.9, 0.005], 2, 2),  # the standard error is that of the best
        ([0.5, 0.5], [0.0, 0.0], 0, 0),
    ],
)
def test_the_first_within_one_standard_error_is_taken(em: list[float], se: list[float], best: int, chosen: int) -> None:
    assert choose(em, se) == (best, chosen)


def test_the_page_says_what_is_taken_and_every_trial(tuned: params.Params) -> None:
    starts = dict.fromkeys(tuned.runs, 0.5)
    reports = {f"trial-{place}": report(starts | {"kl_a": 0.5 + place / 100}, 0.0392) for place in range(9)}
    found = outcomes(tuned, reports)
    assert (found["kl_b"].best, found["kl_b"].chosen) == (0, 0)
    assert (found["kl_a"].best, found["kl_a"].chosen) == (8, 6)  # se .02: .56 is the first within it of .58
    assert found["kl_a"].se[0] == pytest.approx(0.02)
    page = markdown(found, reports["trial-0"]["about"], study.commands_of(study.parse(["tune", "table"]), "tuning"))
    rows, best = markdown_tables.rows(page), "learning rate 0.002, student 0.2"
    assert ["kl_a", "learning rate 0.002, student 0.1", "56.0", best, "58.0 ± 2.0"] in rows
    assert ["8", best, "*58.0*", "2.0"] in rows and "480 validation questions" in page
    assert [row[0] for row in rows].count("5") == len(tuned.runs)


def test_queue_and_table(
    tuned: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queued: dict[str, Any] = {}
    monkeypatch.setattr(study, "load_params", lambda: tuned)
    monkeypatch.setattr(study, "queue", queued.update)
    made = {name: report(dict.fromkeys(tuned.runs, 0.5), 0.04) for name in trials(tuned)}
    monkeypatch.setattr(study, "reports", lambda wanted, rev: made if wanted == trials(tuned) else {})
    monkeypatch.chdir(tmp_path)
    assert study.main(["tune", "queue"]) == 0 and queued == trials(tuned)
    assert study.main(["tune", "table"]) == 0
    assert "9 trials" in capsys.readouterr().out and Path("docs/tuning.md").read_text().startswith("# Tuning")

    def broken(*_: object) -> None:
        raise experiments.ExperimentError("no result of trial-3 (failed)")

    monkeypatch.setattr(study, "reports", broken)
    assert study.main(["tune", "table"]) == 2 and "trial-3" in capsys.readouterr().err
