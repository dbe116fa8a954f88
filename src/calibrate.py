"""Calibrate: do intervals, tests and stated power hold? Simulated experiments of known truth, shaped like this one.

    python src/calibrate.py                      # about three minutes on two cores
    python src/calibrate.py --experiments 200    # a quick look

Reads params.yaml and data/predictions/runs (`dvc pull` fetches them), measures how much exact match varies with groups,
questions and seeds, and simulates experiments of the same variance and known truth; then with more variance of seeds or
groups. Then it simulates studies over several worlds, whose differences vary with the world and the fits of readers
too. As measured and over worlds, all figures must be as wanted; the other settings show the limits of the method.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import sqrt
from pathlib import Path

from bitter_retrieval.command_line import Parser

# isort: split
import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from bitter_retrieval.models.workers import side_by_side
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
from bitter_retrieval.statistics.world_calibration import Worlds, calibrate_worlds, sampling_sd, scattering
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
    "alone": "coverage: one difference",
    "together": "coverage: all differences",
    "rejected": "false alarm: one",
    "familywise": "false alarm: any of all",
    "power": "found: one of the stated MDE",
    "power_together": "found: the same among all",
    "one_world": "one world's interval holds for all worlds",
}
LIMITS = "seeds ±", "correlation"  # settings that show limits of the method begin so


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all as wanted at the measured variance and over worlds, 1 not so, 2 nothing was simulated."""
    parser = Parser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1500, help="simulated experiments a setting")
    parser.add_argument("--draws", type=int, default=500, help="bootstrap resamples an experiment")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--seed-sd", type=float, nargs="*", default=[3], help="further spreads of seeds, in points")
    parser.add_argument("--correlation", type=float, nargs="*", default=[0.1], help="further correlations in a group")
    parser.add_argument("--worlds", type=int, nargs="*", default=[5, 16], help="studies over so many worlds")
    parser.add_argument("--levels", type=int, default=4, help="differences of a study over worlds that hold at once")
    parser.add_argument(
        "--scatter", type=float, default=3.2, help="sd of a difference over worlds, in points, of which"
    )
    parser.add_argument("--fit-sd", type=float, default=1.0, help="the fits of readers give so much")
    options = parser.parse_args(arguments)
    try:
        spread, shape = measured(load_params())
        tasks = experiments(spread, shape, options) | studies(spread, shape, options)
        done = side_by_side(lambda name, tell: _told(name, tasks[name], tell), list(tasks), on_told=_say, threads=1)
    except (CalibrationError, ParamsError, RecordError) as error:
        print(error, file=sys.stderr)
        return 2
    found = dict(zip(tasks, done, strict=True))
    console = tables.console()
    console.print(varying(spread), outcomes(found), sep="")
    held = [one.held(figure) for name, one in found.items() for figure in WANTED if _must_hold(name, one, figure)]
    return 0 if all(held) else 1


def _told(name: str, task: Callable[[], Calibration], tell: Callable[[str], None]) -> Calibration:
    found = task()
    tell(name)
    return found


def _say(name: str) -> None:
    print(f"simulated: {name}", file=sys.stderr)


def measured(params: Params) -> tuple[Spread, Shape]:
    """Spread of exact match with the reader of the primary figure, and the shape of the experiment."""
    compared, wanted = params.compare, (params.compare.reader, params.evaluate.shown[0])
    predictions = {run: [row for row in read(run) if (row["reader"], row["shown"]) == wanted] for run in params.runs}
    systems, groups = exact_matches(predictions)
    secondary = len(systems) - 2 + len(compared.contrasts or {})  # neither the baseline nor the primary run
    spread = measure(systems, groups, compared.baseline)
    return spread, Shape(groups, len(systems[compared.baseline]), max(1, secondary))


def read(run: str) -> list[Row]:
    try:
        return [row for row in read_rows(RUNS / f"{run}.parquet", NEEDED) if not row["beyond"]]
    except RecordError as error:
        raise RecordError(f"{error} `dvc repro evaluate@{run}` makes it, `dvc pull` fetches it.") from error


Tasks = dict[str, Callable[[], Calibration]]  # by what is said of a setting


def experiments(spread: Spread, shape: Shape, options: argparse.Namespace) -> Tasks:
    """Experiments in one world: as measured; with other standard deviations of seeds; with other correlations."""
    total = sum(spread.of_difference(level) for level in LEVELS)
    seeds = {f"seeds ±{sd:g} points": spread.changed("seed", (sd / 100) ** 2, "residual") for sd in options.seed_sd}
    groups = {f"correlation {r:g}": spread.changed("group", r * total, "question") for r in options.correlation}
    spreads = {"as measured": spread} | seeds | groups
    sizes = options.experiments, options.draws, options.seed
    return {name: partial(calibrate, each, shape, *sizes) for name, each in spreads.items()}


def studies(spread: Spread, shape: Shape, options: argparse.Namespace) -> Tasks:
    """Studies over several worlds."""
    scatter, fit_sd = options.scatter / 100, options.fit_sd / 100
    world_sd = scattering(scatter, fit_sd, sampling_sd(spread, shape)) if options.worlds else 0.0
    return {
        f"{count} worlds": partial(
            calibrate_worlds,
            *(spread, shape, Worlds(count, options.levels, world_sd, fit_sd), options.experiments, options.seed),
        )
        for count in options.worlds
    }


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
    although nothing differs. Found: a verdict of better if the truth is the stated minimum detectable effect.
    """
    counts = {one.experiments for one in found.values()}
    table = _table(f"% of {max(counts):,} experiments", "wanted", *found)
    for figure, words in FIGURES.items():
        low, high = WANTED.get(figure, (0, 1))
        wanted = f"{100 * low:.0f} to {100 * high:.0f}" if figure in WANTED else ""
        table.add_row(words, wanted, *[_cell(one, figure) for one in found.values()])
    for words, mde in {"stated MDE, points: one": "mde", "among all": "mde_together"}.items():
        table.add_row(words, "", *[f"{100 * getattr(one, mde):.1f}" for one in found.values()])
    return table


def _must_hold(name: str, one: Calibration, figure: str) -> bool:
    return figure in one.shares and not name.startswith(LIMITS)


def _cell(one: Calibration, figure: str) -> Text:
    if figure not in one.shares:
        return Text("-")
    held, share = figure not in WANTED or one.held(figure), one.shares[figure]
    said = f"{100 * share:.1f} ±{100 * one.error(share):.1f}"
    return Text(said if held else f"{said}!", style="" if held else "red")


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    return table


if __name__ == "__main__":
    sys.exit(main())
