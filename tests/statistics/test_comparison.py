"""compare: every figure against one worked out by hand, undefined figures, and the same bytes twice."""

import json
import math
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import comparison_world as world
import numpy as np
import pytest
import yaml

import compare as stage
from bitter_retrieval.labels.disagreement import disagreement
from bitter_retrieval.labels.soft import passage_losses
from bitter_retrieval.labels.targets import soft_targets
from bitter_retrieval.params import load_params
from bitter_retrieval.processor import processor_name
from bitter_retrieval.records import NO_PASSAGE, PREDICTIONS, RecordError, read_rows, write_rows
from bitter_retrieval.reporting import plots, tables, wording
from bitter_retrieval.reporting.summary import summary
from bitter_retrieval.statistics.comparison import AGAIN, BY_DEFINITION, NEGATIVE, Settings, System, compare, plain
from bitter_retrieval.statistics.differing import full_utility, most_differing, sampled
from bitter_retrieval.statistics.metrics import METRICS
from bitter_retrieval.statistics.outcomes import ComparisonError, JudgedAnswers, Outcomes, outcomes
from bitter_retrieval.statistics.statistics import Design

SETTINGS = Settings(
    "test", "infonce_human", "infonce_a", "reader_a", world.READERS, "reader_a", "human", 2, 200, 0, 0.02, (1, 5)
)
LABELS = {"infonce_human": "human", "infonce_a": "reader_a", "kl_flat": "flat"}
ROLES = {"kl_flat": NEGATIVE}


def found(name: str, told: list[str], verdicts: JudgedAnswers | None = None, **changes: Any) -> dict[str, Outcomes]:
    rows = [row | changes for row in world.predictions(name, told)]
    return outcomes(name, rows, world.asked(), verdicts or world.judged())


def systems(verdicts: JudgedAnswers, roles: bool = True, **told: list[str]) -> dict[str, System]:
    """Runs and controls of the made-up world, some of them with other outcomes."""
    made = {}
    for name, usual in (world.RUNS | world.CONTROLS).items():
        rows = world.predictions(name, told.get(name, usual))
        read = outcomes(name, rows, world.asked(roles), verdicts)
        rows = world.predictions(name, world.WITH_FIVE.get(name, []), shown=5)
        five = outcomes(name, rows, world.asked(roles), verdicts)
        kind = "run" if name in LABELS else "control"
        encoder = "mini" if kind == "run" or name == "untrained" else None
        further = {5: five} if five else {}
        made[name] = System(
            kind, name, LABELS.get(name), ROLES.get(name), read, further, {}, encoder, BY_DEFINITION.get(name, {})
        )
    return made


def report(verdicts: JudgedAnswers | None = None, roles: bool = True, **told: list[str]) -> dict[str, Any]:
    verdicts = verdicts or world.judged()
    made = compare(world.asked(roles), systems(verdicts, roles, **told), verdicts, SETTINGS, world.beyond())
    made["about"] |= {"judge": "a rule; not a language model", "corpus": 13, "origin": "data/raw", "processor": "EPYC"}
    split = plain(disagreement(world.prepared(roles), world.human(), passage_losses(world.soft())))
    return made | {"disagreement": {"train": split, "test": split}}


def printed(made: dict[str, Any], width: int = 120) -> str:
    console = tables.console(width=width, record=True, file=open("/dev/null", "w"))
    for part in tables.everything(made, width):
        console.print(part)
    return console.export_text()


# -- outcomes: from prediction rows to arrays ---------------------------------------------------------------------


