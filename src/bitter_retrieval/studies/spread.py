"""Where the spread of the label contrast comes from: worlds, draws of training questions, or fits of readers.

    wanted(params, 4)["spread-201-1"]            {"data.seed": "201", …, "++data.world.train_draw": "1"}
    components(cells)["fit"]                     Component(mean_square=0.0011, free=24, variance=0.0002)

A cell is a world, a draw of its training questions and a fit of the reader: exact match after training on that reader's
labels minus after training on the annotators', both answered by that reader. All fits of a cell's world and draw share
the run on annotators' labels, so what its training adds is the draw's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bitter_retrieval import lineage
from bitter_retrieval.params import Params
from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.studies.experiments import Wanted
from bitter_retrieval.studies.replication import (
    TARGET,
    Figures,
    ReplicationError,
    contrast,
    detectable,
    first_world,
    made_by,
    paragraph,
    seeds,
    unfinished_words,
    worlds_needed,
)

WORLDS, DRAWS = 4, 2
TOLD = (8, 12, 16, 20, 24)  # numbers of worlds whose detectable difference is told
PLANS = ((1, 1), (1, 2), (2, 1), (2, 2))  # draws and fits a world


@dataclass(frozen=True)
class Component:
    """One row of the analysis of variance; a variance below 0 by chance is 0."""

    mean_square: float
    free: int
    variance: float


@dataclass(frozen=True)
class Spread:
    """cells and errors [worlds, draws, fits], as shares; errors are standard errors over questions and seeds."""

    worlds: list[int]
    readers: list[str]
    made_by: str
    cells: np.ndarray
    errors: np.ndarray
    parts: dict[str, Component]


def wanted(params: Params, worlds: int) -> Wanted:
    """Settings of the experiments by name. Raises ReplicationError unless params are of this study.

    A world's draws are not neighbours: two experiments at a time would fit the same readers twice.
    """
    fits(params)
    first = first_world(params, "spread")
    return {
        f"spread-{world}-{draw}": seeds(params, world) | {"++data.world.train_draw": str(draw)}
        for draw in range(DRAWS)
        for world in range(first, first + worlds)
    }


def fits(params: Params) -> dict[str, str]:
    """The run on each reader's own labels, by reader. Raises ReplicationError unless there are two or more readers."""
    baseline = params.compare.baseline
    own = {
        lineage.labeller(run.labels, params): name
        for name, run in params.runs.items()
        if run.labels in params.labels and name != baseline
    }
    if len(params.readers) < 2 or own.keys() != params.readers.keys():
        raise ReplicationError(
            f"params.yaml has the readers {', '.join(params.readers)} and the runs {', '.join(params.runs)}: this "
            "study needs several readers, and besides the baseline a run on the labels of each. "
            "`python src/use_profile.py spread` writes them."
        )
    return {reader: own[reader] for reader in params.readers}


# -- analysis --------------------------------------------------------------------------------------------------------


def analyse(params: Params, found: Mapping[str, Figures]) -> Spread:
    """Variance components over the worlds that have results for all draws.

    Raises ReplicationError if fewer than two have.
    """
    runs, baseline = fits(params), params.compare.baseline
    complete = [world for world in _worlds(found) if all(f"spread-{world}-{draw}" in found for draw in range(DRAWS))]
    if len(complete) < 2:
        raise ReplicationError(f"{len(complete)} worlds have results for all {DRAWS} draws: two are needed.")
    whole = {name: found[name] for world in complete for draw in range(DRAWS) for name in [f"spread-{world}-{draw}"]}
    shape = len(complete), DRAWS, len(runs)
    cells = np.transpose([contrast(whole, run, baseline, reader) for reader, run in runs.items()]).reshape(shape)
    errors = [[one["se"][reader][run] for reader, run in runs.items()] for one in whole.values()]
    return Spread(
        complete, list(runs), made_by(whole), cells, np.array(errors, dtype=float).reshape(shape), components(cells)
    )


def _worlds(found: Mapping[str, Figures]) -> list[int]:
    return sorted({int(name.split("-")[1]) for name in found})


