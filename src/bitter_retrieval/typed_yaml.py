"""YAML as a tree of dataclasses: annotations define the legal values, and an error names the first illegal one.

    build(Train, {"schedule": "cosin", …}, "train")
    ParamsError: train.schedule: 'cosin' is none of cosine, linear, constant. Did you mean 'cosine'?

Supports dataclasses, str, int, float, bool, Literal, list, dict, X | None, Annotated with a Rule, and unions of
dataclasses that differ in a Literal field of the same name ("kind").

YAML is read and written as DVC does it, by ruamel.yaml in version 1.2: `010` is ten, `2e-05` a number, `yes` and `3:12`
are texts. Otherwise DVC would see another value, or no change, where a stage sees one.
"""

import dataclasses
import io
import math
import re
import sys
import types
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import SafeRepresenter

NODES = 1_000_000  # a few lines of aliases to aliases can stand for billions of values
SHOWN = 300  # characters of a wrong value in an error
REMEDY = ". `python src/use_profile.py default` writes params.yaml."


class ParamsError(ValueError):
    """Invalid params: file, dotted path, value and remedy."""


@dataclass(frozen=True)
class Rule:
    """A condition on values of the right type, and its words after 'must be'."""

    holds: Callable[[Any], bool]
    wanted: str


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The nested dict of a YAML file. Raises ParamsError if it is absent, invalid, or no mapping of sections."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file{elsewhere() or REMEDY}") from None
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1:,} is {error.object[error.start]:#04x}"
        raise ParamsError(f"{path}: not UTF-8 ({where}). Save it as UTF-8; DVC reads no other encoding.") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}).") from None
    return parse_yaml(text, path)


def elsewhere() -> str:
    """Words after a path that is not found: where scripts run, if not here. DVC's copies have a dvc.yaml too."""
    if Path("dvc.yaml").is_file():
        return ""
    return f" in {Path.cwd()}. Scripts run in the root of the repo: `cd {Path(__file__).parents[2]}`."


def parse_yaml(text: str, source: Path | str) -> dict[str, Any]:
    """The nested dict of YAML text, which errors call `source`; aliases are copies. Raises ParamsError."""
    try:
        tree = _copied(YAML(typ="safe").load(text), "", (), iter(range(NODES)))
    except DuplicateKeyError as error:
        twice = re.search('key "(.*)" with value', str(error.problem), re.DOTALL)
        named = f"key {twice[1]!r}" if twice else "a key"
        line = error.problem_mark.line + 1
        raise ParamsError(f"{source}: line {line}: {named} is written twice; remove one of them.") from None
    except YAMLError as error:
        raise ParamsError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ParamsError(f"{source}: nested too deeply; no section needs a dozen levels.") from None
    except ParamsError as error:
        raise ParamsError(f"{source}: {str(error).removeprefix(': ')}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of a tag or a date
        raise ParamsError(f"{source}: a value is not what YAML takes it for ({error}); put it in quotes.") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{source}: holds {_shown(tree)}, not sections such as `data:` and `runs:`.")
    return tree


def _copied(value: Any, at: str, above: tuple[Any, ...], budget: Iterator[int]) -> Any:
    """`value` without shared parts. Raises ParamsError if it holds itself, too much, or characters that are no text."""
    if next(budget, None) is None:
        raise ParamsError(f"{at}: aliases (*) multiply to over {NODES:,} values; write out what is meant.")
    if any(value is one for one in above):
        raise ParamsError(f"{at}: an alias (*) holds itself; write out what is meant.")
    if isinstance(value, dict):
        return {
            _copied(key, at, above, budget): _copied(item, _dot(at, key), (*above, value), budget)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_copied(item, f"{at}[{i}]", (*above, value), budget) for i, item in enumerate(value)]
    if isinstance(value, str) and (bad := next(filter(_unprintable, value), None)) is not None:
        raise ParamsError(f"{at}: holds the character {bad!r}, which is no text; remove it.")
    return value


def _unprintable(character: str) -> bool:
    """A control character, such as a terminal's ESC, or half a pair of UTF-16; not a tab or a line break."""
    return character not in "\t\n\r" and unicodedata.category(character) in ("Cc", "Cs")


class _Representer(SafeRepresenter):
    """Writes equal parts out, and in double quotes what other quotes turn into spaces: unusual line breaks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, value: str) -> Any:
        style = '"' if re.search("[\x85\u2028\u2029]", value) else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Representer.add_representer(str, _Representer.text)


def write_yaml(tree: Mapping[str, Any], width: int = 120) -> str:
    """`tree` as text that read_yaml and DVC read as `tree` again; keys keep their order."""
    yaml: Any = YAML(typ="safe")  # its attributes are typed by their defaults
    yaml.default_flow_style, yaml.allow_unicode, yaml.width = False, True, width
    yaml.sort_base_mapping_type_on_output = False
    yaml.Representer = _Representer
    text = io.StringIO()
    yaml.dump(tree, text)
    return text.getvalue()


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
    if kind is float and type(value) is int:
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    return _checked(kind, value, at)


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
        raise ParamsError(f"{at}: must be {rule.wanted}, got {_shown(value)}.")
    return built


NOUNS = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
NOUNS |= {dict: "a mapping of keys to values", list: "a list"}


def _checked(kind: type, value: Any, at: str) -> Any:
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        got = f"{_shown(value)} ({type(value).__name__})"
        raise ParamsError(f"{at}: must be {NOUNS[kind]}, got {got}.{_remedy(kind, value)}")
    return value


def _remedy(kind: type, value: Any) -> str:
    """How to write a number or a truth value that YAML 1.2 reads as text."""
    if type(value) is not str:
        return ""
    if kind is bool and value.lower() in TRUTH:
        return f" YAML 1.2 reads it as text: write {TRUTH[value.lower()]}."
    try:
        number = kind(float(value)) if kind in (int, float) else math.nan
    except (ValueError, OverflowError):
        return ""
    if not math.isfinite(number) or number != float(value):
        return ""
    return f" YAML reads it as text: write {number!r}, without quotes."


TRUTH = dict.fromkeys(("yes", "on", "y", "true"), "true") | dict.fromkeys(("no", "off", "n", "false"), "false")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def one_of(value: Any, legal: Iterable[str], at: str) -> str:
    """`value`, which must be among `legal`. Raises ParamsError beginning with `at`."""
    if value not in (legal := list(legal)):
        listed = ", ".join(map(str, legal)) or "(nothing)"
        raise ParamsError(f"{at}: {_shown(value)} is none of {listed}.{nearest(value, legal)}")
    return value


def nearest(value: Any, legal: Iterable[str]) -> str:
    """The closest legal value as a sentence to append; "" if none is similar."""
    close = get_close_matches(str(value), list(legal), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _dot(at: str, key: Any) -> str:
    return f"{at}.{key}" if at else str(key)
