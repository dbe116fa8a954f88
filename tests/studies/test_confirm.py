"""study confirm: which worlds are queued, and statistics over worlds."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import markdown_tables
import pytest
from scipy.stats import ttest_1samp

import study
import use_profile
from bitter_retrieval.studies import experiments
from bitter_retrieval.studies.confirmation import ConfirmError, analyse, check_frozen, markdown, replicated
from bitter_retrieval.studies.experiments import Result

ROOT = Path(__file__).parents[2]
LABELS = {"infonce": "human", "mse": "reader_a", "kl": "reader_a"}
KL = (0.04, 0.02, 0.06)  # its difference in each world
NAMES = ["world-101", "world-102", "world-103", "world-104", "world-105"]


def report(kl: float) -> dict[str, Any]:
    """The part of metrics/report.json that analyse reads; mse is 10 points below the baseline, all else follows kl."""
    scores = {"infonce": 0.6, "mse": 0.5, "kl": 0.6 + kl, "bm25": 0.4}
    differences = {"mse": {"mean": -0.1}, "kl": {"mean": kl}}
    about = {"baseline": "infonce", "primary": "kl", "reader": "a", "readers": ["a", "b"], "seeds": 3}
    return {
        "about": about | {"equivalence": 0.02},
        "systems": {
            name: {
                "kind": "run" if name in LABELS else "control",
                "labels": LABELS.get(name),
                "scores": {reader: {"em": {"mean": score}} for reader in "ab"},
            }
            for name, score in scores.items()
        },
        "differences": {
            "a": {"em": differences, "success": {"kl": {"mean": kl + 0.01}}, "retrieval": {"kl": {"mean": -0.2}}},
            "b": {"em": {"kl": {"mean": kl / 2}}},
        },
    }


def reports() -> dict[str, dict[str, Any]]:
    return {name: report(kl) for name, kl in zip(NAMES, KL, strict=False)}


# -- statistics ----------------------------------------------------------------------------------------------------


def test_an_interval_follows_the_t_table() -> None:
    """Mean .04, sd .02, SE .02 / sqrt 3; t(.975) with 2 degrees of freedom is 4.302653, from any table."""
    found = replicated(KL, 0.02)
    reach = 4.302653 * 0.02 / math.sqrt(3)
    assert (found["mean"], found["above"], found["worlds"]) == (pytest.approx(0.04), 3, list(KL))
    assert (found["low"], found["high"]) == (pytest.approx(0.04 - reach), pytest.approx(0.04 + reach))
    assert found["mde"] == pytest.approx((4.302653 + 1.060660) * 0.02 / math.sqrt(3))
    assert found["p"] == pytest.approx(ttest_1samp(KL, 0).pvalue)
    below = ttest_1samp(KL, -0.02, alternative="greater").pvalue
    assert found["p_equivalent"] == pytest.approx(max(below, ttest_1samp(KL, 0.02, alternative="less").pvalue))


def test_of_several_tests_p_grows_and_the_interval_agrees_with_it() -> None:
    found = replicated(KL, 0.02, tests=4)
    assert found["p"] == pytest.approx(4 * ttest_1samp(KL, 0).pvalue)
    interval = ttest_1samp(KL, 0).confidence_interval(1 - 0.05 / 4)
    assert (found["low"], found["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert replicated(KL, 0.02, tests=1000)["p"] == 1


@pytest.mark.parametrize(
    ("values", "tests", "verdict"),
    [
        ((0.05, 0.06, 0.07), 1, "better"),
        ((0.05, 0.06, 0.07), 9, "inconclusive"),
        ((-0.05, -0.06, -0.07), 1, "worse"),
        ((0.001, -0.002, 0.001), 1, "equivalent"),
        ((0.1, -0.1, 0.0), 1, "inconclusive"),
        ((0.009, 0.010, 0.011), 1, "better"),  # though equivalent too
        ((0.0, 0.0, 0.0), 1, "equivalent"),
        ((-0.1, -0.1, -0.1), 9, "worse"),
        ((0.0, 0.0, 0.0, 0.04), 1, "inconclusive"),
    ],
)
def test_verdicts(values: tuple[float, ...], tests: int, verdict: str) -> None:
    assert replicated(values, 0.02, tests)["verdict"] == verdict


def test_the_primary_run_is_tested_alone_and_the_others_together() -> None:
    worlds = reports()
    for found, kl in zip(worlds.values(), KL, strict=True):
        found["systems"]["other"] = copy.deepcopy(found["systems"]["mse"])
        found["differences"]["a"]["em"]["other"] = {"mean": kl}
    found = analyse(worlds)
    assert list(found["runs"]) == ["infonce", "kl", "mse", "other"]
    assert found["runs"]["kl"]["difference"] == replicated(KL, 0.02)
    assert found["runs"]["other"]["difference"] == replicated(KL, 0.02, tests=2)
    assert found["runs"]["infonce"] == {"difference": None, "labels": "human", "em": pytest.approx(0.6)}
    assert found["runs"]["kl"]["em"] == pytest.approx(0.64) and found["controls"] == {"bm25": pytest.approx(0.4)}


def test_further_measures_are_support_retrieval_and_the_other_reader() -> None:
    beside = analyse(reports())["beside"]
    assert [(one["metric"], one["reader"]) for one in beside] == [("success", "a"), ("retrieval", "a"), ("em", "b")]
    assert beside[2] == {"metric": "em", "reader": "b"} | replicated([kl / 2 for kl in KL], 0.02, tests=3)


def test_one_world_or_unlike_worlds_are_refused() -> None:
    with pytest.raises(ConfirmError, match="1 world: .*two are needed"):
        analyse({"world-101": report(0.1)})
    for key, value in (("baseline", "mse"), ("primary", "mse"), ("reader", "b"), ("equivalence", 0.01)):
        worlds = reports()
        worlds["world-103"]["about"][key] = value
        with pytest.raises(ConfirmError, match=rf"world-101 and world-103 differ in {key}: .* and {value}"):
            analyse(worlds)
    worlds = reports()
    worlds["world-102"]["systems"]["mse"]["labels"] = "truth"
    with pytest.raises(ConfirmError, match="world-101 and world-102 differ in runs: .*truth"):
        analyse(worlds)


def test_a_world_without_the_difference_is_named() -> None:
    for absent in ({}, {"kl": {"mean": None}}):
        worlds = reports()
        worlds["world-102"]["differences"]["a"]["success"] = absent
        with pytest.raises(ConfirmError, match="world-102: its report has no difference of kl in success of a"):
            analyse(worlds)


def test_the_page_has_the_figures_of_every_run_and_world() -> None:
    page = markdown(analyse(reports()), ["python src/study.py confirm table"])
    lines, rows = page.splitlines(), markdown_tables.rows(page)
    assert "    python src/study.py confirm table" in lines
    assert any("kl minus infonce: +4.0 [−1.0, +9.0] points, p .074, above 0 in 3 of 3" in line for line in lines)
    assert ["infonce (baseline)", "human", "60.0", "-", "-", "-", "-"] in rows
    assert ["kl (primary)", "reader_a", "64.0", "+4.0 [−1.0, +9.0]", ".074", "3 of 3", "inconclusive"] in rows
    assert ["retrieval", "−20.0 [−20.0, −20.0]", "<.001", "0 of 3", "worse"] in rows
    assert rows[rows.index(["run", "world-101", "world-102", "world-103"]) + 1] == ["kl", "+4.0", "+2.0", "+6.0"]
    assert rows[rows.index(["bm25"]) + 1] == ["40.0"]


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of a DVC that knows the first and the last world, in a folder with profile confirm."""
    asked: list[tuple[str, ...]] = []

    def dvc(*arguments: str) -> str:
        asked.append(arguments)
        return json.dumps([{"experiments": [shown(101), shown(105)]}]) if arguments[1] == "show" else ""

    monkeypatch.setattr(experiments, "dvc", dvc)
    monkeypatch.chdir(tmp_path)
    Path("profiles").symlink_to(ROOT / "profiles")
    assert use_profile.main(["confirm"]) == 0
    return asked