def components(cells: ArrayLike) -> dict[str, Component]:
    """Variance of worlds, of draws and of fits within a world, and the rest, from cells [worlds, draws, fits].

    The model is y = mean + world + draw(world) + fit(world) + rest, all random, draws crossed with fits; the rest is
    their interaction and the sampling error of a cell. With a worlds, b draws and c fits the mean squares expect

        world          rest + c draw + b fit + b c world        a - 1 degrees of freedom
        draw(world)    rest + c draw                            a (b - 1)
        fit(world)     rest + b fit                             a (c - 1)
        rest           rest                                     a (b - 1) (c - 1)

    and the components are those that make these equal to what was measured: the method of moments (Searle, Casella and
    McCulloch 1992, Variance Components, chapter 4).
    """
    y = np.asarray(cells, dtype=np.float64)
    a, b, c = y.shape
    whole, world, draw, fit = (y.mean(axis, keepdims=True) for axis in (None, (1, 2), 2, 1))
    sums = {
        "world": (b * c * (world - whole) ** 2).sum(),
        "draw": (c * (draw - world) ** 2).sum(),
        "fit": (b * (fit - world) ** 2).sum(),
        "rest": ((y - draw - fit + world) ** 2).sum(),
    }
    free = {"world": a - 1, "draw": a * (b - 1), "fit": a * (c - 1), "rest": a * (b - 1) * (c - 1)}
    square = {name: float(sums[name]) / free[name] for name in sums}
    variance = {
        "world": (square["world"] - square["draw"] - square["fit"] + square["rest"]) / (b * c),
        "draw": (square["draw"] - square["rest"]) / c,
        "fit": (square["fit"] - square["rest"]) / b,
        "rest": square["rest"],
    }
    return {name: Component(square[name], free[name], max(0.0, variance[name])) for name in sums}


def sd_of_a_world(parts: Mapping[str, Component], draws: int = 1, readers: int = 1) -> float:
    """Standard deviation of a world's mean contrast over so many draws and fits."""
    world, draw, fit, rest = (parts[name].variance for name in ("world", "draw", "fit", "rest"))
    return float(np.sqrt(world + draw / draws + fit / readers + rest / (draws * readers)))


# -- the page --------------------------------------------------------------------------------------------------------

WORDS = {
    "world": "worlds",
    "draw": "draws of training questions within a world",
    "fit": "fits of the reader within a world",
    "rest": "rest: their interaction, questions and seeds",
}


def markdown(found: Spread, asked: int, commands: Sequence[str]) -> str:
    """docs/spread.md. asked: worlds of the whole study."""
    return "\n".join(
        [
            f"# Where the spread comes from: {len(found.worlds)} worlds",
            "",
            "Written by `python src/study.py spread table` from DVC experiments. To make it again:",
            "",
            *["    " + command for command in commands],
            "",
            *unfinished_words(len(found.worlds), asked),
            paragraph(
                f"In each world, {DRAWS} disjoint draws of training questions and {len(found.readers)} fits of one "
                "reader, which differ in their seed alone. A cell is the label contrast: exact match after training on "
                "a reader's labels minus after training on the annotators', answered by that reader. Its mean is "
                f"{wording.signed(float(found.cells.mean()))} points.",
                found.made_by,
            ),
            "",
            *_components(found),
            *_power(found.parts),
            "## The cells",
            "",
            "Label contrast, points:",
            "",
            markdown_table(["world", "draw", *found.readers], _rows(found)),
            "",
        ]
    )


def _components(found: Spread) -> list[str]:
    sd, sampling = sd_of_a_world(found.parts), float(np.mean(found.errors**2)) ** 0.5
    rows = [
        [WORDS[name], str(part.free), wording.size(part.variance**0.5), _share(part.variance, sd**2)]
        for name, part in found.parts.items()
    ]
    return [
        markdown_table(
            ["source", "degrees of freedom", "sd, points", "share of variance, %"],
            [*rows, ["all", wording.NOTHING, wording.size(sd), _share(sd**2, sd**2)]],
        ),
        "",
        paragraph(
            "Random-effects analysis of variance by the method of moments; a variance below 0 by chance counts as 0. "
            "Few degrees of freedom make a rough figure. The intervals of the reports, which cover questions and "
            f"seeds, imply a standard deviation of {wording.size(sampling)} points in a cell. That is no further row: "
            "all cells of a world share their test questions, so this error is in the worlds' row and in the rest."
        ),
        "",
    ]


def _power(parts: Mapping[str, Component]) -> list[str]:
    sd, target = sd_of_a_world(parts), f"{100 * TARGET:g} points"
    detected = [wording.size(detectable(sd, worlds)) for worlds in TOLD]
    spreads = [(draws, readers, sd_of_a_world(parts, draws, readers)) for draws, readers in PLANS]
    plans = [[str(draws), str(readers), wording.size(sd), str(worlds_needed(sd))] for draws, readers, sd in spreads]
    return [
        "## What worlds detect",
        "",
        paragraph(
            f"With one draw and one fit a world, worlds scatter by {wording.size(sd)} points, and {worlds_needed(sd)} "
            f"of them detect {target} with 80% power."
        ),
        "",
        markdown_table(["worlds", *map(str, TOLD)], [["detect, points", *detected]]),
        "",
        "The mean over more draws or fits in each world:",
        "",
        markdown_table(["draws a world", "fits a world", "sd, points", f"worlds for {target}"], plans),
        "",
    ]


def _share(variance: float, total: float) -> str:
    return f"{100 * variance / total:.0f}" if total else wording.NOTHING


def _rows(found: Spread) -> list[list[str]]:
    return [
        [str(world), str(draw), *(wording.signed(float(value)) for value in found.cells[at, draw])]
        for at, world in enumerate(found.worlds)
        for draw in range(DRAWS)
    ]
