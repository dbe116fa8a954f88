"""Agreement of label sources against slow loops over pairs of candidates, and questions that cannot be compared."""

import math
from itertools import combinations

import numpy as np
import pytest

from bitter_retrieval.labels.disagreement import disagreement
from bitter_retrieval.labels.soft import passage_losses
from bitter_retrieval.records import Row
from bitter_retrieval.statistics.label_agreement import (
    ELSEWHERE,
    RANK,
    WORDS,
    SourceAgreement,
    source_agreements,
    strata,
)
from bitter_retrieval.statistics.statistics import Design

pytestmark = pytest.mark.filterwarnings("error")


def question(number: int, candidates: int = 4) -> Row:
    bare = {"text": "", "is_selected": None, "role": None}
    passages = [{"passage_id": f"q{number}-{place}", **bare} for place in range(candidates)]
    about = {"query_id": f"q{number}", "group_id": f"g{number // 2}", "query": "?", "answers": ["x"]}
    return {**about, "passages": passages}


def soft(*losses: list[float | None]) -> tuple[list[Row], bool]:
    """Soft labels from one list of losses per question; None: not scored. Without a passage, every loss is 0."""
    rows = [
        {
            "query_id": f"q{number}",
            "passage_id": "" if place == len(found) else f"q{number}-{place}",
            "answer_index": 0,
            "nll_sum": loss,
            "n_tokens": 1,
        }
        for number, found in enumerate(losses)
        for place, loss in enumerate([*found, 0.0])
    ]
    return rows, True


def binary(*marks: str) -> tuple[list[Row], bool]:
    """Binary labels from one text per question: + is relevant."""
    rows = [
        {"query_id": f"q{number}", "passage_id": f"q{number}-{place}", "relevant": int(mark == "+")}
        for number, found in enumerate(marks)
        for place, mark in enumerate(found)
    ]
    return rows, False


def compared(**sources: tuple[list[Row], bool]) -> SourceAgreement:
    rows = [question(number) for number in range(4)]
    (found,) = source_agreements(rows, sources, Design([row["group_id"] for row in rows], 1, 50, 0))
    return found


def slow_tau(one: list[float], other: list[float]) -> float:
    pairs = [(np.sign(a - b), np.sign(c - d)) for (a, c), (b, d) in combinations(zip(one, other, strict=True), 2)]
    untied = [sum(pair[which] != 0 for pair in pairs) for which in (0, 1)]
    return sum(a * b for a, b in pairs) / math.sqrt(untied[0] * untied[1])


def test_tau_equals_the_slow_loop_over_pairs_with_ties() -> None:
    one = [[0.1, 0.5, 0.5, 0.9], [0.2, 0.1, 0.3, 0.4], [2.0, 2.0, 2.0, 1.0], [0.4, 0.3, 0.2, 0.1]]
    other = [[0.2, 0.4, 0.6, 0.6], [0.2, 0.1, 0.3, 0.4], [0.5, 0.1, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4]]
    found = compared(a=soft(*one), b=soft(*other))
    taus = [slow_tau(*pair) for pair in zip(one, other, strict=True)]
    assert taus[1] == 1 and taus[3] == -1 and 0 < taus[0] < 1
    assert found.tau.mean == pytest.approx(np.mean(taus)) and found.questions == 4
    assert (found.first, found.second, found.few_candidates, found.tied) == ("a", "b", 0, 0)


def test_losses_closer_than_a_tie_are_one() -> None:
    near = [[0.1, 0.1 + 1e-7, 0.5, 0.9]] * 4
    level = [[0.1, 0.1, 0.5, 0.9]] * 4
    other = soft(*[[0.3, 0.2, 0.1, 0.4]] * 4)
    assert compared(a=soft(*near), b=other) == compared(a=soft(*level), b=other)


def test_best_passages_of_two_soft_sources_are_asked_for_both_ways() -> None:
    one = soft([1, 1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4], [1, 1, 2, 3])  # ties for the best in the first and the last
    other = soft([1, 2, 3, 4], [1, 2, 3, 4], [2, 1, 3, 4], [9, 9, 8, 9])
    found = compared(a=one, b=other)
    assert found.disagreement.mean == pytest.approx(((1 / 2 + 0) / 2 + 0 + 1 + 1) / 4)
    assert found.chance == pytest.approx((3 / 4 + 2 / 4 + 4 * 3 / 4 + 3 / 4 + 2 / 4) / 8)
    assert compared(a=other, b=one) == found