def test_outcomes_are_seeds_by_questions() -> None:
    infonce_a = found("infonce_a", world.RUNS["infonce_a"])["reader_a"]
    assert infonce_a.seeds == (0, 1) and infonce_a.truncated == 2
    np.testing.assert_array_equal(infonce_a.scores["em"], [[1, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(infonce_a.scores["accuracy"], infonce_a.scores["em"])
    np.testing.assert_array_equal(infonce_a.scores["answer_nll"], [[0.5, 0.5, 0.5, 2], [0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(infonce_a.scores["retrieval"], [[1, 0, 1, np.nan], [1, 0, 1, np.nan]])
    np.testing.assert_array_equal(infonce_a.scores["success"], [[1, 1, 1, 0], [1, 1, 1, 1]])


def test_a_passage_of_another_question_is_no_success() -> None:
    away = found("infonce_a", ["aaaa++++"], ranked_ids=["q0a"])["reader_a"]
    np.testing.assert_array_equal(away.scores["success"], [[1, 0, 0, 0]])
    np.testing.assert_array_equal(away.scores["retrieval"], [[1, 0, 0, np.nan]])


def test_controls_count_what_is_shown_and_no_passage_retrieves_nothing() -> None:
    annotated = found("annotated", world.CONTROLS["annotated"])["reader_a"]
    np.testing.assert_array_equal(annotated.scores["retrieval"], [[1, 1, 1, np.nan]])
    np.testing.assert_array_equal(annotated.scores["em"], [[1, 0, 1, np.nan]])
    nothing = found("no_passage", world.CONTROLS["no_passage"])["reader_a"]
    assert np.isnan(nothing.scores["retrieval"]).all() and np.isnan(nothing.scores["success"]).all()
    np.testing.assert_array_equal(nothing.scores["em"], [[0, 0, 0, 1]])


def test_rankings_are_measured_by_the_annotators_labels() -> None:
    infonce_a = found("infonce_a", world.RUNS["infonce_a"], ranked_ids=["q0c", "q0a", "q1b"])["reader_a"].scores
    np.testing.assert_allclose(infonce_a["ndcg_10"], [[1 / np.log2(3), 1 / 2, 0, np.nan]] * 2)
    np.testing.assert_allclose(infonce_a["mrr_10"], [[1 / 2, 1 / 3, 0, np.nan]] * 2)
    for metric, wanted in {"recall_1": [0, 0, 0, np.nan], "recall_5": [1, 1, 0, np.nan]}.items():
        np.testing.assert_array_equal(infonce_a[metric], [wanted] * 2)
    np.testing.assert_array_equal(infonce_a["recall_10"], infonce_a["recall_5"])
    usual = found("infonce_human", world.RUNS["infonce_human"])["reader_b"].scores
    np.testing.assert_array_equal(usual["recall_1"], usual["retrieval"])
    for nothing in (found("oracle", world.CONTROLS["oracle"]), found("no_passage", world.CONTROLS["no_passage"])):
        assert all(np.isnan(nothing["reader_a"].scores[metric]).all() for metric in ("ndcg_10", "mrr_10", "recall_1"))


def test_the_empty_passage_is_counted_where_the_corpus_holds_it() -> None:
    rows = world.predictions("infonce_a", world.RUNS["infonce_a"], shown=5)
    rows[1] |= {"ranked_ids": ["", "q1a"], "shown_ids": ["", "q1a"]}
    for shown, wanted in (([""], [0, 1, 0, 0]), (["q9a", ""], [0, 1, 0, 0]), (["q9a"], [0, 0, 0, 0])):
        rows[1]["shown_ids"] = shown
        read = outcomes("infonce_a", rows, world.asked(empty_passage=True), world.judged())["reader_a"]
        np.testing.assert_array_equal(read.scores["empty"], [wanted, [0, 0, 0, 0]])
        assert read.scores["retrieval"][0, 1] == read.scores["success"][0, 1] == 0
    assert np.isnan(outcomes("infonce_a", rows, world.asked(), world.judged())["reader_a"].scores["empty"]).all()
    control = world.predictions("no_passage", world.CONTROLS["no_passage"])
    read = outcomes("no_passage", control, world.asked(empty_passage=True), world.judged())["reader_a"]
    assert np.isnan(read.scores["empty"]).all()  # it retrieves nothing


def test_a_question_that_is_twice_there_or_not_in_the_test_split() -> None:
    rows = world.predictions("infonce_a", world.RUNS["infonce_a"])
    with pytest.raises(ComparisonError, match=r"infonce_a × reader_a: query 'q0' occurs twice for seed 0"):
        outcomes("infonce_a", [*rows, rows[0]], world.asked(), world.judged())
    with pytest.raises(ComparisonError, match=r"query 'q9' is not in the evaluated split"):
        outcomes("infonce_a", [rows[0] | {"query_id": "q9"}], world.asked(), world.judged())


def test_only_what_is_so_by_definition_is_certain() -> None:
    found = {name: system["scores"]["reader_a"] for name, system in report()["systems"].items()}
    for control, metric, value in (("no_passage", "harm", 0), ("annotated", "retrieval", 1)):
        assert [found[control][metric][end] for end in ("low", "mean", "high")] == [value] * 3
    wrong = found["untrained"]["em"]  # no answer is right, and there are two groups
    assert (wrong["low"], wrong["mean"], wrong["high"]) == (0, 0, 0.841886)


# -- comparison: figures ------------------------------------------------------------------------------------------


def test_means_are_those_of_the_table() -> None:
    made = report()
    means = {name: system["scores"]["reader_a"]["em"]["mean"] for name, system in made["systems"].items()}
    assert means == {
        **{"infonce_human": 3 / 8, "infonce_a": 7 / 8, "kl_flat": 0, "no_passage": 1 / 4, "random": 1 / 8},
        **{"annotated": 0.666667, "oracle": 3 / 4, "bm25": 1 / 4, "untrained": 0},
    }
    assert made["systems"]["infonce_human"]["scores"]["reader_b"]["retrieval"]["mean"] == 0.333333  # 1 + 0 + 0 of 3
    assert made["systems"]["infonce_human"]["scores"]["reader_a"]["success"]["mean"] == 4 / 8
    assert made["systems"]["infonce_a"]["scores"]["reader_a"]["answer_nll"]["mean"] == (7 * 0.5 + 2) / 8
    assert made["systems"]["infonce_a"]["truncated"] == 4  # two seeds, two readers
    assert made["about"]["without_human_label"] == 1 and made["about"]["primary"] == "infonce_a"


def test_differences_are_paired_and_of_runs_alone() -> None:
    made = report()
    assert set(made["differences"]) == set(world.READERS)
    exact = made["differences"]["reader_a"]["em"]
    assert list(exact) == ["infonce_a", "kl_flat"]
    assert exact["infonce_a"]["mean"] == 0.5 and exact["kl_flat"]["mean"] == -3 / 8
    assert exact["infonce_a"]["seed_sd"] == pytest.approx(math.sqrt(2) / 4, abs=1e-6)  # 1/4 and 3/4
    assert made["differences"]["reader_a"]["retrieval"]["infonce_a"]["mean"] == 0.333333
    control = made["negative_controls"]["kl_flat"]
    assert control["untrained"]["mean"] == 0 and control["primary"]["mean"] == 7 / 8


def test_runs_that_are_equal_on_two_groups_are_not_shown_to_be_and_nothing_is_divided_by_zero() -> None:
    same = report(infonce_a=world.RUNS["infonce_human"])["differences"]["reader_a"]["em"]["infonce_a"]
    assert (same["mean"], same["low"], same["high"]) == (0, -0.841886, 0.841886)  # 1 - .025^(1/2)
    assert (same["p"], same["verdict"]) == (1, "inconclusive")
    assert same["mde"] is None


def test_other_numbers_of_passages_shown_are_compared_apart() -> None:
    made = report()
    assert list(made["further"]) == ["5"] and made["about"]["shown"] == [1, 5]
    five = made["further"]["5"]
    assert list(five["systems"]) == list(world.WITH_FIVE)  # those that retrieve
    exact = {name: one["scores"]["reader_a"]["em"]["mean"] for name, one in five["systems"].items()}
    assert exact == {"infonce_human": 6 / 8, "infonce_a": 7 / 8, "kl_flat": 0, "bm25": 0.5, "untrained": 0.25}
    assert five["differences"]["reader_b"]["em"]["infonce_a"]["mean"] == 1 / 8
    assert set(five["differences"]["reader_a"]) == {"em", "accuracy"}
    assert {name: one["mean"] for name, one in five["negative_controls"]["kl_flat"].items()} == {
        "untrained": -0.25,
        "primary": 7 / 8,
    }
    assert made["differences"] == report_with((1,))["differences"] and report_with((1,))["further"] == {}
    assert five["systems"]["infonce_a"]["truncated"] == 4 and "The same, 5 shown: 4 (infonce_a 4)." in wording.notes(
        made
    )
    assert summary(made) == summary(report_with((1,)) | {"disagreement": made["disagreement"]})


def test_a_run_without_answers_to_one_of_the_numbers_is_refused() -> None:
    verdicts = world.judged()
    made = systems(verdicts)
    with pytest.raises(
        ComparisonError, match=r"runs/infonce_a.parquet has no answers of reader 'reader_a' with 5 shown"
    ):
        compare(
            world.asked(),
            made | {"infonce_a": replace(made["infonce_a"], further={})},
            verdicts,
            SETTINGS,
            world.beyond(),
        )


def report_with(shown: tuple[int, ...]) -> dict[str, Any]:
    verdicts = world.judged()
    return compare(world.asked(), systems(verdicts), verdicts, replace(SETTINGS, shown=shown), world.beyond())


def test_what_cannot_be_measured_is_null_and_counted() -> None:
    scores = report()["systems"]["infonce_a"]["scores"]["reader_a"]
    assert scores["ndcg_10"]["n_missing"] == 2 and scores["ndcg_10"]["n_questions"] == 3  # q3 has no label
    assert scores["empty"] is None and scores["harm"]["mean"] == 1 / 8
    assert report()["systems"]["oracle"]["scores"]["reader_a"]["ndcg_10"] is None


def test_the_summary_has_em_by_run_and_the_primary_difference() -> None:
    made = report()
    figures = summary(made)
    exact = made["differences"]["reader_a"]["em"]["infonce_a"]
    assert figures["em"] == {"infonce_human": 0.375, "infonce_a": 0.875}
    ends = {end: round(exact[end], 4) for end in ("low", "high", "mde")}
    assert figures["primary"] == {"diff": 0.5} | ends and "contrasts" not in figures
    assert figures["disagreement"] == 0.5


def test_one_question_gets_a_mean_and_no_interval() -> None:
    row, verdicts = world.prepared()[:1], world.judged()
    asked = world.evaluated_questions(row, world.human(), world.known())
    read = {
        n: outcomes(n, world.predictions(n, world.RUNS[n])[:1], asked, verdicts) for n in ("infonce_human", "infonce_a")
    }
    made = {name: System("run", "", LABELS[name], None, found) for name, found in read.items()}
    one = compare(
        asked,
        made,
        verdicts,
        Settings("test", "infonce_human", "infonce_a", "reader_a", ["reader_a"], "reader_a", "human", 1, 100, 0, 0.02),
        world.beyond(),
    )
    estimate = one["systems"]["infonce_a"]["scores"]["reader_a"]["em"]
    assert (estimate["mean"], estimate["low"], estimate["high"]) == (1, None, None)
    assert wording.share(estimate) == "100.0" and wording.interval(estimate) == "-"
    assert one["differences"]["reader_a"]["em"]["infonce_a"]["verdict"] in ("equivalent", "inconclusive")
    assert "diff" in summary(one)["primary"] and "low" not in summary(one)["primary"]


def test_the_primary_difference_stands_alone_and_all_others_hold_at_once() -> None:
    made, design = report(), Design(world.GROUPS, 2, SETTINGS.draws, SETTINGS.seed)
    scores = {name: found(name, told)["reader_a"].scores for name, told in world.RUNS.items()}
    pairs = {name: (scores[name]["em"], scores["infonce_human"]["em"]) for name in ("infonce_a", "kl_flat")}
    told = made["differences"]["reader_a"]["em"]
    assert told["infonce_a"] == plain(design.difference(*pairs["infonce_a"]))
    assert told["infonce_a"]["mde"] < plain(design.differences(pairs)["infonce_a"])["mde"]
    with_other_reader, in_accuracy = made["differences"]["reader_b"]["em"], made["differences"]["reader_a"]["accuracy"]
    assert with_other_reader == in_accuracy == plain(design.differences(pairs))  # in the made-up world all are the same
    assert made["further"]["5"]["differences"]["reader_a"]["em"]["infonce_a"]["mde"] > 0
    verdicts, both = world.judged(), replace(SETTINGS, primary_metrics=("em", "accuracy"))
    judged = compare(world.asked(), systems(verdicts), verdicts, both, world.beyond())
    assert judged["differences"]["reader_a"]["accuracy"]["infonce_a"] == told["infonce_a"]


CONTRAST = {"order": ["infonce_a", "kl_flat"]}


def report_with_contrast() -> dict[str, Any]:
    verdicts = world.judged()
    made = compare(world.asked(), systems(verdicts), verdicts, replace(SETTINGS, contrasts=CONTRAST), world.beyond())
    return (
        report()
        | {name: made[name] for name in ("differences", "contrasts", "further")}
        | {"about": report()["about"] | {"contrasts": CONTRAST}}
    )


def test_a_named_contrast_is_between_two_runs_and_in_the_family_of_the_others() -> None:
    made = report_with_contrast()
    assert made["differences"]["reader_a"]["em"].keys() == {"infonce_a", "kl_flat"}
    contrast = made["contrasts"]["reader_a"]["em"]
    assert list(contrast) == ["order"] and contrast["order"]["mean"] == 7 / 8
    assert set(made["contrasts"]) == set(world.READERS) and made["further"]["5"]["contrasts"]["reader_b"]["em"]
    scores = {name: found(name, told)["reader_a"].scores["em"] for name, told in world.RUNS.items()}
    pairs = {"kl_flat": (scores["kl_flat"], scores["infonce_human"]), "order": (scores["infonce_a"], scores["kl_flat"])}
    together = Design(world.GROUPS, 2, SETTINGS.draws, SETTINGS.seed).differences(pairs)
    assert contrast["order"] == plain(together["order"])
    assert made["differences"]["reader_a"]["em"]["kl_flat"] == plain(together["kl_flat"])
    assert made["differences"]["reader_a"]["em"]["infonce_a"] == report()["differences"]["reader_a"]["em"]["infonce_a"]
    figures = summary(made)
    assert figures["em"] == {"infonce_human": 0.375, "infonce_a": 0.875, "kl_flat": 0.0}
    assert figures["contrasts"]["order"]["diff"] == 7 / 8


@pytest.mark.parametrize("width", [64, 120])
def test_primary_comes_first_then_contrasts_then_all_runs(width: int) -> None:
    text = printed(report_with_contrast(), width)
    heads = ["Primary: infonce_a minus infonce_human", "Contrasts in exact match", "Exact match against", "Answers of"]
    places = [text.index(head) for head in heads]
    assert places == sorted(places) and max(map(len, text.splitlines())) <= width
    (line,) = [line for line in text.splitlines() if "order:" in line]
    assert text.index(heads[1]) < text.index(line) < text.index(heads[2])
    assert re.search(r"order: .*\+87.5 \[.* (better|inconclusive) ", line)


def test_an_a_a_run_that_differs_is_told_before_the_tables() -> None:
    made = report()
    made["systems"]["kl_flat"]["role"] = AGAIN
    for part in (made, made["further"]["5"]):
        part["negative_controls"] = {}
        part["differences"]["reader_a"]["em"]["kl_flat"] |= {"mean": 0.01, "low": -0.02, "high": 0.04, "mde": 0.03}
        part["differences"]["reader_a"]["em"]["kl_flat"]["verdict"] = "inconclusive"
    again = "A/A run kl_flat (same labels and loss as infonce_human, other seeds)"
    beside = "it is not shown to differ from infonce_human (+1.0 [−2.0, +4.0] points, MDE 3.0)"
    assert wording.warnings(made) == []
    assert wording.checks(made) == [f"As expected: {again}, {shown} shown: {beside}." for shown in (1, 5)]
    assert f"As expected: {again}, 1 shown: {beside}." in " ".join(printed(made).split())
    for verdict, expected in (("equivalent", True), ("better", False), ("worse", False)):
        made["differences"]["reader_a"]["em"]["kl_flat"]["verdict"] = verdict
        assert len(wording.checks(made)) == 1 + expected
        assert [one.startswith(f"Not as expected: {again}, 1") for one in wording.warnings(made)] == [True] * (
            not expected
        )
    text = printed(made)
    assert text.index("Not as expected: A/A run kl_flat") < text.index("Primary: ")
    assert (
        wording.checks(made | {"further": {}}) == [] and ", 1 shown" not in wording.warnings(made | {"further": {}})[0]
    )


# -- comparison: what is missing ----------------------------------------------------------------------------------


def test_missing_judgements_are_left_out_in_pairs_and_bounded() -> None:
    verdicts = world.judged()
    lost = "Where was person 3 born? the Calder"  # infonce_a's answer to q3 for seed 1, and that of no_passage
    verdicts.verdicts = dict(verdicts.verdicts) | {lost: ("missing", "timeout")}
    made = report(verdicts)
    assert made["missing"] == {"answers": 166, "missing": 10, "coverage": 0.939759, "reasons": {"timeout": 10}}
    assert summary(made)["coverage"] == 0.9398 and summary(report())["coverage"] == 1
    accuracy = made["systems"]["infonce_a"]["scores"]["reader_a"]["accuracy"]
    assert (accuracy["mean"], accuracy["n_missing"]) == (0.857143, 1)  # 6 of 7
    difference = made["differences"]["reader_a"]["accuracy"]["infonce_a"]
    assert (difference["mean"], difference["n_missing"]) == (0.428571, 1)  # 3 of 7
    assert (difference["worst_low"], difference["worst_high"]) == (3 / 8, 4 / 8)
    assert "infonce_a: 1 pairs without a judgement" in printed(made) and "+37.5 or +50.0" in printed(made)
    assert "Missing judgements: 10 of 166 answers (timeout 10), coverage 94.0%." in printed(made)
    assert made["systems"]["infonce_a"]["scores"]["reader_a"]["em"]["mean"] == 7 / 8


def test_without_any_judgement_no_accuracy_is_invented() -> None:
    made = report(world.judged(answers=[]))
    assert all(one["scores"]["reader_a"]["accuracy"] is None for one in made["systems"].values())
    assert made["differences"]["reader_a"]["accuracy"] == {}
    assert plots.judged_metric(made) == "em" and plots.judged_metric(report()) == "accuracy"
    assert printed(made).count("not judged") == len(made["systems"])
    assert "166 of 166 answers (not in the judgements file 166)" in printed(made)


def test_without_roles_true_support_is_a_dash() -> None:
    made = report(roles=False)
    assert made["systems"]["infonce_a"]["scores"]["reader_a"]["success"] is None
    assert made["differences"]["reader_a"]["success"] == {} and made["about"]["roles_known"] is False
    assert made["disagreement"]["test"]["split"] is None and made["disagreement"]["test"]["disagreement"] == 0.5
    assert "truly support" not in printed(made)
    assert re.search(r"infonce_a +reader_a .* -\s*$", printed(made), re.MULTILINE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda rows: [row for row in rows if row["reader"] == "reader_a"], "no answers of reader 'reader_b'"),
        (lambda rows: [row for row in rows if row["seed"] == 0], r"1 seeds \[0\], train.seeds has 2"),
        (lambda rows: [row | {"seed": row["seed"] + 7} for row in rows] + rows, r"4 seeds \[0, 1, 7, 8\]"),
        (lambda rows: rows[1:], "lacks 1 of 4 questions for some seed of reader 'reader_a' with 1 shown, 'q0' first"),
    ],
)
def test_a_run_that_cannot_be_paired_is_refused(rows: Any, message: str) -> None:
    verdicts = world.judged()
    made = systems(verdicts)
    read = outcomes("infonce_a", rows(world.predictions("infonce_a", world.RUNS["infonce_a"])), world.asked(), verdicts)
    with pytest.raises(ComparisonError, match=message) as error:
        other = made | {"infonce_a": System("run", "", "reader_a", None, read)}
        compare(world.asked(), other, verdicts, SETTINGS, world.beyond())
    assert "dvc repro evaluate@infonce_a" in str(error.value)


def test_a_control_has_one_draw_or_as_many_as_runs_have_seeds() -> None:
    assert report(random=world.CONTROLS["random"][:1])["systems"]["random"]["scores"]["reader_a"]["em"]["mean"] == 0.25
    with pytest.raises(ComparisonError, match=r"control 'random' has 3 draws, train.seeds has 2.*control.random_draws"):
        report(random=[*world.CONTROLS["random"], "cccc----"])


def test_other_seeds_of_the_same_number_are_paired_in_order() -> None:
    verdicts, rows = world.judged(), world.predictions("infonce_a", world.RUNS["infonce_a"])
    read = outcomes("infonce_a", [row | {"seed": row["seed"] + 7} for row in rows], world.asked(), verdicts)
    usual = systems(verdicts)
    made = usual | {"infonce_a": replace(usual["infonce_a"], outcomes=read)}
    made = compare(world.asked(), made, verdicts, SETTINGS, world.beyond())
    assert made["differences"] == report()["differences"]


# -- another domain -----------------------------------------------------------------------------------------------

FAR = world.RUNS | {"untrained": ["aacc---+"], "bm25": ["abcc+---"], "no_passage": ["    ----"]}


def systems_beyond(verdicts: JudgedAnswers, **changes: Any) -> dict[str, System]:
    """The systems that answer questions from another domain; other controls do not."""
    beyond = world.beyond(world.far())
    read = {name: outcomes(name, world.far_predictions(name, told), beyond, verdicts) for name, told in FAR.items()}
    made = systems(verdicts)
    return made | {name: replace(made[name], beyond=found) for name, found in (read | changes).items()}


def report_beyond(made: dict[str, System], verdicts: JudgedAnswers) -> dict[str, Any]:
    return compare(world.asked(), made, verdicts, SETTINGS, world.beyond(world.far()))


def test_another_domain_is_compared_with_the_encoder_before_training() -> None:
    verdicts = world.judged()
    made = report_beyond(systems_beyond(verdicts), verdicts)
    far = made["beyond"]
    assert (far["questions"], far["groups"], far["without_human_label"]) == (4, 2, 1)
    infonce_a = far["systems"]["infonce_a"]["scores"]["reader_a"]
    assert (infonce_a["em"]["mean"], infonce_a["retrieval"]["mean"], infonce_a["regret"]) == (
        7 / 8,
        1,
        None,
    )  # a is selected in q0 to q2
    against = far["differences"]["reader_b"]
    assert {name: one["mean"] for name, one in against["em"].items()} == {
        "infonce_human": 3 / 8 - 1 / 4,
        "infonce_a": 7 / 8 - 1 / 4,
        "kl_flat": -1 / 4,
    }
    assert against["retrieval"]["infonce_a"]["mean"] == 0.333333  # 1 less 2 / 3
    assert far["systems"]["random"]["scores"] == {}
    usual = report(world.judged())
    assert {part: made[part] for part in ("systems", "differences", "further", "negative_controls")} == {
        part: usual[part] for part in ("systems", "differences", "further", "negative_controls")
    }
    assert usual["beyond"] == {} and "em_beyond" not in summary(usual)
    assert summary(made)["em_beyond"] == {"infonce_human": 0.375, "infonce_a": 0.875}


def test_a_run_is_compared_with_the_encoder_that_it_started_from() -> None:
    verdicts = world.judged()
    made = systems_beyond(verdicts)
    other = replace(
        made["untrained"], beyond=made["infonce_a"].beyond, outcomes=made["infonce_a"].outcomes, encoder="other"
    )
    made |= {"kl_flat": replace(made["kl_flat"], encoder="other"), "untrained_other": other}
    found = report_beyond(made, verdicts)
    against = {name: one["mean"] for name, one in found["beyond"]["differences"]["reader_a"]["em"].items()}
    assert against == {"infonce_human": 0.125, "infonce_a": 0.625, "kl_flat": -7 / 8}
    assert found["negative_controls"]["kl_flat"]["untrained"]["mean"] == -7 / 8


def test_a_run_that_lacks_answers_beyond_its_domain_is_refused() -> None:
    verdicts = world.judged()
    rows = world.far_predictions("infonce_a", world.RUNS["infonce_a"])[1:]
    lacking = outcomes("infonce_a", rows, world.beyond(world.far()), verdicts)
    with pytest.raises(ComparisonError, match=r"infonce_a.parquet lacks 1 of 4 .* 1 shown beyond the domain, 'q0'"):
        report_beyond(systems_beyond(verdicts, infonce_a=lacking), verdicts)
    with pytest.raises(ComparisonError, match=r"no answers of reader 'reader_a' with 1 shown beyond the domain: run"):
        report_beyond(systems_beyond(verdicts, infonce_a={}), verdicts)


# -- disagreement of labels ---------------------------------------------------------------------------------------


def test_disagreement_by_hand() -> None:
    found = disagreement(world.prepared(), world.human(), passage_losses(world.soft()))
    assert (found["questions"], found["left_out"], found["ties"]) == (3, 1, 1)
    assert found["disagreement"] == 0.5  # 0, 1 and half of a tie
    assert found["chance"] == pytest.approx(2 / 3)
    split = found["split"]
    assert split["annotators_wrong"] == pytest.approx(1 / 3)
    assert split["lowest_loss_wrong"] == pytest.approx(0.5 / 3)
    assert split["where_annotators_right"] == 0.25
    kinds = {
        "both_support": 0,
        "annotators_alone_wrong": 1 / 3,
        "lowest_loss_alone_wrong": 0.5 / 3,
        "neither_supports": 0,
    }
    assert split["kinds"] == pytest.approx(kinds)


def test_the_four_kinds_add_up_for_any_labels() -> None:
    draw = random.Random(0)
    rows = world.prepared()
    for _ in range(50):
        human = [row | {"relevant": int(draw.random() < 0.5)} for row in world.human()]
        soft = [row | {"nll_sum": draw.choice([1.0, 2.0]), "n_tokens": 1} for row in world.soft()]
        found = disagreement(rows, human, passage_losses(soft))
        if found["questions"]:
            assert sum(found["split"]["kinds"].values()) == pytest.approx(found["disagreement"])


def test_no_question_with_both_labels_has_no_disagreement() -> None:
    found = plain(disagreement(world.prepared(), [], passage_losses(world.soft())))
    assert found["disagreement"] is None and found["chance"] is None and found["questions"] == 0


# -- the questions on which runs differ ---------------------------------------------------------------------------


def test_questions_on_which_runs_differ_come_first_and_equal_ones_never() -> None:
    baseline, run = ((name, found(name, world.RUNS[name])["reader_a"]) for name in ("infonce_human", "infonce_a"))
    texts = {"q2a": "Text a of 2."}
    chosen, sides = most_differing(world.asked(), run, baseline, passage_losses(world.soft()), texts)
    assert [one["query_id"] for one in chosen] == ["q2", "q1", "q3"]  # q0: both always right
    assert [one["difference"] for one in chosen] == [1.0, 0.5, 0.5] and sides == {"better": 3, "worse": 0}
    first = chosen[0]
    assert [(one["mark"], one["text"]) for one in first["passages"]] == [("A", "Text a of 2."), ("B", "q2b")]
    assert first["passages"][0]["tags"] == ["annotators", "lowest loss", "supports (plain)", "loss 0.50"]
    assert first["passages"][1]["tags"] == ["lowest loss", "no support (mention)", "loss 0.50"]
    wrong = {"seed": 0, "marks": ["B"], "answer": "<b>Oskal</b>", "right": False}
    assert first["runs"][1] == {"name": "infonce_human", "seeds": [wrong, wrong | {"seed": 1}]}
    assert most_differing(world.asked(), run, ("again", run[1]), {}, {}) == ([], {"better": 0, "worse": 0})


def test_each_side_has_its_largest_differences_and_the_number_of_all() -> None:
    told = {"run": ["cccc-+++", "cccc---+"], "baseline": ["cccc++--"] * 2}  # -1, -.5, +.5, +1
    run, baseline = ((name, found(name, outcomes)["reader_a"]) for name, outcomes in told.items())
    for count, wanted in {1: ["q0", "q3"], 2: ["q0", "q3", "q1", "q2"], 9: ["q0", "q3", "q1", "q2"]}.items():
        chosen, sides = most_differing(world.asked(), run, baseline, {}, {}, count)
        assert [one["query_id"] for one in chosen] == wanted and sides == {"better": 2, "worse": 2}


def test_all_passages_that_the_reader_saw_are_shown_in_their_order() -> None:
    shown = ["q9a", "q2c", NO_PASSAGE]
    run = "infonce_a", found("infonce_a", world.RUNS["infonce_a"], shown_ids=shown)["reader_a"]
    baseline = "infonce_human", found("infonce_human", world.RUNS["infonce_human"])["reader_a"]
    chosen, _ = most_differing(world.asked(), run, baseline, passage_losses(world.soft()), {})
    q2 = chosen[0]
    assert [one["text"] for one in q2["passages"]] == ["q2a", "q2b", *shown]
    assert q2["runs"][0]["seeds"][0]["marks"] == ["C", "D", "E"] and q2["runs"][1]["seeds"][0]["marks"] == ["B"]
    assert q2["passages"][4]["tags"] == ["no passage at all"]


# -- a sample of questions with their labels ----------------------------------------------------------------------


def sample(**changes: Any) -> list[dict[str, Any]]:
    runs = {name: found(name, told)["reader_a"] for name, told in world.RUNS.items()}
    usual = {"asked": world.asked(), "runs": runs, "scale": 2.0, "texts": {"q9a": "Far."}, "seed": 0}
    return sampled(**usual | changes)


def test_a_sampled_question_has_its_labels_by_hand() -> None:
    q1 = sample()[1]
    assert (q1["query_id"], q1["left_out"], q1["unaided"]) == ("q1", 0, {"reader_a": 0.0, "reader_b": 0.25})
    assert [one["text"] for one in q1["passages"]] == ["Text a of 1.", "Text b of 1.", "Text c of 1."]  # by loss
    assert q1["passages"][1]["losses"] == {"reader_a": 1.0, "reader_b": 1.25}
    assert [one["first"] for one in q1["passages"]] == [
        {"infonce_human": 2, "infonce_a": 2},
        {"kl_flat": 1},
        {"kl_flat": 1},
    ]
    assert q1["passages"][1]["tags"] == ["annotators", "no support (mention)"]
    assert {one["utility"] for one in q1["passages"]} == {0.0}  # in this world no passage helps
    worse = {query: losses | {NO_PASSAGE: 2.0} for query, losses in passage_losses(world.soft()).items()}
    helped = sample(asked=world.asked(losses={"reader_a": worse}))[1]["passages"]
    assert [one["utility"] for one in helped] == pytest.approx([0.9, 0.5, 0.0])
    assert {one["utility"] for one in sample(scale=None)[1]["passages"]} == {None}


def test_the_sample_is_drawn_by_its_seed_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {seed: [one["query_id"] for one in sample(seed=seed, count=2)] for seed in range(9)}
    assert all(len(found) == 2 and found == sorted(found) for found in drawn.values())
    assert len({tuple(found) for found in drawn.values()}) > 1 and drawn[3] == [
        one["query_id"] for one in sample(seed=3, count=2)
    ]
    monkeypatch.setattr("bitter_retrieval.statistics.differing.CANDIDATES", 2)
    one = sample(runs={"far": found("infonce_a", ["cccc----"], ranked_ids=["q9a"])["reader_a"]})[1]
    assert [passage["text"] for passage in one["passages"]] == ["Text b of 1.", "Far."] and one["left_out"] == 2
    assert one["passages"][1] == {
        "text": "Far.",
        "tags": ["of another question"],
        "losses": {"reader_a": None, "reader_b": None},
        "utility": None,
        "first": {"far": 1},
    }


def test_full_utility_is_that_of_training() -> None:
    rows, labels = world.prepared(), world.soft()
    assert full_utility(rows, passage_losses(labels)) is None  # in this world no passage helps
    helpful = [row | ({"nll_sum": row["nll_sum"] + 8} if row["passage_id"] == NO_PASSAGE else {}) for row in labels]
    wanted = soft_targets(rows, helpful, "reader_a").scale
    assert full_utility(rows, passage_losses(helpful)) == pytest.approx(wanted)
    assert full_utility(rows, {}) is None


# -- words and tables ---------------------------------------------------------------------------------------------


def test_figures_in_words() -> None:
    estimate = {"mean": 0.596, "low": 0.561, "high": 0.631}
    assert wording.share(estimate) == "59.6 ±3.5" and wording.interval(estimate) == "[56.1, 63.1]"
    assert wording.share(estimate | {"low": 0.56095, "high": 0.6313}) == "59.6 ±3.5"  # rounded, not cut
    cut = {"mean": 0.98, "low": 0.93, "high": 1.0}
    assert wording.share(cut) == "98.0 [93.0, 100.0]" and wording.share(cut | {"low": 0.0, "mean": 0.5}) == "50.0 ±50.0"
    assert wording.figure(METRICS["regret"], {"mean": 0.04, "low": 0.0, "high": 0.3}) == "0.04 [0.00, 0.30]"
    assert wording.points({"mean": 0.046, "low": -0.0001, "high": 0.076}) == "+4.6 [+0.0, +7.6]"
    assert wording.points({"mean": -0.315, "low": -1.024, "high": 0.394}) == "−31.5 [−100.0, +39.4]"
    assert wording.points({"mean": 0.5, "low": -0.3, "high": 1.3}) == "+50.0 [−30.0, +100.0]"
    assert wording.signed(-0.123) == "−12.3" and wording.signed(None) == "-"
    assert [wording.size(value) for value in (0.015, 1.0, 1.9, None)] == ["1.5", "100.0", ">100", "-"]
    assert [wording.probability(p) for p in (0.0004, 0.05, 1.0, None)] == ["<.001", ".050", "1.000", "-"]


@pytest.mark.parametrize("width", [64, 80, 120])
def test_tables_fit_the_console_with_every_name_whole(width: int) -> None:
    text = printed(report(), width)
    assert max(map(len, text.splitlines())) <= width
    for name in [*world.RUNS, *world.CONTROLS]:
        assert re.search(rf"^ {name} ", text, re.MULTILINE)
    said = "negative control kl_flat (its labels do not say which passage helps), 1 shown: infonce_a is not shown to"
    assert f"Not as expected: {said} differ from kl_flat (+87.5" in " ".join(text.split())
    assert "Primary figure" in text and "inconclusive" in text and "…" not in text
    assert "87.5 [11.4, 100.0]" in text  # wider than ±


# -- the stage ----------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    world.write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_quantised_reader_is_named() -> None:
    made = report()
    made["about"]["quantised"] = {"reader_a": "small.Q4_1.gguf"}
    said = "Reader reader_a has quantised weights (small.Q4_1.gguf) and is another reader than the full model."
    assert said in " ".join(printed(made).split()) and said not in " ".join(printed(report()).split())


OUTPUTS = ["metrics/summary.json", "metrics/report.json", "metrics/report.html"]
PICTURES = [f"plots/{name}.png" for name in stage.PICTURES]


def test_figures_of_each_seed_and_the_files_are_logged(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(stage, "log_results", lambda *given: logged.append(given))
    stage.main()
    ((enabled, runs, figures, models, files),) = logged
    assert enabled is False and models == Path("models/runs"), "as params say"
    assert figures == json.loads(Path("metrics/summary.json").read_text())
    assert {file.as_posix() for file in files} == {*OUTPUTS, *PICTURES, "params.yaml"}
    found = {(run, seed): one["test/reader_a/em"] for run, seeds in runs.items() for seed, one in seeds.items()}
    assert found == {
        (run, seed): one.count("+") / 4 for run, seeds in world.RUNS.items() for seed, one in enumerate(seeds)
    }
    assert "test/reader_a/empty" not in runs["infonce_a"][0], "what nothing measured has no figure"


def test_the_stage_writes_the_same_bytes_twice(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    first = {name: (workspace / name).read_bytes() for name in OUTPUTS + PICTURES}
    told = capsys.readouterr().out
    stage.main()
    assert {name: (workspace / name).read_bytes() for name in first} == first
    assert all(first[name].startswith(b"\x89PNG") for name in PICTURES)
    assert f"Compared on this processor: {processor_name()}." in " ".join(told.split())
    assert "not a language model" in told and str(workspace) not in first["metrics/report.html"].decode()
    assert json.loads(first["metrics/report.json"])["systems"]["infonce_a"]["scores"]["reader_a"]["em"]["mean"] == 0.875


def test_a_picture_changes_with_what_it_shows(tmp_path: Path) -> None:
    for name, told in {"one": world.RUNS["infonce_a"], "other": ["aaab++--", "aaaa++++"]}.items():
        plots.answer_accuracy(report(infonce_a=told), tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("data/predictions/runs/infonce_a.parquet", "dvc repro evaluate@infonce_a"),
        ("data/predictions/controls/oracle.parquet", "dvc repro control"),
        ("data/judgements.parquet", "dvc repro"),
        ("plots/curves/infonce_a.csv", "dvc repro train@infonce_a"),
    ],
)
def test_a_missing_file_is_named_with_its_remedy(workspace: Path, path: str, remedy: str) -> None:
    (workspace / path).unlink()
    with pytest.raises(RecordError, match=f"{re.escape(path)}: no such file") as error:
        stage.main()
    assert remedy in str(error.value)
    assert not (workspace / "metrics/summary.json").exists()


def test_runs_that_params_do_not_declare_are_not_looked_at(workspace: Path) -> None:
    (workspace / "data/predictions/runs/gone.parquet").write_text("not parquet")
    stage.main()
    assert "gone" not in (workspace / "metrics/report.json").read_text()


def test_real_data_without_roles_and_judge_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write_workspace(tmp_path, roles=False, judge=False)
    monkeypatch.chdir(tmp_path)
    stage.main()
    page = (tmp_path / "metrics/report.html").read_text()
    assert "not judged" in page and "Answer accuracy: nothing to compare (not judged)." in page


class Page(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    VOID = {"meta", "link", "img", "br", "line", "rect", "circle", "path", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def test_the_page_is_whole_and_loads_nothing(workspace: Path) -> None:
    stage.main()
    text = (workspace / "metrics/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    inside, embedded = ([link for link in links if link.startswith(start)] for start in ("#", "data:"))
    assert len(embedded) == 1 + len(PICTURES) and len(links) == len(embedded) + len(inside)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    parts = [attrs["id"] for tag, attrs in page.tags if tag == "details" and "id" in attrs]
    assert [link[1:] for link in inside] == parts and len(set(ids)) == len(ids)
    assert not re.search(r"https?:|url\(|@import|<script", text)
    scripts = [value for _, attrs in page.tags for name, value in attrs.items() if name.startswith("on")]
    assert len(scripts) == 1 and all(attrs.get("open") is None for tag, attrs in page.tags if tag == "details")
    assert "&lt;b&gt;Oskal&lt;/b&gt;" in text and "<b>Oskal" not in text
    assert text.count("<details") == len(parts) + 3 + 4 + 2  # differing and sampled questions, params and files
    said = ["Passages cut to fit, 1 shown: 4", "5 passages shown", "Rankings of 12 passages", "nDCG@10"]
    for words in [
        *said,
        '<th scope="row">train.learning_rate</th><td>0.001</td>',
        "would be called better or worse with 80% power",
        "minimum detectable effect",
        "Text a of 2.",
    ]:
        assert words in text


@pytest.fixture
def beyond(workspace: Path) -> Path:
    """The workspace with questions from another domain, answered by runs and by the controls of FAR."""
    world.write_beyond(workspace, world.far())
    tree = yaml.safe_load((workspace / "params.yaml").read_text())
    tree["beyond"] = tree["data"] | {"seed": 7}
    (workspace / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    for name, told in FAR.items():
        path = workspace / f"data/predictions/{'runs' if name in world.RUNS else 'controls'}/{name}.parquet"
        rows = read_rows(path, PREDICTIONS) + world.far_predictions(name, told)
        write_rows(path, rows, PREDICTIONS)
    return workspace


def test_the_main_table_has_the_other_domain_beside_its_own(beyond: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    text = (beyond / "metrics/report.html").read_text(encoding="utf-8")
    assert Page(text).open == [] and not re.search(r"\b(nan|None)\b", re.sub('base64,[^"]*', "", text))
    main = re.search(r"<h2>Every run and control</h2>.*?</table>", text, re.DOTALL)[0]
    assert main.count("<th>Beyond: ") == 2 and "4 questions (synthetic), 12 passages" in main
    (infonce_a,) = re.findall(r'<tr class="primary"><th scope="row">infonce_a</th>.*?</tr>', main, re.DOTALL)
    assert re.search(
        r"<td>87.5 \[\S+ 100.0\]<small>\+62.5 \[.*<td>100.0 \[\S+ 100.0\]<small>\+33.3 \[", infonce_a, re.DOTALL
    )
    assert "data/prepared/beyond.parquet" in text and "beyond.seed" in text
    told = capsys.readouterr().out
    assert "The test questions are from data/raw: test.jsonl (4)." in told
    there = "4 questions in 2 groups, from data/raw: test.jsonl (4), without a human label: 1."
    assert f"Beyond the training domain: {there}" in " ".join(told.split())
    assert re.search(r"^ infonce_a +reader_a +87.5 \[\S+ 100.0\] +\+62.5 \[", told, re.MULTILINE)
    assert re.search(r"^ infonce_a +reader_a .* 100.0 \[15.8, 100.0\] +\+33.3 \[", told, re.MULTILINE)
    assert json.loads((beyond / "metrics/summary.json").read_text())["em_beyond"]["infonce_a"] == 0.875


def test_questions_of_the_same_id_in_two_domains_are_kept_apart(beyond: Path) -> None:
    """Without a passage readers answer q3, but not that of the other domain."""
    stage.main()
    report = json.loads((beyond / "metrics/report.json").read_text())
    here, there = (part["systems"]["infonce_a"]["scores"]["reader_a"] for part in (report, report["beyond"]))
    assert (here["harm"]["mean"], there["harm"]["mean"]) == (1 / 8, 0)
    assert here["retrieval"]["mean"] != there["retrieval"]["mean"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_another_domain_fits_the_console(beyond: Path, width: int) -> None:
    stage.main()
    text = printed(json.loads((beyond / "metrics/report.json").read_text()), width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text and text.count("to untrained") == 2


def test_without_another_domain_nothing_is_said_of_one(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    assert "eyond" not in capsys.readouterr().out
    assert "<th>Beyond" not in (workspace / "metrics/report.html").read_text(encoding="utf-8")


def test_how_label_sources_agree_needs_no_draws(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws, which estimates do not use, would take [compare.draws, groups] numbers."""
    drawn: list[Design] = []
    monkeypatch.setattr(stage, "Design", lambda *given, **named: drawn.append(Design(*given, **named)) or drawn[-1])
    assert len(stage.sources_agree("train", load_params())) == 10
    assert [len(design.group_counts) for design in drawn] == [20]


def test_what_a_run_is_for_follows_from_its_settings_not_its_name(workspace: Path) -> None:
    params = load_params()
    baseline = params.runs["infonce_human"]

    def role(**changes: Any) -> str | None:
        return stage.role("other", replace(params, runs=params.runs | {"other": replace(baseline, **changes)}))

    assert stage.role("kl_flat", params) == NEGATIVE and stage.role("infonce_human", params) is None
    assert role(seeds=[7, 8]) == AGAIN
    assert role() is None and role(seeds=[0, 1]) is None  # the same models: nothing is drawn again
    assert role(seeds=[7, 8], labels="truth") is None and role(seeds=[7, 8], learning_rate=0.1) is None


def test_the_settings_are_those_of_params(workspace: Path) -> None:
    made = stage.settings(load_params())
    assert (made.baseline, made.seeds, made.draws, list(made.readers)) == (
        "infonce_human",
        2,
        200,
        ["reader_a", "reader_b"],
    )
    assert made.shown == [1, 5]
    assert len(read_rows("data/predictions/runs/infonce_a.parquet", stage.NEEDED)) == 32
