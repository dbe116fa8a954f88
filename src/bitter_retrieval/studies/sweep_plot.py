"""The picture of a sweep: exact match by run above the primary difference with its interval; one column a panel.

Panels are the values of all keys but the last, such as the two kinds of annotators; the last key runs along the axis.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitter_retrieval.reporting.plots import BLUE, GREY, LIGHT, ORANGE, new_figure, save
from bitter_retrieval.studies.sweeps import Grid, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(found: Sequence[Point], grid: Grid, path: Path | str) -> None:
    """Write the PNG. found: points in the grid's order."""
    panels = list(dict.fromkeys(point.values[:-1] for point in found))
    figure, axes = new_figure(3.9 * len(panels) + 0.6, 5.6, 2, len(panels))
    key = list(grid)[-1].split(".")[-1]
    for column, panel in enumerate(panels):
        chosen = [point for point in found if point.values[:-1] == panel]
        _scores(axes[0, column], chosen)
        _differences(axes[1, column], chosen)
        axes[0, column].set_title(" ".join(panel), loc="left", fontsize=9)
        axes[1, column].set_xlabel(key)
    for row in axes:
        _share_scale(row)
    axes[0, 0].set_ylabel("exact match, %")
    axes[1, 0].set_ylabel(f"{found[0].soft} − {found[0].baseline}, points (95%)")
    axes[0, 0].legend(frameon=False, fontsize=8)
    save(figure, path)


def _scores(ax: "Axes", chosen: Sequence[Point]) -> None:
    """A line a run: baseline and primary run by name, the other runs on the same labels under one."""
    first, places = chosen[0], _places(ax, chosen)
    for number, run in enumerate(first.others):
        label = "other runs on the same labels" if number == 0 else None
        ax.plot(places, _percent(chosen, run), color=LIGHT, linewidth=1, label=label)
    ax.plot(places, _percent(chosen, first.baseline), color=ORANGE, marker="o", markersize=4, label=first.baseline)
    ax.plot(places, _percent(chosen, first.soft), color=BLUE, marker="o", markersize=4, label=first.soft)


def _differences(ax: "Axes", chosen: Sequence[Point]) -> None:
    places = _places(ax, chosen)
    means = [100 * point.difference["diff"] for point in chosen]
    down = [max(0.0, mean - 100 * point.difference["low"]) for mean, point in zip(means, chosen, strict=True)]
    up = [max(0.0, 100 * point.difference["high"] - mean) for mean, point in zip(means, chosen, strict=True)]
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.errorbar(places, means, yerr=[down, up], fmt="o-", color=BLUE, markersize=4, linewidth=1, elinewidth=1.2)


def _percent(chosen: Sequence[Point], run: str) -> list[float]:
    return [100 * point.em.get(run, float("nan")) for point in chosen]


def _places(ax: "Axes", chosen: Sequence[Point]) -> list[float]:
    """The values if they are numbers, else 0, 1, …; the values are the tick labels."""
    values = [point.values[-1] for point in chosen]
    try:
        places = [float(value) for value in values]
    except ValueError:
        places = [float(place) for place in range(len(values))]
    ax.set_xticks(places, values)
    return places


def _share_scale(row: "Sequence[Axes]") -> None:
    ends = [ax.get_ylim() for ax in row]
    for ax in row:
        ax.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
