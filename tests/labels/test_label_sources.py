"""Label sources without a model, each on rows small enough to label by eye."""

from collections import Counter

import pytest

from bitter_retrieval.labels.binary import has_answer_labels, permuted_labels, selected_labels, truth_labels
from bitter_retrieval.records import NO_PASSAGE, Row


def question(name: str, answers: list[str], *candidates: tuple[str, int | None, str | None]) -> Row:
    """A prepared row with candidates of (text, is_selected, role)."""
    passages = [
        {"passage_id": f"{name}-p{place}", "text": text, "is_selected": selected, "role": role}
        for place, (text, selected, role) in enumerate(candidates)
    ]
    return {"query_id": name, "group_id": name, "query": "Where?", "answers": answers, "passages": passages}


def relevant(labels: list[Row]) -> list[str]:
    return [label["passage_id"] for label in labels if label["relevant"] == 1]


def soft(query: str, passage: str, loss: float, index: int = 0) -> Row:
    return {"query_id": query, "passage_id": passage, "answer_index": index, "nll_sum": loss, "n_tokens": 2}


def test_truth_is_plain_and_hard() -> None:
    roles = ["plain", "other", "hard", "twin", "lure", "hedged", "mention", None]
    labels = truth_labels([question("q", ["x"], *(("It is x.", 1, role) for role in roles))])
    assert relevant(labels) == ["q-p0", "q-p2"]
    assert labels[1] == {"query_id": "q", "passage_id": "q-p1", "relevant": 0}


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


@pytest.fixture
def labels() -> list[Row]:
    """Two queries, six passages each and none at all, two references; every loss is unique."""
    passages = [NO_PASSAGE, "p0", "p1", "p2", "p3", "p4", "p5"]
    keys = [(query, passage, index) for query in ("q", "r") for passage in passages for index in (0, 1)]
    return [soft(query, passage, float(place), index) for place, (query, passage, index) in enumerate(keys)]


def by_passage(labels: list[Row]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for label in sorted(labels, key=lambda label: label["answer_index"]):
        found.setdefault((label["query_id"], label["passage_id"]), []).append(label["nll_sum"])
    return found


def test_permuting_moves_losses_between_the_passages_of_a_query(labels: list[Row]) -> None:
    before, after = by_passage(labels), by_passage(permuted_labels(labels, seed=0))
    assert before.keys() == after.keys()
    for query in ("q", "r"):
        old, new = ([losses for (q, _), losses in found.items() if q == query] for found in (before, after))
        assert sorted(old) == sorted(new) and old != new  # the losses of all references move together
        assert before[query, NO_PASSAGE] == after[query, NO_PASSAGE]


def test_permuting_is_uniform_differs_by_query_and_is_repeatable(labels: list[Row]) -> None:
    assert permuted_labels(labels, seed=3) == permuted_labels(labels, seed=3)
    gets: Counter[float] = Counter()
    alike = 0
    for seed in range(300):
        found = by_passage(permuted_labels(labels, seed))
        gets[found["q", "p0"][0]] += 1
        alike += all(found["r", p][0] - found["q", p][0] == 14 for p in ("p0", "p1", "p2", "p3", "p4", "p5"))
    assert set(gets) == {2, 4, 6, 8, 10, 12} and max(gets.values()) < 80 and alike < 5


def test_permuting_leaves_its_input_as_it_was(labels: list[Row]) -> None:
    copy = [dict(label) for label in labels]
    permuted_labels(labels, seed=0)
    assert labels == copy
