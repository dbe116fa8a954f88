"""Judges and the judge stage: one verdict for each distinct answer, of declared runs and controls alone."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

import judge as stage
from bitter_retrieval import params
from bitter_retrieval.journal import Journal
from bitter_retrieval.judging.judges import (
    IDENTITIES,
    PROMPT,
    Case,
    Judged,
    JudgeError,
    Remembering,
    RuleJudge,
    Verdict,
    check_coverage,
    filled,
    ignore,
    judgement_key,
    judgements,
    make_judge,
    paid,
)
from bitter_retrieval.judging.settings import AnyJudge, is_judge_prompt
from bitter_retrieval.params import parse_params
from bitter_retrieval.records import JUDGEMENTS, PREDICTIONS, PREPARED, RecordError, Row, read_rows, write_rows
from bitter_retrieval.statistics.comparison import CONTROLS
from bitter_retrieval.typed_yaml import ParamsError

PARAMS = Path(__file__).parents[2] / "params.yaml"
REFERENCES = ("The Calder Bridge", "Calder")
CALLS = {"in_flight": 16, "per_minute": 500, "timeout": 60, "attempts": 6, "first_wait": 1, "longest_wait": 60}
GEMINI = {"kind": "gemini", "model": "gemini-test", "min_coverage": 0.98, "calls": CALLS | {"output_tokens": 512}}
GEMINI["cost"] = {"limit": 5, "input": 0.1, "output": 0.4}
SCORING = {"revision": None, "dtype": "float32", "chat": False, "max_length": 1024, "batch_tokens": 8192}
LLM = {"kind": "llm", "model": "reader_a", "min_coverage": 0.98, "scoring": SCORING}
COMMIT = "b968826d9c46dd6066d109eabc6255188de91218"


def case(answer: str, query: str = "Where?") -> Case:
    return Case(query, REFERENCES, answer)


def parsed(judge: dict[str, Any]) -> AnyJudge:
    """The section `judge` of params.yaml, replaced by this one and parsed."""
    return parse_params(yaml.safe_load(PARAMS.read_text()) | {"judge": judge}, "params.yaml").judge


# -- params ----------------------------------------------------------------------------------------------------------


def test_every_kind_that_params_allow_has_a_judge() -> None:
    kinds = {kind for judge in get_args(AnyJudge) for kind in get_args(get_type_hints(judge)["kind"])}
    assert kinds == set(IDENTITIES)
    for settings in ({"kind": "rule"}, GEMINI, LLM):
        assert make_judge(parsed(settings)).name == settings["kind"]


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        ({"kind": "gemmini"}, "judge.kind: 'gemmini' is none of rule, gemini, llm. Did you mean 'gemini'?"),
        (GEMINI | {"model": None}, "judge.model: missing. Kind gemini needs it."),
        (GEMINI | {"cost": None}, "judge.cost: missing"),
        (LLM | {"min_coverage": None}, "judge.min_coverage: missing"),
        ({"kind": "rule", "min_coverage": 0.5}, "judge.min_coverage: kind rule does not use it"),
        ({"kind": "rule", "prompt": PROMPT}, "judge.prompt: kind rule does not use it"),
        (LLM | {"calls": GEMINI["calls"]}, "judge.calls: kind llm does not use it"),
        (GEMINI | {"calls": CALLS}, "judge.calls.output_tokens: missing"),
        (GEMINI | {"model": " "}, "judge.model: must be a model's name (gemini), or a reader's name"),
        (GEMINI | {"cost": {"limit": 0, "input": 0, "output": 0}}, "judge.cost.limit: must be above 0"),
        (GEMINI | {"prompt": "{query} {answer}"}, "judge.prompt: must be text with {query}, {references} and {answer}"),
        (LLM | {"model": "reader_x"}, "judge.scoring.revision: must be a 40-hex commit as model 'reader_x' is a hub"),
        (LLM | {"model": "reader_x"}, "Did you mean 'reader_"),
        (LLM | {"scoring": SCORING | {"revision": COMMIT}}, "judge.scoring.revision: must be null as 'reader_a'"),
        (LLM | {"model": "fit"}, "judge.model: must be"),
    ],
)
def test_what_a_kind_needs_is_required_and_what_it_does_not_use_refused(judge: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(says)):
        parsed(judge)


def test_a_model_from_a_hub_stands_with_its_commit_in_every_key() -> None:
    settings = parsed(LLM | {"model": "maker/judge", "scoring": SCORING | {"revision": COMMIT}})
    assert make_judge(settings).model.startswith(f"maker/judge@{COMMIT}, settings ")


@pytest.mark.parametrize("settings", [GEMINI, LLM])
def test_another_prompt_is_another_judge_and_bounds_are_not(settings: dict[str, Any]) -> None:
    own = make_judge(parsed(settings)).model
    assert make_judge(parsed(settings | {"prompt": PROMPT})).model == own
    assert make_judge(parsed(settings | {"prompt": PROMPT.replace("order", "ORDER")})).model != own
    assert make_judge(replace(parsed(settings), min_coverage=0.1)).model == own
    assert make_judge(parsed(settings | {"model": "reader_b"})).model != own


def test_of_how_a_local_model_is_asked_the_batches_alone_do_not_matter() -> None:
    def model(**changes: Any) -> str:
        return make_judge(parsed(LLM | {"scoring": SCORING | changes})).model

    assert len({model(), model(dtype="bfloat16"), model(chat=True), model(max_length=512)}) == 4
    assert model(batch_tokens=1) == model()


def test_the_prompt_is_filled_once_whatever_the_texts_hold() -> None:
    odd = Case("What is {answer}?", ("{query}", "b"), "{references} {x}")
    assert filled("Q {query}\nR\n{references}\nA {answer} {x}", odd) == (
        'Q "What is {answer}?"\nR\n- "{query}"\n- "b"\nA "{references} {x}" {x}'
    )
    assert is_judge_prompt(PROMPT) and "YES" in PROMPT and "NO" in PROMPT


# -- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Calder", "correct"),
        ("calder bridge.", "correct"),
        ("in Calder", "incorrect"),
        ("Brenn", "incorrect"),
        ("", "incorrect"),
    ],
)
def test_the_rule_is_normalised_equality_with_any_reference(answer: str, verdict: str) -> None:
    assert RuleJudge().verdicts([case(answer)]) == {case(answer): Verdict(verdict)}


def test_the_rule_says_that_it_is_no_language_model() -> None:
    assert "not a language model" in RuleJudge.about


def test_equal_cases_are_judged_once_and_rows_are_sorted_by_key() -> None:
    rows = judgements(RuleJudge(), [case("Calder"), case("Brenn"), case("Calder"), case("Calder", query="Which?")])
    assert [row["key"] for row in rows] == sorted({row["key"] for row in rows})
    assert sorted(row["verdict"] for row in rows) == ["correct", "correct", "incorrect"]
    found = {row["key"]: row for row in rows}
    key = judgement_key("Where?", REFERENCES, "Brenn", "rule", "exact_match")
    assert found[key] == {"key": key, "verdict": "incorrect", "reason": None, "judge": "rule", "model": "exact_match"}


def test_rows_do_not_depend_on_the_order_of_cases() -> None:
    asked = [case(str(number)) for number in range(20)]
    assert judgements(RuleJudge(), asked) == judgements(RuleJudge(), reversed(asked))


def test_a_key_depends_on_all_that_decides_a_judgement() -> None:
    asked = ("Where?", ["Calder"], "Brenn", "rule", "exact_match")
    changed = ("Which?", ["Calder", "Brenn"], "", "llm", "other")
    keys = {judgement_key(*asked)}
    for place, other in enumerate(changed):
        keys.add(judgement_key(*asked[:place], other, *asked[place + 1 :]))
    assert len(keys) == 6
    assert judgement_key("Where?", ("Calder",), "Brenn", "rule", "exact_match") in keys  # as parquet or json give it


# -- what was paid for -----------------------------------------------------------------------------------------------


class Scripted:
    """A judge that costs: gives scripted verdicts, one at a time, and counts them."""

    name, model, about = "scripted", "model, prompt 1", "a script"

    def __init__(self, says: Callable[[Case], Verdict]) -> None:
        self.says = says
        self.asked: list[Case] = []

    def verdicts(self, cases: Sequence[Case], on_judged: Callable[[Judged], None] = ignore) -> Judged:
        judged = {}
        for one in cases:
            self.asked.append(one)
            judged[one] = self.says(one)
            on_judged({one: judged[one]})
        return judged

    def estimate(self, cases: Sequence[Case]) -> str:
        return f"{len(cases)} to ask"

    def account(self) -> str:
        return "much"


def even(one: Case) -> Verdict:
    """Correct, incorrect or missing by the answer's number."""
    return [Verdict("correct"), Verdict("incorrect"), Verdict("missing", "HTTP 500")][int(one.answer) % 3]


