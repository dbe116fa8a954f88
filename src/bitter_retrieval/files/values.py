"""Values of a record, checked: texts, ids and reference answers; anything else is refused with its place.

    identifier(1185, "query_id", place)                                           "1185"
    given(answers(["the Vistula ", "", "No Answer Present."], place))             ["the Vistula"]
    text(None, "query", place)      data.jsonl, line 3: query should be text, is None. Correct the row.

`place` is what messages begin with: a Place (tables.py), or a file.
"""

from typing import Any

NO_ANSWER = "No Answer Present."  # MS MARCO's mark of a question that its passages do not answer


class DataFileError(ValueError):
    """A file or row that cannot be used: names where, the value and the remedy."""


def text(value: Any, name: str, place: object) -> str:
    """The text without blanks around it, which may be empty."""
    try:
        value.encode()  # lone surrogates, which JSON can spell, would only fail in the tokenizer
        return value.strip()
    except (AttributeError, UnicodeError):
        raise refusal(name, "text", value, place) from None


def identifier(value: Any, name: str, place: object) -> str | None:
    """An id as a string; None where there is none."""
    if value is None or (isinstance(value, str) and text(value, name, place)):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise refusal(name, "text or a whole number", value, place)


def answers(value: Any, place: object) -> list[str]:
    """Reference answers from a list, one text or nothing."""
    if not isinstance(value, str | list | None):
        raise refusal("answers", "a list of texts or one text", value, place)
    found = [value] if isinstance(value, str) else value or []
    return [text(answer, f"answer {number}", place) for number, answer in enumerate(found, 1)]


def given(references: list[str]) -> list[str]:
    """Those that answer."""
    return [answer for answer in references if answer not in ("", NO_ANSWER)]


def refusal(name: str, wanted: str, value: Any, place: object) -> DataFileError:
    return DataFileError(f"{place}: {name} should be {wanted}, is {short(value)}. Correct the row.")


def short(value: Any) -> str:
    return repr(value)[:80]
