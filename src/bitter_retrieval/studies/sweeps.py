"""Sweeps: every combination of some settings as a DVC experiment, and the results from `dvc exp show --json`.

    grid = {"labels.human.annotator": ["skim", "uniform"], "labels.human.noise": ["0", "0.1"]}
    experiments(grid)["annotator-skim-noise-0-1"]    {"labels.human.annotator": "skim", "labels.human.noise": "0.1"}
    points(shown, grid)[1]                           Point(values=("skim", "0.1"), baseline="infonce", soft="kl", …)

Values are kept as written. The last key of the grid runs along the axis; those before it separate the panels.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.studies.experiments import SUMMARY, ExperimentError, Shown, results

Grid = Mapping[str, Sequence[str]]
ANNOTATORS: Grid = {"labels.human.annotator": ["skim", "uniform"], "labels.human.noise": ["0", "0.1", "0.2", "0.4"]}


class SweepError(ExperimentError):
    """A sweep that cannot be queued or drawn, and what to do about it."""


@dataclass(frozen=True)
class Point:
    """Results of one experiment: exact match by run, and the primary difference with its interval."""

    values: tuple[str, ...]  # of the grid's keys, in their order
    baseline: str
    soft: str  # the run of the primary difference
    others: tuple[str, ...]  # further runs trained on the same labels
    em: Mapping[str, float]
    difference: Mapping[str, float]  # diff, low, high
    disagreement: float | None


def parse_grid(settings: Sequence[str]) -> Grid:
    """Grid from "KEY=V1,V2" arguments, ANNOTATORS without any. Raises SweepError on another form."""
    grid = {key: values.split(",") for key, _, values in (setting.partition("=") for setting in settings)}
    for key, values in grid.items():
        if not key or not all(values):
            raise SweepError(f"--set {key}={','.join(values)}: write KEY=V1,V2 with a dotted key of params.yaml.")
    return grid or ANNOTATORS


def experiments(grid: Grid) -> dict[str, dict[str, str]]:
    """Settings by name of experiment; names have no dots, as they mean something else to git and DVC."""
    products = (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    return {"-".join(_part(key, value) for key, value in settings.items()): settings for settings in products}


def _part(key: str, value: str) -> str:
    return f"{key.split('.')[-1]}-{value}".replace(".", "-")


def points(shown: Shown, grid: Grid) -> list[Point]:
    """Results in the grid's order. Raises ExperimentError naming the experiments without one."""
    wanted = experiments(grid)
    found = results(shown, wanted)
    return [_point(name, settings, found[name].data) for name, settings in wanted.items()]


def _point(name: str, settings: Mapping[str, str], data: Mapping[str, Any]) -> Point:
    params, summary = data["params"]["params.yaml"]["data"], data["metrics"][SUMMARY]["data"]
    baseline = params["compare"]["baseline"]
    soft = next((key.removesuffix(f"_vs_{baseline}") for key in summary if key.endswith(f"_vs_{baseline}")), "")
    difference = summary.get(f"{soft}_vs_{baseline}", {})
    if not {"diff", "low", "high"} <= difference.keys():
        raise SweepError(f"experiment {name}: {SUMMARY} has no difference with its interval; it has {list(summary)}.")
    labels = params["runs"][soft]["labels"]
    others = [run for run, made in params["runs"].items() if made["labels"] == labels and run not in (soft, baseline)]
    return Point(
        tuple(settings.values()), baseline, soft, tuple(others), summary["em"], difference, summary.get("disagreement")
    )


def markdown(found: Sequence[Point], grid: Grid, commands: Sequence[str], picture: str) -> str:
    """The page: the picture, a table, and the settings at which no difference is shown."""
    first = found[0]
    heads = [key.split(".")[-1] for key in grid]
    runs = [first.baseline, first.soft, *first.others]
    head = [
        *heads,
        "disagreement, %",
        *(f"{run}, EM %" for run in runs),
        f"{first.soft} − {first.baseline}, points [95%]",
    ]
    without = [point for point in found if point.difference["low"] <= 0 <= point.difference["high"]]
    unproven = ", ".join(" ".join(point.values) for point in without)
    return "\n".join(
        [
            f"# Sweep of {', '.join(grid)}",
            "",
            "Written by `python src/study.py sweep draw` from DVC experiments. To make it again:",
            "",
            *["    " + command for command in commands],
            "",
            f"![Exact match, and its difference, by {heads[-1]}]({picture})",
            "",
            markdown_table(head, [_cells(point, runs) for point in found]),
            "",
            "Intervals hold simultaneously for all runs of one experiment, not across experiments. Disagreement: share",
            "of test questions whose lowest-loss passage is not the one with the human label.",
            "",
            f"No difference between {first.soft} and {first.baseline} is shown at: {unproven or 'none of them'}.",
            "",
        ]
    )


def _cells(point: Point, runs: Sequence[str]) -> list[str]:
    named = {"mean": point.difference["diff"], "low": point.difference["low"], "high": point.difference["high"]}
    scores = [wording.size(point.em.get(run)) for run in runs]
    return [*point.values, wording.size(point.disagreement), *scores, wording.points(named)]
