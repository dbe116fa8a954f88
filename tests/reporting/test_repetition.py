"""What is said of an experiment that was run again."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitter_retrieval.reporting.repetition import changed, sentences

SOURCE = Path(__file__).parents[2] / "src"


def difference(mean: float, verdict: str = "better") -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.013, "high": mean + 0.013, "p": 0.001, "mde": 0.018, "verdict": verdict}


def report() -> dict[str, Any]:
    return {
        "about": {
            "baseline": "human",
            "primary": "a",
            "reader": "reader_a",
            "questions": 2560,
            "processor": "Intel, AVX2",
            "contrasts": {"loss": ["kl", "a"]},
        },
        "systems": {name: {"em": 0.6} for name in ("human", "a", "kl")},
        "differences": {"reader_a": {"em": {"a": difference(0.022), "kl": difference(-0.003, "inconclusive")}}},
        "contrasts": {"reader_a": {"em": {"loss": difference(-0.025, "worse")}}},
        "label_agreement": [{"same": 0.9}],
    }


def test_identical_figures_of_another_processor_are_identical() -> None:
    again = report()
    again["about"]["processor"] = "AMD, AVX2"
    assert sentences(again, report()) == ["All 22 figures are identical to the committed ones."]


def test_figures_that_moved_are_told_with_their_interval_and_verdict() -> None:
    again = copy.deepcopy(report())
    again["about"]["processor"] = "AMD, AVX2"
    again["differences"]["reader_a"]["em"]["a"]["mean"] = 0.026
    again["contrasts"]["reader_a"]["em"]["loss"] |= {"mean": 0.001, "verdict": "inconclusive"}
    again["label_agreement"][0]["same"] = 0.91
    assert sentences(again, report()) == [
        "4 of 22 figures differ from the committed ones (made on AMD, AVX2, committed from Intel, AVX2).",
        "a − human: +2.6 points, committed +2.2 [+0.9, +3.5]: within that interval.",
        "loss: kl − a: +0.1 points, committed −2.5 [−3.8, −1.2]: OUTSIDE that interval, verdict inconclusive instead "
        "of worse.",
    ]


def test_a_figure_that_is_gone_is_counted() -> None:
    again = report()
    del again["label_agreement"][0]["same"]
    assert sentences(again, report())[1] == "1 figures are in one of the two reports only."


def test_other_settings_are_not_compared() -> None:
    again = report()
    again["about"]["questions"] = 480
    again["systems"]["mse"] = {"em": 0.4}
    told = sentences(again, report())
    assert len(told) == 1
    assert told[0].startswith("Not comparable with the committed figures, which are of other settings: systems [")
    assert told[0].endswith(", questions 480, committed 2560.")


def test_parameters_that_changed_since_are_named() -> None:
    def lock(width: int, seeds: list[int], **more: dict[str, Any]) -> dict[str, Any]:
        params = {"train": {"seeds": seeds}, "encoders.mini": {"fit": {"width": width}}}
        return {"stages": {"train@a": {"params": {"params.yaml": params}}, "compare": {"cmd": "compare"}, **more}}

    assert changed(lock(96, [0, 1]), lock(96, [0, 1])) == []
    assert changed(lock(96, [0, 1]), lock(128, [0, 2])) == ["encoders.mini.fit.width", "train.seeds.1"]
    new = {"train@b": {"params": {"params.yaml": {"runs.b": {"margin": 1}}}}}
    assert changed(lock(96, [0, 1], **new), lock(96, [0, 1])) == []  # a stage that only one of them has


@pytest.mark.parametrize("committed", [True, False])
def test_command_compares_with_the_last_commit(committed: bool, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "metrics/report.json"
    file.parent.mkdir()
    file.write_text(json.dumps(report()), encoding="utf-8")
    git("init")
    if committed:
        git("add", "metrics")
        git("commit", "-m", "figures")
    again = report()
    again["differences"]["reader_a"]["em"]["a"]["mean"] = 0.5
    file.write_text(json.dumps(again), encoding="utf-8")
    command = [sys.executable, SOURCE / "compare.py", "--repeat"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ("1 of 22 figures differ" in printed) is committed
    assert ("a − human: +50.0 points" in printed) is committed
    assert ("not in the last commit" in printed) is not committed
