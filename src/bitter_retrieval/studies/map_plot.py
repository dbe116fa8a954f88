"""The picture of the map: annotators' error across, labeller's error upwards, the label contrast in colour.

The line of break-even is where the mean difference is 0, between the lines where the ends of its interval are 0. All
three are interpolated linearly between the measured points, which carry their figures.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.plots import BLUE, INK, ORANGE, new_figure, save
from bitter_retrieval.studies.confirmation import ErrorMap

STEPS = 201  # places along each axis at which the map is interpolated
LINES = {"mean": ("break-even", "-", 2.0), "low": ("ends of its interval", "--", 1.2), "high": (None, "--", 1.2)}


def draw(found: ErrorMap, worlds: int, path: Path | str) -> None:
    """Write the PNG; it is the same for the same map."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.lines import Line2D

    figure, axes = new_figure(6.4, 4.8)
    ax = axes[0, 0]
    across, up = (np.array([100 * error for _, error in side]) for side in (found.annotators, found.labellers))
    mean = 100 * found.grid("mean")
    reach = float(np.abs(mean).max()) or 1.0
    colours = LinearSegmentedColormap.from_list("labels", [ORANGE, "#ffffff", BLUE])
    shown = ax.pcolormesh(*_fine(across, up), _between(across, up, mean).T, cmap=colours, vmin=-reach, vmax=reach)
    for field, (_, style, width) in LINES.items():
        values = _between(across, up, found.grid(field)).T
        if values.min() < 0 < values.max():
            ax.contour(*_fine(across, up), values, levels=[0.0], colors=INK, linestyles=style, linewidths=width)
    for x, row in zip(across, mean, strict=True):
        for y, value in zip(up, row, strict=True):
            ax.plot(x, y, "o", color=INK, markersize=3, clip_on=False)
            said, right = wording.signed(value / 100), x == across[-1]
            ax.annotate(
                said,
                (x, y),
                (-4 if right else 4, 4),
                textcoords="offset points",
                fontsize=8,
                ha="right" if right else "left",
            )
    ax.set_xlabel("annotators' error: labels that do not support the answer, %")
    ax.set_ylabel("labeller's error: lowest-loss passages that do not, %")
    ax.grid(visible=False)
    ax.margins(0.08)
    bar = figure.colorbar(shown, ax=ax)
    bar.set_label(f"soft minus annotators' labels, points of exact match ({worlds} worlds)", size=9)
    bar.ax.tick_params(labelsize=9)
    told = [
        Line2D([], [], color=INK, ls=style, lw=width, label=words) for words, style, width in LINES.values() if words
    ]
    figure.legend(handles=told, loc="outside upper left", frameon=False, fontsize=8, ncols=len(told))
    save(figure, path)


def _fine(across: NDArray[np.float64], up: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.linspace(across[0], across[-1], STEPS), np.linspace(up[0], up[-1], STEPS)


def _between(across: NDArray[np.float64], up: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values [across, up] interpolated linearly along both axes: [STEPS, STEPS]."""
    fine_across, fine_up = _fine(across, up)
    rows = np.array([np.interp(fine_up, up, row) for row in values])
    return np.array([np.interp(fine_across, across, column) for column in rows.T]).T
