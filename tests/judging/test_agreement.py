"""Agreement of two judges against its definition, counted answer by answer; undefined figures stay undefined."""

import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_judges import PARAMS, prediction

import agreement as command
from bitter_retrieval.judging.agreement import Agreement, AgreementError, Verdicts, agreement, kappa
from bitter_retrieval.judging.judges import Case, judgement_key
from bitter_retrieval.params import load_params
from bitter_retrieval.records import JUDGEMENTS, PREDICTIONS, PREPARED, RecordError, Row, write_rows
from bitter_retrieval.statistics.comparison import CONTROLS
from bitter_retrieval.statistics.statistics import Design

WORDS = {"+": "correct", "-": "incorrect", "?": "missing"}


def case(number: int) -> Case:
    return Case(f"Where is {number}?", ("Calder",), "here")


def rows(said: str, judge: str = "gemini", model: str = "m") -> list[Row]:
    """One verdict per character on the cases 0, 1, …; a blank is no row."""
    return [
        {
            "key": judgement_key(case(n).query, case(n).references, case(n).answer, judge, model),
            "verdict": WORDS[sign],
            "reason": "HTTP 500" if sign == "?" else None,
            "judge": judge,
            "model": model,
        }
        for n, sign in enumerate(said)
        if sign != " "
    ]


def compared(first: str, second: str, groups: Sequence[str] | None = None, draws: int = 200) -> Agreement:
    groups = groups or [f"g{number}" for number in range(len(first))]
    cases = {case(number): group for number, group in enumerate(groups)}
    return agreement(cases, Verdicts(rows(first), "a"), Verdicts(rows(second, "llm"), "b"), draws, 0)


def slow_kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """(p_o - p_e) / (1 - p_e), by counting."""
    n = len(pairs)
    observed = sum(one == other for one, other in pairs) / n
    first, second = zip(*pairs, strict=True)
    chance = sum(first.count(sign) / n * second.count(sign) / n for sign in "+-")
    return math.nan if chance == 1 else (observed - chance) / (1 - chance)


def test_the_example_worked_out_by_hand() -> None:
    assert kappa([40, 10, 5, 45]) == pytest.approx(0.70)
    found = compared("+" * 50 + "-" * 50, "+" * 40 + "-" * 10 + "+" * 5 + "-" * 45)
    assert (found.answers, found.counts, found.observed) == (100, (40, 10, 5, 45), 0.85)
    assert found.kappa == pytest.approx(0.70)
    assert found.on_correct == pytest.approx(80 / 95) and found.on_incorrect == pytest.approx(90 / 105)
    assert (found.first_rate, found.second_rate) == (0.50, 0.45)


def test_kappa_is_its_definition_on_random_verdicts() -> None:
    draw = random.Random(0)
    for _ in range(200):
        pairs = [(draw.choice("+-"), draw.choice("++-")) for _ in range(draw.randint(1, 30))]
        counts = [pairs.count(cell) for cell in (("+", "+"), ("+", "-"), ("-", "+"), ("-", "-"))]
        assert kappa(counts) == pytest.approx(slow_kappa(pairs), abs=1e-12, nan_ok=True)


def test_the_interval_is_that_of_groups_drawn_one_by_one() -> None:
    draw = random.Random(1)
    first = "".join(draw.choice("+-") for _ in range(60))
    second = "".join(sign if draw.random() < 0.8 else draw.choice("+-") for sign in first)
    groups = [f"g{draw.randint(0, 14)}" for _ in range(60)]
    found = compared(first, second, groups)
    drawn = []
    for counts in Design(groups, 1, 200, 0).group_counts:
        times = dict(zip(sorted(set(groups)), counts, strict=True))
        pairs = list(zip(first, second, groups, strict=True))
        drawn.append(slow_kappa([(one, other) for one, other, group in pairs for _ in range(times[group])]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found.low < found.kappa < found.high


def test_answers_of_one_group_count_as_one_draw() -> None:
    """Ten copies of each answer make no interval narrower where a group holds them."""
    first, second = "++--+-+--+", "+---+-++-+"
    groups = [f"g{number}" for number in range(10)]
    alone, copied = compared(first, second, groups), compared(first * 10, second * 10, groups * 10)
    assert (copied.low, copied.high, copied.kappa) == pytest.approx((alone.low, alone.high, alone.kappa))


def test_an_answer_without_two_verdicts_is_counted_and_left_out() -> None:
    found = compared("++--?? +", "+-+-+ ??")
    assert (found.answers, found.counts) == (4, (1, 1, 1, 1))
    assert (found.first_alone, found.second_alone, found.neither) == (1, 1, 2)
    assert (found.observed, found.kappa) == (0.5, 0)


@pytest.mark.parametrize(
    ("first", "second", "kappa_is"),
    [("++++", "++++", math.nan), ("----", "----", math.nan), ("++++", "----", 0.0), ("++--", "--++", -1.0)],
)
def test_one_class_alone(first: str, second: str, kappa_is: float) -> None:
    found = compared(first, second)
    assert found.kappa == pytest.approx(kappa_is, nan_ok=True)
    assert math.isnan(found.low) == math.isnan(found.high) == math.isnan(kappa_is)
    assert math.isnan(found.on_incorrect) == ("-" not in first + second)


def test_no_answer_in_common() -> None:
    found = compared("++  ", "  --")
    assert (found.answers, found.first_alone, found.second_alone) == (0, 2, 2)
    numbers = found.observed, found.kappa, found.low, found.high, found.on_correct, found.first_rate
    assert all(map(math.isnan, numbers))


def test_one_group_gives_no_interval() -> None:
    found = compared("++--", "+---", ["g"] * 4)
    assert found.kappa == pytest.approx(0.5) and math.isnan(found.low) and math.isnan(found.high)


def test_a_kappa_that_resamples_often_lack_has_no_interval() -> None:
    """One answer of ten is incorrect: a third of the resamples miss it."""
    found = compared("+++++++++-", "+++++++++-")
    assert found.kappa == 1 and math.isnan(found.low)


def test_judges_that_never_disagree_may_yet_do_so() -> None:
    """Of 60 groups without a disagreement at most 6.0% may have one, of which half would be chance."""
    found = compared("+-" * 30, "+-" * 30)
    assert (found.kappa, found.high) == (1, 1) and found.low == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 60)))