def test_a_soft_and_a_binary_source_disagree_as_disagreement_says() -> None:
    losses = [[1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]]
    marks = "+---", "++--", "++--", "-+++"
    found = compared(human=binary(*marks), reader=soft(*losses))
    assert (found.first, found.second, found.tau) == ("reader", "human", None)
    rows = [question(number) for number in range(4)]
    wanted = disagreement(rows, binary(*marks)[0], passage_losses(soft(*losses)[0]))
    assert found.disagreement.mean == pytest.approx(wanted["disagreement"]) == (0.5 + 0 + 1 + 1) / 4
    assert found.chance == pytest.approx(wanted["chance"])


def test_two_binary_sources() -> None:
    found = compared(human=binary("+---", "+---", "++--", "+---"), truth=binary("+---", "-+--", "+---", "++--"))
    assert found.disagreement.mean == pytest.approx((0 + 1 + (1 / 2 + 0) / 2 + (0 + 1 / 2) / 2) / 4)
    assert found.tau is None


def test_questions_that_cannot_be_compared_are_counted_and_left_out() -> None:
    rows = [question(0, candidates=1), question(1), question(2), question(3), question(4), question(5)]
    one = soft([0.1], [0.5, 0.5, 0.5, 0.5], [None, None, None, 0.1], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])
    other = soft([0.1], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, None], [0.7, 0.7, 0.7, 0.7])
    found = source_agreements(rows, {"a": one, "b": other}, Design([row["group_id"] for row in rows], 1, 50, 0))[0]
    assert (found.questions, found.few_candidates, found.tied) == (1, 3, 2)  # q5 has no label at all
    assert found.tau.mean == 1 and found.tau.n_questions == 1 and found.tau.n_missing == 5
    assert math.isnan(found.tau.low) and math.isnan(found.disagreement.high)  # one group


def test_a_source_that_marks_none_or_all_says_nothing() -> None:
    found = compared(human=binary("----", "++++", "----", "++++"), reader=soft(*[[1.0, 2.0, 3.0, 4.0]] * 4))
    assert (found.questions, found.tied) == (0, 4)
    assert math.isnan(found.disagreement.mean) and math.isnan(found.chance) and math.isnan(found.disagreement.low)


def test_every_two_sources_are_compared_once_soft_ones_first() -> None:
    labels = soft(*[[1.0, 2.0, 3.0, 4.0]] * 4)
    sources = {"human": binary(*["+---"] * 4), "a": labels, "truth": binary(*["+---"] * 4), "b": labels}
    rows = [question(number) for number in range(4)]
    found = source_agreements(rows, sources, Design([row["group_id"] for row in rows], 3, 50, 0))  # seeds do not matter
    pairs = [("a", "b"), ("a", "human"), ("a", "truth"), ("b", "human"), ("b", "truth"), ("human", "truth")]
    assert [(one.first, one.second) for one in found] == pairs
    assert all(one.disagreement.mean == 0 for one in found) and found[0].tau.mean == 1


# -- by kind of question ---------------------------------------------------------------------------------------------


def asked(number: int, query: str, answers: list[str], texts: list[str]) -> Row:
    row = question(number, len(texts)) | {"query": query, "answers": answers}
    return row | {"passages": [passage | {"text": text} for passage, text in zip(row["passages"], texts, strict=True)]}


def test_lowest_losses_by_kind_of_question() -> None:
    """The marked passage is first by BM25 and preferred; third by BM25 and not, as another holds the answer; level."""
    rows = [
        asked(0, "red goat", ["Ashby"], ["red goat Ashby", "a goat", "nothing here"]),
        asked(1, "blue hen", ["The Old Mill", "two"], ["nothing two", "blue hen two", "hen", "blue hen"]),
        asked(2, "green cow", ["x"], ["green", "cow"]),
    ]
    losses, _ = soft([1.0, 2.0, 3.0], [2.0, 1.0, 4.0, 3.0], [1.0, 1.0])
    marks, _ = binary("+--", "+---", "+-")
    found = strata(rows, losses, marks, Design([row["group_id"] for row in rows], 1, 50, 0))
    shares = [(one.by, one.kind, one.agreed.mean, one.agreed.n_questions, one.chance) for one in found]
    assert shares == [
        ("", "all", 0.5, 2, (1 / 3 + 1 / 4) / 2),
        (RANK, "1", 1.0, 1, 1 / 3),
        (RANK, "4 or more", 0.0, 1, 1 / 4),
        (WORDS, "1", 0.5, 2, (1 / 3 + 1 / 4) / 2),
        (ELSEWHERE, "no", 1.0, 1, 1 / 3),
        (ELSEWHERE, "yes", 0.0, 1, 1 / 4),
    ]
    assert found[0].answered.mean == 1.0 and math.isnan(found[1].answered.mean)


def test_no_kinds_without_questions_that_can_be_compared() -> None:
    rows = [question(0)]
    assert strata(rows, soft([1.0] * 4)[0], binary("+---")[0], Design(["g0"], 1, 50, 0)) == []
