"""The picture of the sweeps: the label contrast by the share of wrong labels, in the generated world and on real text.

A report of real text takes part if its contrasts have the primary run first and are named by kind and per cent of
labels made wrong, such as random_20; its contrast with the baseline, whose labels are people's own, stands at 0.
"""

import re
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from bitter_retrieval.reporting.plots import BLUE, INK, ORANGE, new_figure, reach, save
from bitter_retrieval.studies.confirmation import Confirmation

Point = tuple[float, float, float, float]  # wrong labels, per cent; difference and the ends of its interval, points
LOOKS = (BLUE, "o"), (ORANGE, "s"), (INK, "^")
Curve = dict[str, list[Point]]  # points in ascending order, by kind of error


def draw(world: Curve, reports: Mapping[str, Mapping[str, Any]], path: Path | str) -> None:
    """Write the PNG: a panel for the worlds and one for each report (metrics/report.json) that has a sweep."""
    panels = {"generated worlds": world} | {name: curve for name, report in reports.items() if (curve := of(report))}
    figure, axes = new_figure(3.6 * len(panels), 3.4, columns=len(panels))
    for ax, (title, curve) in zip(axes[0], panels.items(), strict=True):
        ax.axhline(0, color=INK, linewidth=0.8)
        for (kind, points), (colour, marker) in zip(curve.items(), cycle(LOOKS), strict=False):
            across, mean, low, high = map(list, zip(*points, strict=True))
            ax.errorbar(
                across, mean, reach(mean, low, high), color=colour, marker=marker, markersize=4, capsize=2, label=kind
            )
        ax.set_title(title, fontsize=9, loc="left")
        ax.set_xlabel("wrong labels, %")
        ax.legend(frameon=False, fontsize=8)
    axes[0, 0].set_ylabel("soft minus human labels, points of exact match")
    save(figure, path)


def worlds(found: Confirmation) -> Curve:
    """The confirmation's contrasts by annotators' error; intervals over worlds."""
    contrasts = sorted((found.errors[run], one) for run, one in found.contrasts)
    return {"annotators": [_point(100 * error, vars(one)) for error, one in contrasts]}


def of(report: Mapping[str, Any]) -> Curve:
    """The sweep of a report, of its first primary metric and its labelling reader; empty if it has none."""
    about = report["about"]
    reader, metric = about["reader"], about["primary_metrics"][0]
    start = _point(0.0, report["differences"][reader][metric][about["primary"]])
    curve: Curve = {}
    for name, one in sorted(report["contrasts"].get(reader, {}).get(metric, {}).items()):
        kind = re.fullmatch(r"(.+)_(\d+)", name)
        if kind and about["contrasts"][name][0] == about["primary"]:
            curve.setdefault(kind[1], [start]).append(_point(float(kind[2]), one))
    return curve


def _point(wrong: float, one: Mapping[str, Any]) -> Point:
    return wrong, 100 * one["mean"], 100 * one["low"], 100 * one["high"]
