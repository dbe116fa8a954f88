"""YAML as a tree of dataclasses: annotations define the legal values, and an error names the first illegal one.

    build(Train, {"schedule": "cosin", …}, "train")
    ParamsError: train.schedule: 'cosin' is none of cosine, linear, constant. Did you mean 'cosine'?

Supports dataclasses, str, int, float, bool, Literal, list, dict, X | None, Annotated with a Rule, and unions of
dataclasses that differ in a Literal field of the same name ("kind").
"""

import dataclasses
import math
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml


class ParamsError(ValueError):
    """Invalid params: file, dotted path, value and remedy."""


@dataclass(frozen=True)
class Rule:
    """A condition on values of the right type, and its words after 'must be'."""

    holds: Callable[[Any], bool]
    wanted: str


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice; PyYAML silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is written twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The nested dict of a YAML file. Raises ParamsError if it is absent, invalid, or no mapping of sections."""
    try:
        with open(path, encoding="utf-8") as file:
            tree = yaml.load(file, _Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file. `python src/use_profile.py default` writes params.yaml.") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: holds {tree!r}, not sections such as `data:` and `runs:`.")
    return tree


def build(kind: Any, value: Any, at: str) -> Any:
    """`value` as the annotated type `kind`. Raises ParamsError beginning with the dotted path `at`."""
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_section(kind, value, at)
    if origin is Annotated:
        return _build_ruled(args[0], args[1], value, at)
    if origin in (Union, types.UnionType):
        options = [option for option in args if option is not types.NoneType]
        if value is None and len(options) < len(args):
            return None
        return build(options[0], value, at) if len(options) == 1 else _build_kind(options, value, at)
    if origin is Literal:
        return one_of(value, args, at)
    if origin is dict:
        items = _checked(dict, value, at).items()
        return {build(args[0], key, at): build(args[1], item, _dot(at, key)) for key, item in items}
    if origin is list:
        return [build(args[0], item, f"{at}[{i}]") for i, item in enumerate(_checked(list, value, at))]
    return _checked(kind, float(value) if kind is float and type(value) is int else value, at)


def _build_kind(options: list[Any], value: Any, at: str) -> Any:
    """One of several dataclasses; null in a field that only another one has counts as left out."""
    tag, of_value = _by_tag(options)
    _checked(dict, value, at)
    if tag not in value:
        raise ParamsError(f"{_dot(at, tag)}: missing. It is one of {', '.join(of_value)}.")
    chosen = of_value[one_of(value[tag], of_value, _dot(at, tag))]
    named = f"{tag} {value[tag]}"
    own, others = _fields(chosen), {name for option in options for name in _fields(option)}
    for key in [key for key in value if key in others - own.keys()]:
        if value[key] is not None:
            raise ParamsError(f"{_dot(at, key)}: {named} does not use it; remove it.")
    meant = {key: item for key, item in value.items() if key in own or key not in others}
    return _build_section(chosen, meant, at, named)


def _by_tag(options: list[Any]) -> tuple[str, dict[str, Any]]:
    """The Literal field in which the dataclasses differ, and the dataclass by its value."""
    hints = [get_type_hints(option, include_extras=True) for option in options]
    tag = next(name for name in hints[0] if all(get_origin(hint.get(name)) is Literal for hint in hints))
    return tag, {value: option for option, hint in zip(options, hints, strict=True) for value in get_args(hint[tag])}


def _fields(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _build_section(kind: Any, value: Any, at: str, named: str = "") -> Any:
    """named: the kind, such as "kind mined", that errors name as needing the field."""
    fields = _fields(kind)
    for key in _checked(dict, value, at):
        if key not in fields:
            raise ParamsError(f"{_dot(at, key)}: unknown key.{nearest(key, fields)} Known: {', '.join(fields)}.")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING
        if required and (name not in value or (named and value[name] is None)):
            why = f"{named.capitalize()} needs it." if named else "profiles/default.yaml shows it and what it means."
            raise ParamsError(f"{_dot(at, name)}: missing. {why}")
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{name: build(hints[name], item, _dot(at, name)) for name, item in value.items()})


def _build_ruled(kind: Any, rule: Rule, value: Any, at: str) -> Any:
    built = build(kind, value, at)
    if not rule.holds(built):
        raise ParamsError(f"{at}: must be {rule.wanted}, got {value!r}.")
    return built


NOUNS = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
NOUNS |= {dict: "a mapping of keys to values", list: "a list"}


def _checked(kind: type, value: Any, at: str) -> Any:
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        got = f"{value!r} ({type(value).__name__})"
        raise ParamsError(f"{at}: must be {NOUNS[kind]}, got {got}.{_number_remedy(kind, value)}")
    return value


def _number_remedy(kind: type, value: Any) -> str:
    """How to write a number that YAML read as text: YAML 1.1 needs a dot and a sign, 1.0e-3."""
    try:
        number = kind(float(value)) if kind in (int, float) and type(value) is str else math.nan
    except (ValueError, OverflowError):
        return ""
    if not math.isfinite(number) or number != float(value):
        return ""
    return f" YAML reads it as text: write {yaml.safe_dump(number).split()[0]}, without quotes."


def one_of(value: Any, legal: Iterable[str], at: str) -> str:
    """`value`, which must be among `legal`. Raises ParamsError beginning with `at`."""
    if value not in (legal := list(legal)):
        raise ParamsError(f"{at}: {value!r} is none of {', '.join(legal) or '(nothing)'}.{nearest(value, legal)}")
    return value


def nearest(value: Any, legal: Iterable[str]) -> str:
    """The closest legal value as a sentence to append; "" if none is similar."""
    close = get_close_matches(str(value), list(legal), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _dot(at: str, key: Any) -> str:
    return f"{at}.{key}" if at else str(key)
