"""metrics/summary.json: the dozen scalars that read well in `dvc exp show`, from the report.

    {"em": {"infonce_human": 0.5495, "infonce_a": 0.5958, "kl_a": 0.6012},
     "primary": {"diff": 0.0463, "low": 0.0168, "high": 0.0757, "mde": 0.0291},
     "contrasts": {"loss": {"diff": 0.0054, "low": -0.0241, "high": 0.0348}},
     "disagreement": 0.2212, "coverage": 1.0}

With questions from another domain there is also "em_beyond", exact match on them.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the primary reader, as shares with four decimals.

    They are of the runs that the primary difference and the named contrasts are about: the best of all runs would be
    biased by its selection.
    """
    about = report["about"]
    pairs, reader = about["contrasts"].values(), about["reader"]
    runs = dict.fromkeys([about["baseline"], about["primary"], *(run for pair in pairs for run in pair)])
    figures: dict[str, Any] = {"em": _em(report["systems"], runs, reader)}
    if difference := report["differences"][reader]["em"].get(about["primary"]):
        figures["primary"] = _difference(difference) | _rounded({"mde": difference["mde"]})
    if found := report["contrasts"][reader]["em"]:
        figures["contrasts"] = {name: _difference(one) for name, one in found.items()}
    if report["beyond"]:
        figures["em_beyond"] = _em(report["beyond"]["systems"], runs, reader)
    labels = report.get("disagreement", {}).get(about["split"], {})
    return figures | _rounded({"disagreement": labels.get("disagreement"), "coverage": report["missing"]["coverage"]})


def _em(systems: Mapping[str, Any], runs: Iterable[str], reader: str) -> dict[str, float]:
    """Exact match by run."""
    scores = {name: systems[name]["scores"].get(reader, {}).get("em") for name in runs}
    return _rounded({name: estimate["mean"] for name, estimate in scores.items() if estimate})


def _difference(difference: Mapping[str, Any]) -> dict[str, float]:
    return _rounded({"diff": difference["mean"], "low": difference["low"], "high": difference["high"]})


def _rounded(named: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in named.items() if value is not None}
