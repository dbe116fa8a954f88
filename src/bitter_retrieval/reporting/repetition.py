"""Whether an experiment that was run again gives the figures that were committed.

    sentences(report, committed)     ["All 1,482 figures are identical to the committed ones."]

Both are metrics/report.json. The processor is not a figure: it is named where figures differ.

    changed(lock, committed)         ["encoders.mini.fit.feed_forward"]

Both are dvc.lock, as a tree: parameters whose values differ in a stage that both have.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bitter_retrieval.reporting import wording

Leaves = dict[str, Any]
PROCESSOR = "processor"


def sentences(report: Mapping[str, Any], committed: Mapping[str, Any]) -> list[str]:
    """One sentence if all is as committed; else one for each compared exact match, and one about all other figures."""
    other = _other_settings(report, committed)
    if other:
        return [f"Not comparable with the committed figures, which are of other settings: {other}."]
    found, known = _figures(report), _figures(committed)
    differing = [name for name in known if found.get(name, known[name]) != known[name]]
    missing = known.keys() ^ found.keys()
    if not differing and not missing:
        return [f"All {len(known):,} figures are identical to the committed ones."]
    where = f"made on {report['about'][PROCESSOR]}, committed from {committed['about'][PROCESSOR]}"
    return [
        f"{len(differing):,} of {len(known):,} figures differ from the committed ones ({where}).",
        *([f"{len(missing):,} figures are in one of the two reports only."] if missing else []),
        *_compared(report, committed),
    ]


def changed(lock: Mapping[str, Any], committed: Mapping[str, Any]) -> list[str]:
    """Parameters that differ from the committed run's."""
    here, there = (dict(_params(one)) for one in (lock, committed))
    return sorted({key.partition(" ")[2] for key in here.keys() & there.keys() if here[key] != there[key]})


def _params(lock: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by "stage parameter"."""
    for stage, parts in lock.get("stages", {}).items():
        for file in parts.get("params", {}).values():
            for name, value in _leaves(file, ""):
                yield f"{stage} {name.lstrip('/').replace('/', '.')}", value


def _other_settings(report: Mapping[str, Any], committed: Mapping[str, Any]) -> str:
    """The first settings that differ, as "test questions 2560, committed 640"; "" if they are the same."""
    here, there = ({"systems": sorted(one["systems"]), **one["about"]} for one in (report, committed))
    names = [name for name in here | there if name != PROCESSOR and here.get(name) != there.get(name)]
    return ", ".join(f"{name} {_told(here.get(name))}, committed {_told(there.get(name))}" for name in names)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figures(report: Mapping[str, Any]) -> Leaves:
    """Every figure and verdict by its path, without what the report says about its making."""
    return dict(_leaves({name: part for name, part in report.items() if name != "about"}, ""))


def _leaves(tree: Any, above: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        parts = list(tree.items())
    elif isinstance(tree, list):
        parts = list(enumerate(tree))
    else:
        yield above, tree
        return
    for name, part in parts:
        yield from _leaves(part, f"{above}/{name}")


def _compared(report: Mapping[str, Any], committed: Mapping[str, Any]) -> list[str]:
    """How each difference in exact match moved, by the committed interval."""
    here, there = _differences(report), _differences(committed)
    return [_moved(name, here[name], known) for name, known in there.items() if here.get(name, known) != known]


def _differences(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    baseline, reader = report["about"]["baseline"], report["about"]["reader"]
    runs = {f"{run} − {baseline}": one for run, one in report["differences"][reader]["em"].items()}
    return runs | wording.contrasts(report, "em")


def _moved(name: str, found: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    if None in (found["mean"], known["mean"], known["low"], known["high"]):
        return f"{name}: {wording.points(found)}, committed {wording.points(known)}."
    inside = known["low"] <= found["mean"] <= known["high"]
    verdict = (
        "" if found["verdict"] == known["verdict"] else f", verdict {found['verdict']} instead of {known['verdict']}"
    )
    return (
        f"{name}: {wording.signed(found['mean'])} points, committed {wording.points(known)}: "
        f"{'within' if inside else 'OUTSIDE'} that interval{verdict}."
    )
