"""A run in two revisions: pairs of questions and seeds, what is left out, and what cannot be paired."""

from collections.abc import Sequence
from typing import Any

import comparison_world as world
import numpy as np
import pytest

from bitter_retrieval.statistics.statistics import Design
from bitter_retrieval.studies.experiments import ExperimentError
from bitter_retrieval.studies.pairs import Answers, paired
from bitter_retrieval.studies.revisions import Revision

ABOUT = {"split": "test", "reader": "reader_a", "shown": [1], "draws": 200, "seed": 0, "equivalence": 0.02}
SCORES = {"first": [[1, 0, 1, 0], [1, 0, 0, 0]], "more": [[1, 1, 1, 0], [1, 1, 0, 1]], "less": [[0, 0, 1, 0]] * 2}


def answers(name: str, seeds: Sequence[int] = (0, 1), params: dict[str, Any] | None = None, **about: Any) -> Answers:
    revision = Revision(name, None, "done", params or {"data": {"seed": 0}}, "default", {"about": ABOUT | about})
    scores = np.array(SCORES[name], dtype=np.float64)[: len(seeds)]
    return Answers(revision, seeds, world.prepared(), scores, {"corpus": "a"})


def without(one: Answers, place: int) -> Answers:
    questions = [row for number, row in enumerate(one.questions) if number != place]
    return Answers(one.revision, one.seeds, questions, np.delete(one.scores, place, 1), one.others)


def asking(one: Answers, **changes: Any) -> Answers:
    """The second question is another one."""
    questions = [row | changes if row["query_id"] == "q1" else row for row in one.questions]
    return Answers(one.revision, one.seeds, questions, one.scores, one.others)


def direct(*changes: Sequence[Any]) -> Any:
    """Differences by the statistics themselves."""
    first = np.array(SCORES["first"], dtype=np.float64)
    pairs = {str(number): (np.array(scores, dtype=np.float64), first) for number, scores in enumerate(changes)}
    return list(Design(world.GROUPS, 2, 200, 0).differences(pairs, 0.02).values())


def test_differences_are_simultaneous_ones_to_the_first() -> None:
    found = paired(answers("first"), [answers("more"), answers("less")])
    assert [found[name].difference for name in ("more", "less")] == direct(SCORES["more"], SCORES["less"])
    assert found["more"].difference.mean == 3 / 8 and found["less"].difference.mean == -1 / 8
    assert [(pair.questions, pair.notes) for pair in found.values()] == [(4, [])] * 2


def test_the_order_of_the_questions_is_of_no_matter() -> None:
    more = answers("more")
    turned = Answers(more.revision, more.seeds, more.questions[::-1], more.scores[:, ::-1], more.others)
    assert paired(answers("first"), [turned])["more"].difference == direct(SCORES["more"])[0]


def test_questions_of_one_of_the_two_are_counted_and_left_out() -> None:
    pair = paired(answers("first"), [without(answers("more"), 1)])["more"]
    assert pair.difference.mean == 1 / 6 and pair.difference.n_missing == 2
    assert (pair.questions, pair.notes) == (3, ["1 questions of first are not in more: left out"])
    pair = paired(without(answers("first"), 1), [answers("more")])["more"]
    assert pair.difference.mean == 1 / 6 and pair.difference.n_missing == 0
    assert (pair.questions, pair.notes) == (3, ["1 questions of more are not in first: left out"])


def test_seeds_are_paired_by_number_else_in_order() -> None:
    pair = paired(answers("first", seeds=(4, 5)), [answers("more", seeds=(5, 6))])["more"]
    assert pair.difference.mean == 1 / 2, "seed 5: a row of more minus another of first"
    assert pair.notes == [
        f"1 seeds of {one} are not in {two}: left out" for one, two in (("first", "more"), ("more", "first"))
    ]
    pair = paired(answers("first"), [answers("more", seeds=(8, 9))])["more"]
    assert pair.difference == direct(SCORES["more"])[0]
    assert pair.notes == ["seeds 0, 1 and 8, 9 are paired in this order"]
    with pytest.raises(ExperimentError, match="first and more: seeds 0, 1 and 8, none in both and not as many"):
        paired(answers("first"), [answers("more", seeds=(8,))])


def test_what_else_differs_is_told() -> None:
    other = asking(answers("more"), passages=[])
    other = Answers(other.revision, other.seeds, other.questions, other.scores, {"corpus": "b"})
    other.scores[0, 0] = np.nan
    assert paired(answers("first"), [other])["more"].notes == [
        "1 pairs (question and seed) lack a score in one of them: left out",
        "1 of the questions have other candidates",
        "corpus differs",
    ]


@pytest.mark.parametrize("changed", [{"query": "Who?"}, {"answers": ["Oskal"]}, {"group_id": "g1"}])
def test_other_questions_are_refused(changed: dict[str, Any]) -> None:
    (field,), more = changed, answers("more", params={"data": {"seed": 7}})
    said = rf"first and more: {field} of question 'q1' is .* in first and .* in more. .* \(differs: data.seed=7\)"
    with pytest.raises(ExperimentError, match=said):
        paired(answers("first"), [asking(more, **changed)])
    elsewhere = [row | {"query_id": f"x{row['query_id']}"} for row in more.questions]
    with pytest.raises(ExperimentError, match=r"no question is in both \(differs: data.seed=7\)"):
        paired(answers("first"), [Answers(more.revision, more.seeds, elsewhere, more.scores, more.others)])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"split": "validation"}, "split is test in first and validation in more"),
        ({"reader": "reader_b"}, "reader is reader_a in first and reader_b in more"),
        ({"shown": [5, 1]}, "passages shown is 1 in first and 5 in more"),
    ],
)
def test_other_answers_are_refused(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        paired(answers("first"), [answers("more", **setting)])
    assert paired(answers("first"), [answers("more", shown=[1, 5])]).keys() == {"more"}
