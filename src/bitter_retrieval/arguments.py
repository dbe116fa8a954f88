"""What stages read from a command line; argparse prints what is wrong with it.

name, settings = named("readers", load_params().readers)      python src/reader.py reader_a
"""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from typing import TypeVar

from bitter_retrieval.readers.settings import PROMPT, is_prompt
from bitter_retrieval.typed_yaml import one_of

Entry = TypeVar("Entry")


def named(section: str, entries: Mapping[str, Entry]) -> tuple[str, Entry]:
    """The entry of params.yaml that the one argument of a stage names. Raises ParamsError where there is none."""
    parser = ArgumentParser()
    parser.add_argument("name", help=f"one of {section} in params.yaml: {', '.join(entries)}")
    name = one_of(parser.parse_args().name, entries, f"params.yaml: {section}")
    return name, entries[name]


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
