"""Prompts: a passage has its own place, and texts that look like a template are left as they are."""

import pytest

from bitter_retrieval.readers.prompts import Prompt, answer_text, join_passages

TEMPLATE = "Question: {query}\nContext: {passage}\nAnswer:"


def test_parts_around_the_passage() -> None:
    assert Prompt(TEMPLATE).parts("Where?") == ("Question: Where?\nContext: ", "\nAnswer:")
    assert Prompt("{passage}\n{query}\nAnswer:").parts("Where?") == ("", "\nWhere?\nAnswer:")


@pytest.mark.parametrize("query", ["What is {passage}?", "What is {query}?", "What is {0} or \\1 or %s?", "{"])
def test_a_query_is_never_read_as_a_template(query: str) -> None:
    assert Prompt(TEMPLATE).parts(query) == (f"Question: {query}\nContext: ", "\nAnswer:")


def test_an_answer_follows_after_one_space() -> None:
    assert [answer_text(answer) for answer in ("Caldbury", " Caldbury", "Old Crowby \n")] == [
        " Caldbury",
        " Caldbury",
        " Old Crowby",
    ]


def test_passages_stand_in_the_order_given() -> None:
    assert join_passages(["B.", "A."]) == "B.\nA." and join_passages(["B."]) == "B." and join_passages([]) == ""
