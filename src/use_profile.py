"""Write params.yaml from a profile in profiles/.

    python src/use_profile.py                  # lists the profiles
    python src/use_profile.py default          # writes params.yaml
    python src/use_profile.py default --check  # writes nothing; exits 1 if params.yaml differs

A profile is complete, or names a base and contains only the differences:

    # The default world with one seed and two runs.
    base: default
    train: {seeds: [0]}    # merged key by key: the rest of train is the base's
    runs:                  # replaces all runs of the base, as do readers, encoders and the labels
      infonce: {...}
      kl: {...}
    judge: {kind: rule}    # replaces the base's whole, as do beyond and a hub: no field of another kind is left

In these maps `base` stands for the base's entry, of the same name or of another one with changes:

    runs: {infonce: base, sharp: {base: kl, temperature: {teacher: 0.1}}}

The word preset stands for an entry of profiles/presets.yaml, which is written out in params.yaml:

    readers: {qwen3_8b_base: preset, small: {preset: qwen3_0_6b_base, dtype: float32}}

A complete profile is copied with its comments. Params that load_params would refuse are not written.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches, unified_diff
from pathlib import Path
from typing import Any

from bitter_retrieval.command_line import Parser
from bitter_retrieval.params import load_params, parse_params
from bitter_retrieval.records import RecordError, write_text
from bitter_retrieval.typed_yaml import ParamsError, elsewhere, read_yaml, write_yaml

PROFILES = Path("profiles")
PRESETS = PROFILES / "presets.yaml"
PARAMS = Path("params.yaml")
NAMED_MAPS = {"readers", "encoders", "labels", "derived_labels", "mixed_labels", "runs"}
WHOLE = {*NAMED_MAPS, "beyond", "contrasts", "hub", "judge", "losses"}  # never merged: two judges in one make no sense


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, listed or equal; 1 params.yaml differs (--check); 2 the profile is absent or invalid, or
    cannot be written.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("profile", nargs="?", help="name of a file in profiles/, without .yaml")
    parser.add_argument("--check", action="store_true", help="only compare: exit 1 if params.yaml differs")
    options = parser.parse_args(arguments)
    if options.profile is None and options.check:
        parser.error("--check needs a profile to compare with")
    if not PROFILES.is_dir():
        print(f"{PROFILES}: no such folder{elsewhere()}", file=sys.stderr)
        return 2
    if options.profile is None:
        print(listing())
        return 0
    try:
        text = render(options.profile)
    except ParamsError as error:
        print(error, file=sys.stderr)
        return 2
    return check(options.profile, text) if options.check else write(options.profile, text)


def listing() -> str:
    """One line a profile: its name and its first comment."""
    return "\n".join(f"{name:<16} {_first_comment(PROFILES / f'{name}.yaml')}" for name in profiles())


def profiles() -> list[str]:
    """Names of all profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml") if path != PRESETS)


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#")), "")


def render(name: str) -> str:
    """Content of params.yaml under a profile. Raises ParamsError if the profile is absent or invalid."""
    path = profile_path(name)
    tree, chain = resolve(name)
    if len(chain) == 1:
        load_params(path)
        return path.read_text(encoding="utf-8")
    tree = with_presets(tree, profile_path(chain[0]))
    parse_params(tree, " over ".join(f"profiles/{link}.yaml" for link in chain))
    head = f"# Written by `python src/use_profile.py {name}`: {_first_comment(path)}\n"
    head += f"# Profiles, the first wins: {', '.join(chain)}. docs/params.md explains every field.\n\n"
    return head + write_yaml(tree)


def profile_path(name: str) -> Path:
    """File of a profile. Raises ParamsError with the nearest name and all profiles if it is absent."""
    names = profiles()
    if name in names:
        return PROFILES / f"{name}.yaml"
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ParamsError(f"profiles/{name}.yaml: no such profile.{hint}\n{listing()}".rstrip())


def resolve(name: str, above: tuple[str, ...] = ()) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The complete tree of a profile, and the names of the profiles it is made of, its own first."""
    if name in above:
        raise ParamsError(f"profiles/{above[-1]}.yaml: base: {name!r} leads back to itself ({' > '.join(above)}).")
    changes = read_yaml(profile_path(name))
    if "base" not in changes:
        return changes, (name,)
    tree, chain = resolve(str(changes.pop("base")), (*above, name))
    taken = {
        section: {
            key: _of_base(key, entry, tree[section], f"profiles/{name}.yaml: {section}") for key, entry in own.items()
        }
        for section, own in changes.items()
        if section in NAMED_MAPS and isinstance(own, dict)
    }
    return merge(tree, changes | taken), (name, *chain)


def _of_base(name: str, entry: Any, ready: dict[str, Any], at: str) -> Any:
    """An entry, with `base` or {base: name, …} replaced by that entry of the base and its changes."""
    if entry == "base":
        entry = {"base": name}
    if not isinstance(entry, dict) or "base" not in entry:
        return entry
    wanted = str(entry["base"])
    if wanted not in ready:
        raise ParamsError(f"{at}.{name}: the base has no {wanted!r}. It has {', '.join(ready)}.")
    changes = {field: value for field, value in entry.items() if field != "base"}
    return merge(ready[wanted], changes) if changes else ready[wanted]


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` overridden by `changes` key by key at every depth; keys in WHOLE are replaced whole."""
    merged = dict(base)
    for key, value in changes.items():
        both_maps = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both_maps and key not in WHOLE else value
    return merged


def with_presets(tree: dict[str, Any], profile: Path) -> dict[str, Any]:
    """`tree` with its presets written out."""
    sections = {section: tree.get(section) for section in ("readers", "encoders")}
    return tree | {
        section: {name: _written_out(section, name, entry, profile) for name, entry in entries.items()}
        for section, entries in sections.items()
        if isinstance(entries, dict)
    }


def _written_out(section: str, name: str, entry: Any, profile: Path) -> Any:
    if entry == "preset":
        entry = {"preset": name}
    if not isinstance(entry, dict) or "preset" not in entry:
        return entry
    ready, wanted = read_yaml(PRESETS)[section], str(entry["preset"])
    if wanted not in ready:
        close = get_close_matches(wanted, ready, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ParamsError(f"{profile}: {section}: {wanted!r} is none of {PRESETS}.{hint} Known: {', '.join(ready)}.")
    return ready[wanted] | {field: value for field, value in entry.items() if field != "preset"}


def check(name: str, text: str) -> int:
    """0 if params.yaml is `text`; else 1, with the differences on stderr."""
    present = PARAMS.read_text(encoding="utf-8") if PARAMS.exists() else ""
    if present == text:
        return 0
    print(f"params.yaml differs from profile {name}; `python src/use_profile.py {name}` writes it.", file=sys.stderr)
    lines = unified_diff(present.splitlines(), text.splitlines(), "params.yaml", f"profile {name}", lineterm="", n=0)
    print("\n".join(lines), file=sys.stderr)
    return 1


def write(name: str, text: str) -> int:
    """Replace params.yaml; it is never half-written."""
    try:
        write_text(PARAMS, text)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"params.yaml is now profile {name}: `dvc repro` runs it, `dvc repro --dry --force` lists its stages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
