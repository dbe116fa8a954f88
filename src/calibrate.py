"""Calibrate: do intervals, tests and stated power hold? 4,000 simulated experiments a setting, shaped like this one.

    python src/calibrate.py                      # about five minutes on one core
    python src/calibrate.py --experiments 400    # a quick look

Reads params.yaml and data/predictions/runs (`dvc pull` fetches them), measures how much exact match varies with groups,
questions and seeds, and simulates experiments of the same variance and known truth; then with more variance of seeds or
groups. As measured, all figures must be as wanted; the other settings show the limits of the method.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from math import sqrt
from pathlib import Path

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from bitter_retrieval.command_line import track
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.records import PREDICTIONS, RecordError, Row, read_rows
from bitter_retrieval.reporting import tables
from bitter_retrieval.statistics.calibration import (
    LEVELS,
    WANTED,
    Calibration,
    CalibrationError,
    Shape,
    Spread,
    calibrate,
    exact_matches,
    measure,
)
from bitter_retrieval.typed_yaml import ParamsError

RUNS = Path("data/predictions/runs")
COLUMNS = ("reader", "seed", "shown", "query_id", "group_id", "beyond", "em")
NEEDED = pa.schema([PREDICTIONS.field(name) for name in COLUMNS])
VARIES = {
    "group": "group of questions",
    "question": "question of a group",
    "seed": "seed",
    "group_seed": "seed and group",
    "residual": "seed and question",
}
FIGURES = {
    "mean": "coverage: a mean",
    "alone": "coverage: one run",
    "together": "coverage: all runs",
    "rejected": "false alarm: one run",
    "familywise": "false alarm: any run",
    "power": "found: one run",
    "power_together": "found: one among all",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all as wanted at the measured variance, 1 not so, 2 nothing was simulated."""
    parser = argparse.ArgumentParser(
        description="Simulate experiments of known truth and count what the statistics say."
    )
    parser.add_argument("--experiments", type=int, default=4000, help="simulated experiments a setting")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap resamples an experiment")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--seed-sd", type=float, nargs="*", default=[3, 8], help="further spreads of seeds, in points")
    parser.add_argument("--correlation", type=float, nargs="*", default=[0.1], help="further correlations in a group")
    options = parser.parse_args(arguments)
    try:
        spread, shape = measured(load_params())
        found = {
            name: calibrate(
                each,
                shape,
                options.experiments,
                options.draws,
                options.seed,
                partial(track, description=name, unit="blocks"),
            )
            for name, each in settings(spread, options.seed_sd, options.correlation).items()
        }
    except (CalibrationError, ParamsError, RecordError) as error:
        print(error, file=sys.stderr)
        return 2
    console = tables.console()
    console.print(varying(spread), outcomes(found), sep="")
    return 0 if all(next(iter(found.values())).held(figure) for figure in WANTED) else 1


def measured(params: Params) -> tuple[Spread, Shape]:
    """Spread of exact match with the reader of the primary figure, and the shape of the experiment."""
    wanted = params.compare.reader, params.evaluate.shown[0]
    predictions = {run: [row for row in read(run) if (row["reader"], row["shown"]) == wanted] for run in params.runs}
    systems, groups = exact_matches(predictions)
    baseline = params.compare.baseline
    return measure(systems, groups, baseline), Shape(groups, len(systems[baseline]), len(systems) - 1)


def read(run: str) -> list[Row]:
    try:
        return [row for row in read_rows(RUNS / f"{run}.parquet", NEEDED) if not row["beyond"]]
    except RecordError as error:
        raise RecordError(f"{error} `dvc repro evaluate@{run}` makes it, `dvc pull` fetches it.") from error


def settings(spread: Spread, seed_sds: Sequence[float], correlations: Sequence[float]) -> dict[str, Spread]:
    """Spreads to simulate: as measured; with other standard deviations of seeds, in points; with other correlations."""
    total = sum(spread.of_difference(level) for level in LEVELS)
    seeds = {f"seeds ±{sd:g} points": spread.changed("seed", (sd / 100) ** 2, "residual") for sd in seed_sds}
    groups = {f"correlation {share:g}": spread.changed("group", share * total, "question") for share in correlations}
    return {"as measured": spread} | seeds | groups


def varying(spread: Spread) -> Table:
    """The measured variance of exact match by source."""
    table = _table("Variance of exact match", "of a system, %", "of a difference, %", "its sd, points")
    total = sum(spread.of_difference(level) for level in LEVELS)
    for level, words in VARIES.items():
        own, variance = spread.own[level] / sum(spread.own.values()), spread.of_difference(level)
        table.add_row(words, f"{100 * own:.1f}", f"{100 * variance / total:.1f}", f"{100 * sqrt(variance):.1f}")
    return table


def outcomes(found: Mapping[str, Calibration]) -> Table:
    """Each figure with its Monte-Carlo standard error; red and with a ! if it is not as wanted.

    Coverage: the interval of a mean, or of a difference, contains the truth. False alarm: a verdict of better or worse
    although no run differs. Found: a verdict of better if the run is better by the stated minimum detectable effect
    (its median over experiments).
    """
    counts = {one.experiments for one in found.values()}
    table = _table(f"% of {counts.pop():,} experiments", "wanted", *found)
    for figure, words in FIGURES.items():
        low, high = WANTED.get(figure, (0, 1))
        wanted = f"{100 * low:.0f} to {100 * high:.0f}" if figure in WANTED else ""
        table.add_row(words, wanted, *[_cell(one, figure) for one in found.values()])
    table.add_row("stated MDE, points", "", *[f"{100 * one.mde:.1f}" for one in found.values()])
    return table


def _cell(one: Calibration, figure: str) -> Text:
    held, share = figure not in WANTED or one.held(figure), getattr(one, figure)
    said = f"{100 * share:.1f} ±{100 * one.error(share):.1f}"
    return Text(said if held else f"{said}!", style="" if held else "red")


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    return table


if __name__ == "__main__":
    sys.exit(main())