def shown(seed: int, epochs: int = 3) -> dict[str, Any]:
    params = {"data": {"seed": seed}, "labels": {"human": {"seed": seed}}, "train": {"epochs": epochs}}
    data = {"params": {"params.yaml": {"data": params}}, "metrics": {experiments.SUMMARY: {"data": {"em": {}}}}}
    return {"name": f"world-{seed}", "revs": [{"rev": str(seed), "data": data}], "executor": None}


def test_the_profile_is_the_default_on_another_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    default, confirmed = (use_profile.resolve(name)[0] for name in ("default", "confirm"))
    assert confirmed["data"]["seed"] == 101 and default["data"]["seed"] == 0
    assert confirmed["evaluate"]["shown"] == default["evaluate"]["shown"][:1]
    unchanged = {"data": {"seed": 0}, "evaluate": {"shown": default["evaluate"]["shown"]}}
    assert use_profile.merge(confirmed, unchanged) == default


def test_queue_asks_for_the_worlds_without_a_result(
    calls: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.main(["confirm", "queue"]) == 0
    queued = [arguments[4:] for arguments in calls if arguments[:3] == ("exp", "run", "--queue")]
    drawn = "--set-param=data.seed={0}", "--set-param=labels.human.seed={0}"
    assert queued == [(f"world-{seed}", *(each.format(seed) for each in drawn)) for seed in (102, 103, 104)]
    said = capsys.readouterr().out
    assert "world-105: success, not queued again" in said and "python src/study.py confirm table" in said


@pytest.mark.parametrize(("profile", "why"), [("default", "data.seed is 0"), ("squad_minilm", "data.source is squad")])
def test_other_data_than_unseen_worlds_are_refused(
    calls: list[tuple[str, ...]], profile: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    use_profile.main([profile])
    for action in ("queue", "table"):
        assert study.main(["confirm", action]) == 2
        said = capsys.readouterr().err
        assert why in said and "python src/use_profile.py confirm" in said
    assert calls == []


def test_table_writes_the_page_or_says_what_is_missing(
    calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.main(["confirm", "table"]) == 2
    assert "world-102 (not found), world-103 (not found), world-104 (not found)" in capsys.readouterr().err
    assert not Path("docs").exists()
    every = [{"experiments": [shown(seed) for seed in range(101, 106)]}]
    monkeypatch.setattr(experiments, "dvc", lambda *arguments: json.dumps(every) if "v1" in arguments else "[]")
    monkeypatch.setattr(experiments, "git", lambda *arguments: json.dumps(report(int(arguments[1][:3]) / 1000)))
    assert study.main(["confirm", "table", "--rev", "v1"]) == 0
    page = Path("docs/confirm.md").read_text()
    assert all(f"    {line}\n" in page for line in study.commands_of("confirm", "confirm"))
    assert ["kl", "+10.1", "+10.2", "+10.3", "+10.4", "+10.5"] in markdown_tables.rows(page)


def test_parameters_that_were_not_frozen_are_refused() -> None:
    found = {}
    wanted = {f"world-{seed}": {"data.seed": "", "labels.human.seed": ""} for seed in (101, 102, 103)}
    for seed, epochs in ((101, 3), (102, 3), (103, 4)):
        data = shown(seed, epochs)["revs"][0]["data"]
        found[f"world-{seed}"] = Result(f"world-{seed}", "success", str(seed), data)
        if epochs == 3:
            check_frozen(found, wanted)
    with pytest.raises(ConfirmError, match="world-101 and world-103 differ in train.epochs: 3 and 4"):
        check_frozen(found, wanted)
