"""Label errors: a passage that does not truly support, by source."""

import pytest

from bitter_retrieval.labels.disagreement import disagreement, label_errors
from bitter_retrieval.labels.soft import passage_losses
from bitter_retrieval.records import Row

ROLES = (["plain", "other", "hard"], ["other", "plain", "other"], ["other", "other", "hard"])


def question(number: int, roles: list[str | None]) -> Row:
    passages = [
        {"passage_id": f"q{number}-{place}", "text": "", "is_selected": None, "role": role}
        for place, role in enumerate(roles)
    ]
    return {"query_id": f"q{number}", "group_id": "g", "query": "?", "answers": ["x"], "passages": passages}


def binary(*marks: str) -> tuple[list[Row], bool]:
    rows = [
        {"query_id": f"q{number}", "passage_id": f"q{number}-{place}", "relevant": int(mark == "+")}
        for number, found in enumerate(marks)
        for place, mark in enumerate(found)
    ]
    return rows, False


def soft(*losses: list[float]) -> tuple[list[Row], bool]:
    """The empty passage, which has the lowest loss of all, is none of the candidates."""
    rows = [
        {"query_id": f"q{number}", "passage_id": passage, "answer_index": 0, "nll_sum": loss, "n_tokens": 1}
        for number, found in enumerate(losses)
        for passage, loss in [("", 0.0), *((f"q{number}-{place}", loss) for place, loss in enumerate(found))]
    ]
    return rows, True


def test_a_source_is_wrong_where_its_passage_does_not_support() -> None:
    rows = [question(number, list(roles)) for number, roles in enumerate(ROLES)]
    sources = {
        "right": binary("+--", "-+-", "--+"),
        "once_wrong": binary("-+-", "-+-", "--+"),
        "two_marks": binary("++-", "-+-", "--+"),
        "one_question": binary("-+-", "---", "---"),
        "none": binary("---", "---", "---"),
        "soft": soft([1, 2, 3], [1, 2, 3], [3, 2, 1]),
        "tied": soft([1, 1, 3], [2, 1, 3], [1, 1, 1]),
    }
    assert label_errors(rows, sources) == {
        "right": 0,
        "once_wrong": pytest.approx(1 / 3),
        "two_marks": pytest.approx(1 / 6),
        "one_question": 1,
        "none": None,
        "soft": pytest.approx(1 / 3),
        "tied": pytest.approx((1 / 2 + 2 / 3) / 3),
    }


def test_it_is_the_share_that_disagreement_gives_of_two_sources() -> None:
    rows = [question(number, list(roles)) for number, roles in enumerate(ROLES)]
    human, reader = binary("-+-", "-+-", "--+"), soft([1, 1, 3], [1, 2, 3], [3, 2, 1])
    split = disagreement(rows, human[0], passage_losses(reader[0]))["split"]
    errors = label_errors(rows, {"human": human, "reader": reader})
    assert errors == pytest.approx({"human": split["annotators_wrong"], "reader": split["lowest_loss_wrong"]})


def test_nothing_is_said_where_support_is_unknown() -> None:
    assert label_errors([question(0, [None, None, None])], {"human": binary("+--")}) == {"human": None}
