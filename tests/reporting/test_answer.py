"""The top of the page: the answer in a sentence, what it means, the rows that matter, and names."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitter_retrieval.reporting import answer
from bitter_retrieval.training.settings import LOSSES

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def report() -> dict[str, Any]:
    return json.loads((REPOSITORY / "metrics/report.json").read_text(encoding="utf-8"))


def test_every_loss_has_its_sentence() -> None:
    assert list(answer.LOSSES) == list(LOSSES)


@pytest.mark.parametrize(
    ("figures", "said", "meant"),
    [
        (
            {"verdict": "better", "mean": 0.0142, "low": 0.0037, "high": 0.0247},
            "Better: infonce_a (trained on the labels reader_a) answers more questions exactly than infonce_human "
            "(trained on the labels human): +1.4 [+0.4, +2.5] points (95% interval).",
            "it answers 14 more (4 to 25); infonce_human answers 500.",
        ),
        (
            {"verdict": "worse", "mean": -0.03, "low": -0.05, "high": -0.01},
            "answers fewer questions exactly than infonce_human",
            "it answers 30 fewer (10 to 50); infonce_human answers 500.",
        ),
        ({"verdict": "equivalent"}, "answer equally many questions exactly, to within 2 points", "more than 2 points"),
        ({"verdict": "inconclusive", "mde": 0.05}, "Open: it is not shown which", "difference of 5.0 points would be"),
        ({"verdict": "inconclusive", "mde": 1.9}, "Open: ", "That is not the same as no difference."),
        ({"verdict": "inconclusive", "mde": None, "low": None, "high": None}, " points.", "same as no difference."),
    ],
)
def test_every_verdict_in_plain_words(report: dict[str, Any], figures: dict, said: str, meant: str) -> None:
    report["differences"]["reader_a"]["em"]["infonce_a"] |= figures
    report["systems"]["infonce_human"]["scores"]["reader_a"]["em"]["mean"] = 0.5
    assert said in answer.answer(report) and meant in answer.meaning(report)


def test_without_a_difference_it_is_said(report: dict[str, Any]) -> None:
    del report["differences"]["reader_a"]["em"]["infonce_a"]
    assert "cannot be compared" in answer.answer(report) and answer.meaning(report) == ""


def test_what_it_holds_for(report: dict[str, Any]) -> None:
    assert "other training seeds (4 a run), when reader_a answers from the top 1 of" in answer.scope(report)
    report["about"]["seeds"] = 1
    assert "and not for training again" in answer.scope(report)


def test_the_rows_that_matter_are_six_at_most(report: dict[str, Any]) -> None:
    bounds = ["kl_flat", "oracle", "untrained"]
    assert answer.rows(report) == ["infonce_human", "infonce_a", "kl_a", *bounds]
    report["about"]["contrasts"] |= {"others": ["infonce_truth", "kl_b"]}
    assert answer.rows(report) == ["infonce_human", "infonce_a", "kl_a", *bounds]
    report["about"]["primary"] = "kl_flat"
    assert answer.rows(report) == ["infonce_human", "kl_a", "infonce_a", *bounds]


def test_names_are_those_of_the_runs(report: dict[str, Any]) -> None:
    sources = {"human": "people", "mine": "unused"}
    found = answer.names(report, {"infonce_human": {"infonce": 1.0}, "kl_a": {"kl": 0.5, "mine": 1.0}}, sources)
    assert list(found) == ["loss infonce", "loss kl", "labels human"] and found["labels human"] == "people"
