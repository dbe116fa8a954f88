"""How often the lowest-loss candidate is not the one that people marked: by hand, ties, nothing to count."""

import pytest

from bitter_retrieval.labels.disagreement import disagreement


def found(*questions: tuple[list[float], list[int]]) -> dict:
    """The disagreement for losses and marks of each question's candidates."""
    rows, human, losses = [], [], {}
    for number, (of_query, marks) in enumerate(questions):
        query, passages = f"q{number}", [f"p{place}" for place in range(len(marks))]
        rows.append({"query_id": query, "passages": [{"passage_id": name, "role": None} for name in passages]})
        human += [
            {"query_id": query, "passage_id": p, "relevant": mark} for p, mark in zip(passages, marks, strict=True)
        ]
        losses[query] = dict(zip(passages, of_query, strict=False))
    return disagreement(rows, human, losses)


def test_disagreement_by_hand() -> None:
    made = found(
        ([0.5, 0.1, 0.9], [1, 0, 0]),
        ([0.2, 0.2 + 5e-7, 0.2, 0.7], [1, 1, 0, 0]),
        ([0.1, 0.2], [0, 0]),  # no relevant candidate
        ([0.3, 0.1], [0, 1]),
    )
    assert (made["questions"], made["left_out"], made["ties"], made["split"]) == (3, 1, 1, None)
    assert made["disagreement"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert made["chance"] == pytest.approx((2 / 3 + 2 / 4 + 1 / 2) / 3)


def test_losses_further_apart_than_a_tie_are_not_one() -> None:
    assert found(([0.2, 0.2 + 2e-6], [0, 1]))["disagreement"] == 1.0


@pytest.mark.parametrize("questions", [[], [([0.1], [0])], [([], [])]])
def test_disagreement_without_a_question_to_count(questions: list) -> None:
    made = found(*questions)
    assert (made["questions"], made["disagreement"], made["chance"]) == (0, None, None)


def test_a_candidate_without_a_loss_is_left_out() -> None:
    made = found(([0.3, 0.1], [1, 0, 0]), ([0.3], [0, 1]))
    assert (made["questions"], made["left_out"], made["disagreement"], made["chance"]) == (1, 1, 1.0, 0.5)
