"""Checked values of a record: texts, ids and reference answers. Other values are refused with their place.

    identifier(1185, "query_id", place)                                           "1185"
    given(answers(["the Vistula ", "", "No Answer Present."], place))             ["the Vistula"]
    text(None, "query", place)      data.jsonl, line 3: query should be text, is None. Correct the row.

Messages begin with `place`: a Place (tables.py) or a file.
"""

import re
from collections.abc import Mapping
from typing import Any

LIST = re.compile(r"""\s*(\[\s*(['"].*['"]|[-+\d.,\s]*)\s*\]|\{\s*['"].*\})\s*""", re.DOTALL)  # written as a text
NEGATIVE = re.compile(r"negatives?|negative_\d+")
NO_ANSWER = "No Answer Present."  # MS MARCO's mark for a question that its passages do not answer


class DataFileError(ValueError):
    """A file or row that cannot be used; the message has the place, the value and the remedy."""


def text(value: Any, name: str, place: object) -> str:
    """The text without surrounding whitespace; it may be empty."""
    try:
        value.encode()  # JSON can hold lone surrogates, which would fail only later, in the tokenizer
        return value.strip()
    except (AttributeError, UnicodeError):
        raise refusal(name, "text", value, place) from None


def identifier(value: Any, name: str, place: object) -> str | None:
    """An id as a string; None if absent."""
    if value is None or (isinstance(value, str) and text(value, name, place)):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise refusal(name, "text or a whole number", value, place)


def flag(value: Any, name: str, place: object) -> bool | None:
    """True or false, also as 1 or 0; None if absent."""
    if value is not None and value not in (0, 1):
        raise refusal(name, "true or false", value, place)
    return None if value is None else bool(value)


def single(value: Any, name: str, place: object) -> Any:
    """The value, unless it is a list or an object that was written as a text: "['x', 'y']", "[]", '{"text": …}'."""
    if isinstance(value, str) and LIST.fullmatch(value):
        wanted = "a list and not the text of one (a text that has these brackets itself goes into a list)"
        raise refusal(name, wanted, value, place)
    return value


def answers(value: Any, place: object) -> list[str]:
    """Reference answers from a list, a single text or nothing."""
    if not isinstance(value, str | list | None):
        raise refusal("answers", "a list of texts or one text", value, place)
    found = [single(value, "answers", place)] if isinstance(value, str) else value or []
    return [text(answer, f"answer {number}", place) for number, answer in enumerate(found, 1)]


def negatives(record: Mapping[str, Any]) -> list[Any]:
    """Values of sentence-transformers' columns negative, negative_1, … in their order, lists one by one; no nulls."""
    named = [value for key, value in record.items() if NEGATIVE.fullmatch(key)]
    found = [item for value in named for item in (value if isinstance(value, list) else [value])]
    return [item for item in found if item is not None]


def given(references: list[str]) -> list[str]:
    """The references that answer: neither empty nor NO_ANSWER."""
    return [answer for answer in references if answer not in ("", NO_ANSWER)]


def refusal(name: str, wanted: str, value: Any, place: object) -> DataFileError:
    return DataFileError(f"{place}: {name} should be {wanted}, is {short(value)}. Correct the row.")


def short(value: Any) -> str:
    return repr(value)[:80]
