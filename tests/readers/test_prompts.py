"""Prompts: a passage has its own place, and texts that look like a template are left as they are."""

import pytest

from bitter_retrieval.readers.prompts import Context, Example, Prompt, answer_text, fair_shares

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
    assert Prompt(TEMPLATE).join(("B.", "A.")) == "B.\nA."


EXAMPLES = (Example("Ashby is a town.", "What is Ashby?", "a town"), Example("", "Who is Dorin?", " nobody "))


def test_worked_examples_have_the_form_of_the_question() -> None:
    prompt = Prompt(TEMPLATE, EXAMPLES)
    assert prompt.worked == (
        "Question: What is Ashby?\nContext: Ashby is a town.\nAnswer: a town\n\n"
        "Question: Who is Dorin?\nContext: \nAnswer: nobody\n\n"
    )
    assert prompt.ask("Where?", "Here.") == Prompt(TEMPLATE).ask("Where?", "Here.")
    assert Prompt(TEMPLATE).worked == ""


def test_several_passages_are_written_as_the_prompt_says() -> None:
    assert Prompt(TEMPLATE).join(("one.", "two.")) == "one.\ntwo."
    assert Prompt(TEMPLATE, several="[{number}] {passage} ").join(("one.", "two.")) == "[1] one. [2] two."
    assert Prompt(TEMPLATE, several="{passage}\n\n").join(("one.", "two.", "three.")) == "one.\n\ntwo.\n\nthree."


@pytest.mark.parametrize("shown", ["", "one. ", (), ("one. ",)])
def test_one_passage_or_none_is_shown_as_it_is(shown: Context) -> None:
    assert Prompt(TEMPLATE, several="[{number}] {passage}\n").join(shown) == "".join(shown)


def test_braces_in_a_passage_are_text() -> None:
    assert Prompt(TEMPLATE, several="{number}: {passage} ").join(("{number} {passage}", "x")) == (
        "1: {number} {passage} 2: x"
    )


@pytest.mark.parametrize(
    ("lengths", "total", "shares"),
    [
        ([5, 5, 5], 15, [5, 5, 5]),
        ([10, 10], 9, [4, 5]),
        ([2, 10, 30], 22, [2, 10, 10]),
        ([30, 2, 10], 12, [5, 2, 5]),
        ([3, 3], 0, [0, 0]),
        ([7], 4, [4]),
        ([], 4, []),
    ],
)
def test_fair_shares(lengths: list[int], total: int, shares: list[int]) -> None:
    assert fair_shares(lengths, total) == shares