CASES = [case(str(number)) for number in range(30)]


def test_a_verdict_is_asked_for_once_and_what_is_missing_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "judge.sqlite") as journal:
        first = Scripted(even)
        rows = judgements(Remembering(first, journal), CASES)
        assert len(first.asked) == 30 and sum(row["verdict"] == "missing" for row in rows) == 10
        second = Scripted(lambda one: Verdict("correct"))
        remembering = Remembering(second, journal)
        assert remembering.estimate(CASES) == "20 verdicts known, 10 to ask" and remembering.account() == "much"
        again = {row["key"]: row["verdict"] for row in judgements(remembering, CASES)}
    assert sorted(one.answer for one in second.asked) == sorted(str(number) for number in range(2, 30, 3))
    said = {row["key"]: row["verdict"] for row in rows}
    assert all(again[key] == (verdict if verdict != "missing" else "correct") for key, verdict in said.items())


def test_what_came_before_an_error_is_kept(tmp_path: Path) -> None:
    def failing(one: Case) -> Verdict:
        if len(failed.asked) > 12:
            raise OSError("no more")
        return Verdict("correct")

    failed = Scripted(failing)
    with Journal(tmp_path / "judge.sqlite") as journal, pytest.raises(OSError, match="no more"):
        judgements(Remembering(failed, journal), CASES)
    with Journal(tmp_path / "judge.sqlite") as journal:
        assert Remembering(failed, journal).estimate(CASES) == "12 verdicts known, 18 to ask"


