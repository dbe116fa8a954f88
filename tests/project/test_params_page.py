"""docs/params.md against the dataclasses: every field, with its type and default.

The page has a table a section; a field of one kind alone names the kind in its default:

    ### `data.limits`

    | field | type | default | |
    |---|---|---|---|
    | `reader` | whole number 0 or more | `0` | questions taken from train's for models that are fitted here |
"""

import dataclasses
import json
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from bitter_retrieval.params import Params
from bitter_retrieval.typed_yaml import Rule

PAGE = Path(__file__).parents[2] / "docs/params.md"
NOUNS = {int: "whole number", float: "number", bool: "true or false", str: "text", types.NoneType: "null"}

Table = dict[str, tuple[str, str]]  # type and default by field


@dataclass
class Limits:
    reader: Annotated[int, Rule(lambda number: number >= 0, "0 or more")] = 0
    train: int | None = None


@dataclass
class Squad:
    source: Literal["squad"]
    seed: int
    limits: Limits | None = None


@dataclass
class Own:
    source: Literal["jsonl", "msmarco"]
    seed: int
    share: float


@dataclass
class Named:
    stop: list[str]
    chat: bool = False
    worked: Annotated[list[Limits], "at least one"] | None = None


@dataclass
class Example:
    data: Squad | Own
    beyond: Squad | Own | None
    named: dict[str, Named]


def tables(kind: Any, at: str = "", shown: dict[Any, str] | None = None) -> Iterator[tuple[str, Table]]:
    """By dotted path, the table of every dataclass (or union of them) below `kind`, each at its first place."""
    shown = {} if shown is None else shown
    table: Table = {}
    deeper: list[tuple[Any, str]] = []
    for name, variants in fields_of(kind).items():
        hint = merged([hint for hint, _, _ in variants])
        below, path = section(listed(hint)), ".".join(part for part in (at, name) if part)
        path += ".<name>" if get_origin(hint) is dict else ""
        if below and below not in shown:
            shown[below] = path
            deeper.append((below, path))
        table[name] = (typed(variants, hint, shown), default(variants, kinds(kind)))
    yield at, table
    for below, path in deeper:
        yield from tables(below, path, shown)


def kinds(hint: Any) -> list[type]:
    """The dataclasses that a value of this annotation may be."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else [hint]
    return [part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)]


def tags(kind: Any) -> list[str]:
    """The kinds of a dataclass of a union: the values of its field kind or source."""
    hints = get_type_hints(kind)
    return [value for name in ("kind", "source") if name in hints for value in get_args(hints[name])]


def fields_of(kind: Any) -> dict[str, list[tuple[Any, Any, Any]]]:
    """By field, its annotation, its default and the dataclass, of each dataclass that has it."""
    found: dict[str, list[tuple[Any, Any, Any]]] = {}
    for part in kinds(kind):
        hints = get_type_hints(part, include_extras=True)
        for field in dataclasses.fields(part):
            found.setdefault(field.name, []).append((hints[field.name], field.default, part))
    return found


def merged(hints: list[Any]) -> Any:
    """One annotation for a field that several kinds have: Literals together, the others without | None."""
    if all(get_origin(hint) is Literal for hint in hints):
        return Literal[tuple(value for hint in hints for value in get_args(hint))]
    return min(hints, key=lambda hint: get_origin(hint) in (Union, types.UnionType))


def listed(hint: Any) -> Any:
    """The annotation of a list's items; any other annotation as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        return reduce(or_, (listed(part) for part in get_args(hint)))
    if get_origin(hint) is Annotated:
        return listed(get_args(hint)[0]) if get_origin(get_args(hint)[0]) is list else hint
    return get_args(hint)[0] if get_origin(hint) is list else hint


def section(hint: Any) -> Any:
    """The dataclass or union of dataclasses that a field holds, or holds by name; None if it holds a value."""
    parts = kinds(get_args(hint)[1] if get_origin(hint) is dict else hint)
    return reduce(or_, parts) if parts else None


def words(hint: Any, shown: dict[Any, str]) -> str:
    origin, args = get_origin(hint), get_args(hint)
    below = section(hint)
    if below is not None:
        null = " or null" if types.NoneType in args else ""
        return f"section `{shown[below]}`{null}"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is Annotated:
        inner = words(args[0], shown)
        return f"{inner} {args[1].wanted}" if args[0] in (int, float) else inner
    if origin is list:
        return f"list: {words(args[0], shown)}"
    if origin is dict:
        return f"by name: {words(args[1], shown)}"
    return " or ".join(words(arg, shown) for arg in args) if args else NOUNS[hint]


def typed(variants: list[tuple[Any, Any, Any]], hint: Any, shown: dict[Any, str]) -> str:
    """The type of a field; where kinds have numbers of other limits, each with its kinds."""
    found: dict[str, list[str]] = {}
    for one, _, kind in variants:
        found.setdefault(words(one, shown), []).extend(tags(kind))
    if len(found) == 1 or any(get_origin(one) is not Annotated for one, _, _ in variants):
        return words(hint, shown)
    return "; ".join(f"{said} ({', '.join(of)})" for said, of in found.items())


def default(variants: list[tuple[Any, Any, Any]], all_kinds: list[Any]) -> str:
    """`needed` or a value, with the kinds if they differ or some lack the field."""
    found: dict[str, list[str]] = {}
    for _, value, kind in variants:
        said = "needed" if value is dataclasses.MISSING else f"`{yaml_of(value)}`"
        found.setdefault(said, []).extend(tags(kind))
    if len(found) == 1 and len(variants) == len(all_kinds):
        return next(iter(found))
    return "; ".join(f"{said} ({', '.join(of)})" for said, of in found.items())


def yaml_of(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value or '""' if isinstance(value, str) else json.dumps(value)


def written() -> dict[str, Table]:
    """The tables of the page."""
    found: dict[str, Table] = {}
    at = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#+ `(\S+)`$", line):
            at = heading[1]
        elif row := re.match(r"\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", line):
            found.setdefault(at, {})[row[1]] = (row[2], row[3])
    return found


def test_the_page_has_every_field_with_its_type_and_default() -> None:
    page, code = written(), dict(tables(Params))
    sections = code.pop("")
    assert sections.keys() == {path.split(".")[0] for path in page} | {"beyond"}, "beyond is as data"
    assert list(page) == list(code)
    for path, table in code.items():
        assert page[path] == table, path


def test_fields_types_and_defaults_are_read_from_dataclasses() -> None:
    assert dict(tables(Example)) == {
        "": {
            "data": ("section `data`", "needed"),
            "beyond": ("section `data` or null", "needed"),
            "named": ("section `named.<name>`", "needed"),
        },
        "data": {
            "source": ("`squad`, `jsonl`, `msmarco`", "needed"),
            "seed": ("whole number", "needed"),
            "limits": ("section `data.limits` or null", "`null` (squad)"),
            "share": ("number", "needed (jsonl, msmarco)"),
        },
        "data.limits": {
            "reader": ("whole number 0 or more", "`0`"),
            "train": ("whole number or null", "`null`"),
        },
        "named.<name>": {
            "stop": ("list: text", "needed"),
            "chat": ("true or false", "`false`"),
            "worked": ("list: section `data.limits` or null", "`null`"),
        },
    }
