"""The picture of a metric by a parameter: a point with its interval for each revision, baseline and primary run."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bitter_retrieval.reporting.plots import BLUE, GREY, INK, ORANGE, new_figure, reach, save
from bitter_retrieval.statistics.metrics import METRICS
from bitter_retrieval.studies.experiments import ExperimentError
from bitter_retrieval.studies.revisions import Revision, at, estimate, paths

COLOURS = (ORANGE, BLUE, INK, GREY)
APART = 6  # typographic points between the runs of a revision
Point = tuple[Any, Mapping[str, Any]]  # value of the parameter, estimate


def points(revisions: Sequence[Revision], metric: str, path: str) -> dict[str, list[Point]]:
    """Estimates by run, of the revisions that are done and have the parameter.

    Raises ExperimentError if fewer than two values are there.
    """
    done = [one for one in revisions if one.report]
    values = [value for one in done if (value := at(one.params, path)) is not None]
    if not values:
        near = get_close_matches(path, {name for one in done for name in paths(one.params)}, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ExperimentError(f"params.yaml: no revision that is done has the parameter {path!r}.{hint}")
    if all(value == values[0] for value in values):
        remedy = f"`dvc exp run --queue -S {path}=…`, then `dvc exp run --run-all`, tries others."
        raise ExperimentError(f"params.yaml: {path} is {values[0]} in all revisions that are done. {remedy}")
    found: dict[str, list[Point]] = {}
    for one in done:
        value, about = at(one.params, path), one.figures["about"]
        for run in (about["baseline"], about["primary"]):
            measured = estimate(one, run, metric)
            if value is not None and measured and measured["mean"] is not None:
                found.setdefault(run, []).append((value, measured))
    if not found:
        raise ExperimentError(f"{metric}: not measured in any of them. Name another metric.")
    return found


def draw(found: Mapping[str, Sequence[Point]], metric: str, path: str, reader: str, file: Path) -> None:
    """Write the PNG; it is the same for the same points. Values that are no numbers stand side by side."""
    from matplotlib.transforms import ScaledTranslation

    row = METRICS[metric]
    values = [value for series in found.values() for value, _ in series]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    named = list(dict.fromkeys(map(str, values)))
    figure, axes = new_figure(6.4, 4.0)
    ax = axes[0, 0]
    for number, (run, series) in enumerate(found.items()):
        across = [value if numbers else named.index(str(value)) for value, _ in series]
        means, lows, highs = (
            [row.unit.scale * (one["mean"] if one[end] is None else one[end]) for _, one in series]
            for end in ("mean", "low", "high")
        )
        colour = COLOURS[number % len(COLOURS)]
        aside = ScaledTranslation((number - (len(found) - 1) / 2) * APART / 72, 0, figure.dpi_scale_trans)
        style = {"fmt": "o", "markersize": 4.5, "color": colour, "ecolor": colour + "66", "label": run}
        ax.errorbar(across, means, yerr=reach(means, lows, highs), transform=ax.transData + aside, **style)
        ax.update_datalim([*zip(across, lows, strict=True), *zip(across, highs, strict=True)])  # not by what is aside
    ax.autoscale_view()
    if not numbers:
        ax.set_xticks(range(len(named)), named)
    ax.set_xlabel(path)
    ax.set_ylabel(f"{row.head} with {reader}, {row.unit.name} (95% interval)")
    figure.legend(loc="outside upper left", frameon=False, fontsize=8, ncols=len(found))
    save(figure, file)
