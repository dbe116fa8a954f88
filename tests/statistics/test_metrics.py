"""Rows of metrics: another ranking metric needs only another row."""

import json
import re
from pathlib import Path

import comparison_world as world
import pytest

import compare as stage
from bitter_retrieval.records import PREDICTIONS, read_rows
from bitter_retrieval.reporting import evaluation_summary, wording
from bitter_retrieval.statistics.metrics import METRICS, NATS, Metric, of_family
from bitter_retrieval.statistics.outcomes import outcomes

FURTHER = Metric("map_10", "MAP@10", "mean of the precisions at each selected passage", "ranking", measure="AP@10")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    world.write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("there", [True, False])
def test_a_row_is_all_that_a_ranking_metric_takes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    if there:
        monkeypatch.setitem(METRICS, FURTHER.name, FURTHER)
    stage.main()
    printed, page = capsys.readouterr().out, Path("metrics/report.html").read_text(encoding="utf-8")
    report = json.loads(Path("metrics/report.json").read_text(encoding="utf-8"))
    scores = report["systems"]["infonce_human"]["scores"]["reader_a"]
    assert ("map_10" in scores) == there and scores["ndcg_10"]["mean"] == 0.333333
    assert bool(re.search(r"^ system .* MAP@10", printed, re.MULTILINE)) == there
    assert ("<th>MAP@10</th>" in page) == there
    assert (f"<dt>MAP@10</dt><dd>{FURTHER.meaning} (%)</dd>" in page) == there
    rows = read_rows("data/predictions/runs/infonce_human.parquet", PREDICTIONS)
    found = outcomes("infonce_human", [row for row in rows if row["shown"] == 1], world.asked(), world.judged())
    assert ("map_10" in found["reader_a"].scores) == there
    asked = [row for row in rows if (row["reader"], row["seed"], row["shown"]) == ("reader_a", 0, 1)]
    summary = evaluation_summary.summarise(world.prepared(), asked)
    assert ("map_10" in summary["retrieval"]) == there
    if there:
        assert scores["map_10"]["mean"] == 0.333333  # q0 alone has its passage first; of the others none is ranked


def test_every_row_has_what_its_family_needs() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name and metric.head and metric.meaning
        assert (metric.family == "ranking") == bool(metric.measure), name
        assert not (metric.compared and metric.lower_is_better), f"{name}: verdicts call a gain better"
        assert metric.compared or not metric.beyond, name
    heads = [metric.head for metric in METRICS.values()]
    assert len(set(heads)) == len(heads)
    assert len(of_family("answer", "passage", "ranking", "utility")) == len(METRICS), "tables would leave it out"


def test_figures_are_written_in_the_unit_of_the_row() -> None:
    estimate = {"mean": 0.5, "low": 0.25, "high": 0.75}
    assert wording.figure(METRICS["em"], estimate) == "50.0 ±25.0"
    assert wording.figure(METRICS["answer_nll"], estimate) == "0.50 ±0.25"
    assert [wording.figure(METRICS[name], None) for name in ("em", "accuracy")] == ["-", "not judged"]
    assert METRICS["answer_nll"].definition.endswith("(nats a token; lower is better)")
    assert METRICS["answer_nll"].unit is NATS and METRICS["answer_nll"].title == "Answer NLL, nats a token"
    assert wording.units(of_family("answer", "passage")) == "% (NLL: nats a token)"
    assert wording.units(of_family("ranking")) == "%"
    assert (METRICS["em"].column, METRICS["em"].title, METRICS["f1"].column) == ("EM", "Exact match", "F1")


def test_what_depends_on_the_number_shown_is_told_for_every_number(workspace: Path) -> None:
    stage.main()
    report = json.loads(Path("metrics/report.json").read_text(encoding="utf-8"))
    of_five = report["further"]["5"]["systems"]["infonce_a"]["scores"]["reader_a"]
    assert list(of_five) == [name for name, metric in METRICS.items() if metric.of_shown]
    assert "retrieval" not in of_five and "regret" in of_five
