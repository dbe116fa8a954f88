"""Made-up reports and experiments of studies over worlds, in the layout of metrics/report.json and of DVC."""

from collections.abc import Mapping
from typing import Any

from bitter_retrieval.studies.experiments import SUMMARY


def report(
    em: Mapping[str, Mapping[str, float]],
    labels: Mapping[str, str],
    errors: Mapping[str, float | None],
    baseline: str,
    success: float = 0.01,
    half: float = 0.02,
) -> dict[str, Any]:
    """The part of a report that studies read.

    em: exact match by reader and system; those not in `labels` are controls. success: what it has above exact match.
    half: half an interval of a difference; its mde is that and .84 standard errors of .01.
    """
    readers = list(em)
    about = {"baseline": baseline, "reader": readers[0], "readers": readers, "seeds": 2, "equivalence": 0.02}

    def scores(reader: str, name: str) -> dict[str, Any]:
        mean = em[reader][name]
        return {"em": {"mean": mean}, "success": {"mean": mean + success * (name in labels)}, "retrieval": None}

    return {
        "about": about | {"questions": 640, "groups": 80, "judge": "rule", "processor": "a processor"},
        "systems": {
            name: {
                "kind": "run" if name in labels else "control",
                "labels": labels.get(name),
                "scores": {reader: scores(reader, name) for reader in readers},
            }
            for name in em[readers[0]]
        },
        "differences": {
            reader: {"em": {name: difference(em[reader][name] - em[reader][baseline], half) for name in labels}}
            for reader in readers
        },
        "label_errors": {"train": dict(errors), "test": {}},
    }


def difference(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "mde": half + 0.8416212 * 0.01}


def experiment(name: str, params: Mapping[str, Any], state: str | None = "success") -> dict[str, Any]:
    """One entry as `dvc exp show --json` prints it; its commit is its name."""
    data = {"params": {"params.yaml": {"data": params}}, "metrics": {SUMMARY: {"data": {"em": {}}}}}
    return {"name": name, "revs": [{"rev": name, "data": data}], "executor": {"state": state} if state else None}


def with_settings(tree: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """A copy of params with settings as DVC makes it."""
    import copy

    import yaml

    made = copy.deepcopy(dict(tree))
    for key, value in settings.items():
        *above, last = key.lstrip("+").split(".")
        at = made
        for part in above:
            at = at[part]
        at[last] = yaml.safe_load(value)
    return made
