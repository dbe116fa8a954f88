"""Sweeps: the product of some settings as DVC experiments, and what `dvc exp show --json` says of them afterwards.

    grid = {"labels.human.annotator": ["skim", "uniform"], "labels.human.noise": ["0", "0.1"]}
    experiments(grid)["annotator-skim-noise-0-1"]    {"labels.human.annotator": "skim", "labels.human.noise": "0.1"}
    points(shown, grid)[1]                           Point(values=("skim", "0.1"), baseline="infonce", soft="kl", …)

Values are kept as they were written; the last key of the grid is drawn along the axis, those before it part the panels.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitter_retrieval.reporting import wording
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
    """Grid from "KEY=V1,V2" arguments; that of the annotators if there are none."""
    grid = {key: values.split(",") for key, _, values in (setting.partition("=") for setting in settings)}
    for key, values in grid.items():
        if not key or not all(values):
            raise SweepError(f"--set {key}={','.join(values)}: write KEY=V1,V2 with a dotted key of params.yaml.")
    return grid or ANNOTATORS


def experiments(grid: Grid) -> dict[str, dict[str, str]]:
    """Settings by name of experiment. A name has no dots, which git and DVC would read otherwise."""
    products = (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    return {"-".join(_part(key, value) for key, value in settings.items()): settings for settings in products}


def _part(key: str, value: str) -> str:
    return f"{key.split('.')[-1]}-{value}".replace(".", "-")


def points(shown: Shown, grid: Grid) -> list[Point]:
    """Results in the grid's order. Raises ExperimentError that names the experiments without one."""
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
    """A page with the picture, a table and where no difference is shown."""
    first = found[0]
    heads = [key.split(".")[-1] for key in grid]
    runs = [first.baseline, first.soft, *first.others]
    head = [
        *heads,
        "disagreement, %",
        *(f"{run}, EM %" for run in runs),
        f"{first.soft} − {first.baseline}, points [95%]",
    ]
    lines = [
        "| " + " | ".join(cells) + " |"
        for cells in (head, ["---"] * len(head), *(_cells(point, runs) for point in found))
    ]
    open_ones = [" ".join(point.values) for point in found if point.difference["low"] <= 0 <= point.difference["high"]]
    return "\n".join(
        [
            f"# Sweep of {', '.join(grid)}",
            "",
            "Written by `python src/study.py sweep draw` from DVC experiments. Again:",
            "",
            *["    " + command for command in commands],
            "",
            f"![Exact match, and its difference, by {heads[-1]}]({picture})",
            "",
            *lines,
            "",
            "An interval holds for all runs of one experiment at once, not for all experiments. Disagreement is that",
            "of the lowest-loss passage with the human label on test.",
            "",
            f"No difference of {first.soft} to {first.baseline} is shown at: {', '.join(open_ones) or 'none of them'}.",
            "",
        ]
    )


def _cells(point: Point, runs: Sequence[str]) -> list[str]:
    named = {"mean": point.difference["diff"], "low": point.difference["low"], "high": point.difference["high"]}
    scores = [wording.size(point.em.get(run)) for run in runs]
    return [*point.values, wording.size(point.disagreement), *scores, wording.points(named)]
