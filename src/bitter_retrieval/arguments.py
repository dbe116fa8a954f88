"""What the stages that also run outside DVC read from a command line; argparse prints what is wrong with it."""

from argparse import ArgumentTypeError

from bitter_retrieval.params import PROMPT, is_prompt


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"must be 1 or more, got {text}")
    return number


def prompt(text: str) -> str:
    if not is_prompt(text):
        raise ArgumentTypeError(f"must be {PROMPT}, got {text!r}")
    return text


def row_range(text: str) -> tuple[int, int | None]:
    """FIRST:LAST, LAST left out; either may be missing."""
    first, colon, last = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"write FIRST:LAST, such as 0:1000, got {text!r}")
    return int(first or 0), int(last) if last else None
