"""metrics/summary.json: the dozen scalars that read well in `dvc exp show`, from the report.

    {"em": {"infonce": 0.5495, "kl": 0.5958, …}, "kl_vs_infonce": {"diff": 0.0463, "low": 0.0168, "high": 0.0757},
     "disagreement": 0.3812, "coverage": 1.0}

With questions from another domain there is also "em_beyond", exact match on them.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the primary reader, as shares with four decimals.

    The only difference is that of the primary run: the best of several would be biased by its selection.
    """
    about, primary = report["about"], report["about"]["primary"]
    scores = {name: system["scores"].get(about["reader"], {}).get("em") for name, system in _runs(report)}
    figures = {"em": {name: round(estimate["mean"], 4) for name, estimate in scores.items() if estimate}}
    difference = report["differences"][about["reader"]]["em"].get(primary)
    if difference:
        named = {"diff": difference["mean"], "low": difference["low"], "high": difference["high"]}
        figures[f"{primary}_vs_{about['baseline']}"] = _rounded(named)
    found = report.get("disagreement", {}).get(about["split"], {})
    shares = {"disagreement": found.get("disagreement"), "coverage": report["missing"]["coverage"]}
    return figures | _em_beyond(report) | _rounded(shares)


def _em_beyond(report: Mapping[str, Any]) -> dict[str, Any]:
    """Exact match by run on questions from another domain; empty without any."""
    if not report["beyond"]:
        return {}
    systems, reader = report["beyond"]["systems"], report["about"]["reader"]
    scores = {name: systems[name]["scores"][reader]["em"] for name, _ in _runs(report)}
    return {"em_beyond": _rounded({name: estimate["mean"] for name, estimate in scores.items() if estimate})}


def _rounded(named: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in named.items() if value is not None}


def _runs(report: Mapping[str, Any]) -> Iterable[tuple[str, dict]]:
    return ((name, system) for name, system in report["systems"].items() if system["kind"] == "run")
