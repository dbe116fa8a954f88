"""Soft labels made from another source's: permuted, flat and noisy."""

from collections import Counter

import numpy as np
import pytest

from bitter_retrieval.labels.altered import flat_labels, noisy_labels, permuted_labels
from bitter_retrieval.records import NO_PASSAGE, Row


def soft(query: str, passage: str, loss: float, index: int = 0) -> Row:
    return {"query_id": query, "passage_id": passage, "answer_index": index, "nll_sum": loss, "n_tokens": 2}


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


def test_altering_leaves_its_input_as_it_was(labels: list[Row]) -> None:
    copy = [dict(label) for label in labels]
    permuted_labels(labels, seed=0), flat_labels(labels), noisy_labels(labels, 1.0, seed=0)
    assert labels == copy


def test_flat_losses_are_the_mean_of_a_question_by_reference(labels: list[Row]) -> None:
    unknown = soft("q", "p6", 0.0) | {"nll_sum": None, "n_tokens": None}
    before, after = by_passage(labels), by_passage(flat_labels([*labels, unknown]))
    for query in ("q", "r"):
        mean = np.mean([losses for (q, p), losses in before.items() if q == query and p != NO_PASSAGE], axis=0)
        found = {p: losses for (q, p), losses in after.items() if q == query}
        assert found.pop(NO_PASSAGE) == before[query, NO_PASSAGE]
        assert found.pop("p6", [None]) == [None]  # a missing label stays missing
        assert all(losses == pytest.approx(mean) for losses in found.values()) and len(found) == 6


def errors(noise: float, seed: int = 0, loss: float = 1000.0) -> np.ndarray:
    """[2000] errors in nats a token of losses that are too high to be reflected."""
    labels = [soft(f"q{number}", "p", loss) for number in range(2000)]
    return np.array([label["nll_sum"] - loss for label in noisy_labels(labels, noise, seed)]) / 2


def test_errors_have_the_deviation_that_is_asked_for_and_are_nested() -> None:
    half = errors(0.5)
    assert half.std() == pytest.approx(0.5, rel=0.05) and abs(half.mean()) < 0.04
    assert abs(np.mean(half**4) / half.var() ** 2 - 3) < 0.4  # normal
    np.testing.assert_allclose(errors(1.5), 3 * half, rtol=1e-9, atol=1e-9)
    assert not errors(0.0).any()
    assert abs(np.corrcoef(half, errors(0.5, seed=1))[0, 1]) < 0.1


def test_an_error_is_of_a_passage_not_of_a_reference_and_spares_no_passage(labels: list[Row]) -> None:
    far = [label | {"nll_sum": label["nll_sum"] + 100} for label in labels]
    before, after = by_passage(far), by_passage(noisy_labels(far, 1.0, seed=0))
    moved = {key: np.subtract(after[key], before[key]) for key in before}
    assert all(first == pytest.approx(second) for first, second in moved.values())
    assert not moved["q", NO_PASSAGE].any()
    assert len({round(first, 9) for first, _ in moved.values()}) == 13  # twelve passages, and nothing for no passage
    alone = noisy_labels(far[:4], 1.0, seed=0)
    assert alone == noisy_labels(far, 1.0, seed=0)[:4]  # whatever the other passages


def test_losses_are_never_negative_and_do_not_tie() -> None:
    labels = [soft("q", f"p{number}", 0.1) for number in range(500)] + [soft("q", "null", 0) | {"nll_sum": None}]
    found = [label["nll_sum"] for label in noisy_labels(labels, 2.0, seed=0)]
    assert found.pop() is None and min(found) > 0 and len(set(found)) == 500


def test_an_error_of_labels_without_token_counts_is_of_their_means() -> None:
    given = [soft("q", "p", 100.0) | {"n_tokens": tokens} for tokens in (None, 1, 4)]
    one, same, four = (label["nll_sum"] - 100 for label in noisy_labels(given, 1.0, seed=0))
    assert one == same and four == pytest.approx(4 * one)
