"""Label sources without a model, each on rows small enough to label by eye."""

from collections import Counter

import pytest

from bitter_retrieval.labels.binary import has_answer_labels, selected_labels, truth_labels
from bitter_retrieval.records import Row


def question(name: str, answers: list[str], *candidates: tuple[str, int | None, str | None]) -> Row:
    """A prepared row with candidates of (text, is_selected, role)."""
    passages = [
        {"passage_id": f"{name}-p{place}", "text": text, "is_selected": selected, "role": role}
        for place, (text, selected, role) in enumerate(candidates)
    ]
    return {"query_id": name, "group_id": name, "query": "Where?", "answers": answers, "passages": passages}


def relevant(labels: list[Row]) -> list[str]:
    return [label["passage_id"] for label in labels if label["relevant"] == 1]


def test_truth_is_plain_and_hard() -> None:
    roles = ["plain", "other", "hard", "twin", "lure", "hedged", "mention", None]
    labels = truth_labels([question("q", ["x"], *(("It is x.", 1, role) for role in roles))])
    assert relevant(labels) == ["q-p0", "q-p2"]
    assert labels[1] == {"query_id": "q", "passage_id": "q-p1", "relevant": 0}


def test_one_true_support_is_drawn_at_random_for_each_question() -> None:
    roles = ["plain", "other", "hard", "hard"]
    rows = [question(f"q{number}", ["x"], *(("It is x.", 1, role) for role in roles)) for number in range(300)]
    drawn = relevant(labels := truth_labels(rows, "one", seed=4))
    assert len(labels) == 1200 and len(drawn) == 300  # one of every question
    counts = Counter(passage.split("-")[1] for passage in drawn)
    assert counts.keys() == {"p0", "p2", "p3"} and min(counts.values()) > 75
    assert relevant(truth_labels(rows[7:9], "one", seed=4)) == drawn[7:9]  # whatever the other questions
    assert relevant(truth_labels(rows, "one", seed=5)) != drawn


def test_a_question_without_support_has_none_to_draw() -> None:
    assert relevant(truth_labels([question("q", ["x"], ("x", 1, "mention"))], "one", seed=0)) == []


def test_selected_takes_the_mark_and_counts_none_as_not_selected() -> None:
    rows = [
        question("q", ["x"], ("x", 0, "plain"), ("y", 1, None), ("z", None, "plain")),
        question("r", ["x"], ("x", None, None)),
    ]
    labels = selected_labels(rows)
    assert relevant(labels) == ["q-p1"]
    assert [label["relevant"] for label in labels] == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("Cald", "Caldbury lies there.", False),  # no whole word
        ("bury", "Caldbury lies there.", False),
        ("caldbury", "In CALDBURY, they say.", True),
        ("the Calder Bridge", "She saw a Calder bridge.", True),  # articles and case do not count
        ("Calder Bridge", "The bridge at Calder.", False),  # order does
        ("Calder Bridge", "Calder. Bridge it was.", True),
        ("1,901", "It was 1901.", True),
        ("The", "The end.", False),  # nothing is left of the answer
        ("The", "The", False),
        ("Caldbury", "Caldbury", True),
        ("Caldbury", "", False),
    ],
)
def test_has_answer_looks_for_whole_words_after_normalising(answer: str, text: str, found: bool) -> None:
    assert relevant(has_answer_labels([question("q", [answer], (text, None, None))])) == ["q-p0"] * found


def test_has_answer_takes_any_reference_and_ignores_roles() -> None:
    row = question("q", ["red", "crimson"], ("It is crimson.", 0, "twin"), ("It is blue.", 1, "plain"))
    assert relevant(has_answer_labels([row])) == ["q-p0"]