def test_rows_from_elsewhere_are_taken_over(tmp_path: Path) -> None:
    """But no missing ones, and none of the rule, which cost nothing. Another judge's are kept for that judge."""
    rows = judgements(Scripted(even), CASES)
    unasked, other = Scripted(even), Scripted(even)
    other.model = "model, prompt 2"
    with Journal(tmp_path / "judge.sqlite") as journal:
        journal.put(paid(rows))
        assert judgements(Remembering(unasked, journal), CASES) == rows
        assert len(unasked.asked) == 10
        judgements(Remembering(other, journal), CASES)
        assert len(other.asked) == 30
    assert not paid(judgements(RuleJudge(), CASES))


def test_a_remembering_judge_shows_all_verdicts_as_they_come(tmp_path: Path) -> None:
    seen: list[Case] = []
    with Journal(tmp_path / "judge.sqlite") as journal:
        judgements(Remembering(Scripted(even), journal), CASES[:20])
        judgements(Remembering(Scripted(even), journal), CASES, seen.extend)
    assert sorted(one.answer for one in seen) == sorted(one.answer for one in CASES)


def test_coverage_below_what_is_wanted_is_an_error() -> None:
    rows = [{"verdict": "correct"}] * 97 + [{"verdict": "missing"}] * 3
    check_coverage(rows, 0.97)
    check_coverage([], 0.98)
    with pytest.raises(JudgeError, match=r"97 of 100 answers have a verdict, 97.0%; judge.min_coverage wants 98.0%"):
        check_coverage(rows, 0.98)


# -- the stage -------------------------------------------------------------------------------------------------------


def prediction(system: str, answer: str | None, query_id: str = "q0", reader: str = "reader_a", seed: int = 0) -> Row:
    empty = {name: [] for name in ("ranked_ids", "ranked_scores", "shown_ids", "candidate_ids", "candidate_ranks")}
    given = {"system": system, "reader": reader, "seed": seed, "query_id": query_id, "group_id": "g", "answer": answer}
    return {**empty, **given, "shown": 1, "beyond": False, "answer_nll": 1.0, "em": 0.0, "f1": 0.0, "truncated": 0}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two questions, a prediction for each run of the real params.yaml and for each control; one run was removed."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PARAMS, "params.yaml")
    shared = {"group_id": "g", "answers": ["Calder", "Brenn"], "passages": []}
    questions = [{**shared, "query_id": f"q{number}", "query": f"Where is {number}?"} for number in range(2)]
    elsewhere = {**shared, "query_id": "q0", "query": "Who is elsewhere?"}
    for name, rows in {"test": questions, "beyond": [elsewhere]}.items():
        write_rows(stage.PREPARED_FOLDER / f"{name}.parquet", rows, PREPARED)
    for run in [*params.load_params().runs, "removed"]:
        rows = [prediction(run, "Calder", seed=seed) for seed in range(3)] + [prediction(run, run, reader="reader_b")]
        write_rows(stage.RUNS / f"{run}.parquet", rows, PREDICTIONS)
    for control in params.load_params().controls:
        write_rows(stage.CONTROLS / f"{control}.parquet", [prediction(control, "the brenn", "q1")], PREDICTIONS)
    return tmp_path