def test_a_table_of_no_or_two_judges_is_refused() -> None:
    with pytest.raises(AgreementError, match=r"x\.parquet: must hold the verdicts of one judge, got no rows"):
        Verdicts([], "x.parquet")
    with pytest.raises(AgreementError, match="got .*'gemini', 'm'.*'llm', 'm'"):
        Verdicts(rows("+") + rows("+", "llm"), "x.parquet")


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six questions in three groups; every system answers "Calder" or, to the last two, something else."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PARAMS, "params.yaml")
    shared = {"answers": ["Calder"], "passages": []}
    questions = [shared | {"query_id": f"q{n}", "group_id": f"g{n // 2}", "query": f"Where is {n}?"} for n in range(6)]
    for name, asked in {"test": questions, "beyond": []}.items():
        write_rows(command.PREPARED_FOLDER / f"{name}.parquet", asked, PREPARED)
    for folder, names in {"runs": load_params().runs, "controls": CONTROLS}.items():
        for name in names:
            answers = ["the Calder"] * 4 + ["Brenn", name]
            given = [prediction(name, said, f"q{n}", seed=seed) for n, said in enumerate(answers) for seed in range(3)]
            write_rows(command.PREDICTED / folder / f"{name}.parquet", given, PREDICTIONS)
    return tmp_path


def judged(said: dict[tuple[int, str], str], model: str) -> list[Row]:
    return [
        {
            "key": judgement_key(f"Where is {number}?", ["Calder"], answer, "gemini", model),
            "verdict": WORDS[sign],
            "reason": None,
            "judge": "gemini",
            "model": model,
        }
        for (number, answer), sign in said.items()
    ]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, dict[str, list[str]]]:
    """The whole output, and the rows of its table by system."""
    command.main(arguments)
    out = capsys.readouterr().out
    return out, {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}


def test_the_rule_is_the_second_judge_where_none_is_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {(number, "the Calder"): "+" for number in range(3)}
    said |= {(4, "Brenn"): "+", (5, "kl_a"): "-", (5, "oracle"): "?"}
    write_rows("gemini.parquet", judged(said, "m1"), JUDGEMENTS)
    out, table = printed(capsys, "gemini.parquet")
    assert "First judge: gemini (m1)" in out and "Second judge: rule (exact_match)" in out
    assert "Correct by both 3, by the first alone 1, by the second alone 0, by neither 1." in out
    systems = len(load_params().runs) + len(CONTROLS)
    assert table["all"][1:3] == ["5", "80.0"] and table["all"][-1] == str(systems)  # question 3, and 5 but for kl
    assert table["kl_a"][1:3] == ["5", "80.0"] and table["kl_a"][-1] == "1"
    assert table["infonce_human"][1:3] == ["4", "75.0"] and table["infonce_human"][-1] == "2"
    assert set(table) >= {*load_params().runs, *CONTROLS}


def test_two_files_are_compared_and_kappa_may_be_undefined(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("one.parquet", judged({(0, "the Calder"): "+", (2, "the Calder"): "+"}, "m1"), JUDGEMENTS)
    write_rows("two.parquet", judged({(0, "the Calder"): "+", (4, "Brenn"): "-"}, "m2"), JUDGEMENTS)
    out, table = printed(capsys, "one.parquet", "two.parquet")
    assert "Second judge: gemini (m2)" in out
    assert table["all"][1:8] == ["1", "100.0", "undefined", "100.0", "-", "100.0", "100.0"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (prediction("kl_a", "Calder", "gone"), r"kl_a\.parquet: query_id 'gone' is not in data/prepared/test\.parquet"),
        (prediction("kl_a", None), r"kl_a\.parquet: query_id 'q0' has no answer"),
    ],
)
def test_predictions_that_cannot_be_compared_are_named(repository: Path, row: Row, message: str) -> None:
    write_rows("gemini.parquet", judged({(0, "the Calder"): "+"}, "m1"), JUDGEMENTS)
    write_rows(command.PREDICTED / "runs/kl_a.parquet", [row], PREDICTIONS)
    with pytest.raises(RecordError, match=message):
        command.main(["gemini.parquet"])
