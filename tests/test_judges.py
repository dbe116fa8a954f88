"""Judges and the judge stage: one verdict for each distinct answer, of declared runs and controls alone."""

import shutil
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import judge as stage
from bitter_retrieval import params
from bitter_retrieval.comparison import CONTROLS
from bitter_retrieval.judges import JUDGES, Case, RuleJudge, judgement_key, judgements, make_judge
from bitter_retrieval.records import JUDGEMENTS, PREDICTIONS, PREPARED, RecordError, Row, read_rows, write_rows

PARAMS = Path(__file__).parents[1] / "params.yaml"
REFERENCES = ("The Calder Bridge", "Calder")


def case(answer: str, query: str = "Where?") -> Case:
    return Case(query, REFERENCES, answer)


def test_every_kind_that_params_allow_has_a_judge() -> None:
    kinds = get_args(get_type_hints(params.Judge)["kind"])
    assert set(kinds) == set(JUDGES)
    for kind in kinds:
        assert make_judge(params.Judge(kind=kind)).name == kind


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
    assert [said.verdict for said in RuleJudge().verdicts([case(answer)])] == [verdict]


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


def prediction(system: str, answer: str | None, query_id: str = "q0", reader: str = "reader_a", seed: int = 0) -> Row:
    empty = {name: [] for name in ("ranked_ids", "ranked_scores", "shown_ids", "candidate_ids", "candidate_ranks")}
    given = {"system": system, "reader": reader, "seed": seed, "query_id": query_id, "group_id": "g", "answer": answer}
    return {**empty, **given, "answer_nll": 1.0, "em": 0.0, "f1": 0.0, "truncated": 0}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two questions, a prediction for each run of the real params.yaml and for each control; one run was removed."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PARAMS, "params.yaml")
    shared = {"group_id": "g", "answers": ["Calder", "Brenn"], "passages": []}
    questions = [{**shared, "query_id": f"q{number}", "query": f"Where is {number}?"} for number in range(2)]
    write_rows(stage.PREPARED_FOLDER / "test.parquet", questions, PREPARED)
    for run in [*params.load_params().runs, "removed"]:
        rows = [prediction(run, "Calder", seed=seed) for seed in range(3)] + [prediction(run, run, reader="reader_b")]
        write_rows(stage.RUNS / f"{run}.parquet", rows, PREDICTIONS)
    for control in stage.CONTROL_NAMES:
        write_rows(stage.CONTROLS / f"{control}.parquet", [prediction(control, "the brenn", "q1")], PREDICTIONS)
    return tmp_path


def test_the_stage_judges_each_distinct_answer_of_declared_runs_and_controls(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = list(params.load_params().runs)
    stage.main()
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
    stage.main()
    assert {file.name for file in stage.RUNS.iterdir()} == kept
    assert "Removed data/predictions/runs/removed.parquet" in capsys.readouterr().out


def test_the_output_is_the_same_bytes_each_time(repository: Path) -> None:
    stage.main()
    first = stage.JUDGED.read_bytes()
    stage.main()
    assert stage.JUDGED.read_bytes() == first


@pytest.mark.parametrize("absent", ["runs/kl", "controls/oracle"])
def test_a_missing_prediction_file_is_named_with_the_remedy(repository: Path, absent: str) -> None:
    Path(f"data/predictions/{absent}.parquet").unlink()
    with pytest.raises(RecordError, match=rf"{absent}\.parquet: no such file.*dvc repro"):
        stage.main()
    assert not stage.JUDGED.exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (prediction("kl", "Calder", "gone"), "kl.parquet: query_id 'gone' is not in data/prepared/test.parquet"),
        (prediction("kl", None), "kl.parquet: query_id 'q0' has no answer"),
    ],
)
def test_a_prediction_that_cannot_be_judged_is_named(repository: Path, row: Row, message: str) -> None:
    write_rows(stage.RUNS / "kl.parquet", [row], PREDICTIONS)
    with pytest.raises(RecordError, match=message):
        stage.main()


def test_judge_and_compare_mean_the_same_controls() -> None:
    assert set(stage.CONTROL_NAMES) == set(CONTROLS)