def test_the_stage_judges_each_distinct_answer_of_declared_runs_and_controls(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = list(params.load_params().runs)
    stage.main([])
    verdicts = {row["key"]: row["verdict"] for row in read_rows(stage.JUDGED, JUDGEMENTS)}

    def key(query: str, answer: str) -> str:
        return judgement_key(query, ["Calder", "Brenn"], answer, "rule", "exact_match")

    expected = {key("Where is 0?", "Calder"): "correct", key("Where is 1?", "the brenn"): "correct"}
    assert verdicts == expected | {key("Where is 0?", run): "incorrect" for run in runs}
    said = capsys.readouterr().out
    assert f"{len(runs) + 2} distinct answers: 2 correct, {len(runs)} incorrect, 0 missing" in said
    assert "not a language model" in said


def test_the_stage_sweeps_what_params_no_longer_declare_and_nothing_else(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {file.name for file in stage.RUNS.iterdir()} - {"removed.parquet"}
    stage.main([])
    assert {file.name for file in stage.RUNS.iterdir()} == kept
    assert "Removed data/predictions/runs/removed.parquet" in capsys.readouterr().out


def test_the_output_is_the_same_bytes_each_time(repository: Path) -> None:
    stage.main([])
    first = stage.JUDGED.read_bytes()
    stage.main([])
    assert stage.JUDGED.read_bytes() == first


@pytest.mark.parametrize("absent", ["runs/kl_a", "controls/oracle"])
def test_a_missing_prediction_file_is_named_with_the_remedy(repository: Path, absent: str) -> None:
    Path(f"data/predictions/{absent}.parquet").unlink()
    with pytest.raises(RecordError, match=rf"{absent}\.parquet: no such file.*dvc repro"):
        stage.main([])
    assert not stage.JUDGED.exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (prediction("kl_a", "Calder", "gone"), "kl_a.parquet: query_id 'gone' is not in data/prepared/test.parquet"),
        (prediction("kl_a", "Calder", "q1") | {"beyond": True}, "query_id 'q1' is not in data/prepared/beyond.parquet"),
        (prediction("kl_a", None), "kl_a.parquet: query_id 'q0' has no answer"),
    ],
)
def test_a_prediction_that_cannot_be_judged_is_named(repository: Path, row: Row, message: str) -> None:
    write_rows(stage.RUNS / "kl_a.parquet", [row], PREDICTIONS)
    with pytest.raises(RecordError, match=message):
        stage.main([])


def test_the_report_has_words_for_every_control() -> None:
    assert set(params.load_params(PARAMS).controls) == set(CONTROLS)


def test_answers_to_questions_from_another_domain_are_judged_too(repository: Path) -> None:
    write_rows(stage.RUNS / "kl_a.parquet", [prediction("kl_a", "a Brenn") | {"beyond": True}], PREDICTIONS)
    stage.main([])
    key = judgement_key("Who is elsewhere?", ["Calder", "Brenn"], "a Brenn", "rule", "exact_match")
    assert {row["key"]: row["verdict"] for row in read_rows(stage.JUDGED, JUDGEMENTS)}[key] == "correct"


def test_dvc_leaves_the_file_in_place_for_the_verdicts_in_it() -> None:
    outs = yaml.safe_load(PARAMS.with_name("dvc.yaml").read_text())["stages"]["judge"]["outs"]
    assert outs == [{str(stage.JUDGED): {"persist": True}}]


def test_a_dry_run_of_the_rule_costs_nothing_and_writes_nothing(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in repository.rglob("*")}
    stage.main(["--dry-run"])
    assert "answers judged by a rule: no call, no cost" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in repository.rglob("*")} == before
    assert (stage.RUNS / "removed.parquet").exists()


def test_the_rule_takes_nothing_over_from_the_file_that_is_there(repository: Path) -> None:
    """Its definition may have changed, and its verdicts cost nothing."""
    stage.main([])
    right = read_rows(stage.JUDGED, JUDGEMENTS)
    turned = {"correct": "incorrect", "incorrect": "correct"}
    write_rows(stage.JUDGED, [row | {"verdict": turned[row["verdict"]]} for row in right], JUDGEMENTS)
    stage.main([])
    assert read_rows(stage.JUDGED, JUDGEMENTS) == right
    assert not (repository / ".journal").exists()
