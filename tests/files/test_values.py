"""Values of a record: accepted ones and their result, refused ones and their place."""

from collections.abc import Callable
from typing import Any

import pytest

from bitter_retrieval.files.values import DataFileError, answers, flag, given, identifier, single, text


def test_values_that_are_meant() -> None:
    assert (text(" A. ", "text", "here"), text(" ", "text", "here")) == ("A.", "")
    assert [identifier(value, "id", "here") for value in ("a", 7, None)] == ["a", "7", None]
    assert [answers(value, "here") for value in ("a ", ["a", " "], None)] == [["a"], ["a", ""], []]
    assert [flag(value, "f", "here") for value in (True, 0, None, 1.0)] == [True, False, None, True]
    assert answers("[sic] x", "here") == ["[sic] x"] and answers(["[1]", "[]"], "here") == ["[1]", "[]"]
    assert single(["a"], "n", "here") == ["a"] and single("f(x) = {1, 2}[0]", "n", "here") == "f(x) = {1, 2}[0]"
    assert given(["", "a", "No Answer Present.", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("check", "value", "said"),
    [
        (lambda value: text(value, "query", "f, line 2"), None, "query should be text, is None"),
        (lambda value: text(value, "query", "f, line 2"), "\ud800", r"query should be text, is '\ud800'"),
        (lambda value: identifier(value, "id", "f, line 2"), True, "id should be text or a whole number, is True"),
        (lambda value: identifier(value, "id", "f, line 2"), " ", "id should be text or a whole number, is ' '"),
        (lambda value: answers(value, "f, line 2"), 3, "answers should be a list of texts or one text, is 3"),
        (lambda value: answers(value, "f, line 2"), ["a", None], "answer 2 should be text, is None"),
        (lambda value: text(value, "query", "f, line 2"), ["x" * 99], f"is ['{'x' * 78}. Correct the row."),
    ],
)
def test_other_values_are_refused_with_their_place(check: Callable[[Any], Any], value: Any, said: str) -> None:
    with pytest.raises(DataFileError) as caught:
        check(value)
    assert str(caught.value).startswith("f, line 2: ") and said in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["[]", " [ ] ", "['x', 'y']", '["x"]', "['x' 'y']", "[1912]", "[1.5, 2]", "{'text': ['x']}", "['it\\'s\\n']"],
)
def test_a_list_that_is_a_text_is_no_answer(value: str) -> None:
    with pytest.raises(DataFileError, match=r"f, line 2: answers should be a list and not the text of one.*Correct"):
        answers(value, "f, line 2")


@pytest.mark.parametrize("value", ["false", "true", "0", "1", "", 2, -1, [0], {}])
def test_a_flag_that_is_a_text_is_no_flag(value: Any) -> None:
    with pytest.raises(DataFileError, match="f, line 2: isgold should be true or false, is"):
        flag(value, "isgold", "f, line 2")
