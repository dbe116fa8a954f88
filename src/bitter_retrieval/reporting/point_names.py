"""Names beside the points of a scatter plot, where points lie close: each finds free room near its point.

    write_names(ax, [(38.9, 50.3, "infonce_soft"), (39.2, 53.3, "kl")])

Greedy and deterministic: names are placed in order, each in the place that hides the least of points, of names before
it and of itself beyond the frame; of equal places the nearest. A line leads to names that are not next to their point.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top in pixels
SIZE = 8  # points
DOT = 0.45  # half a point's side, in heights of a line
LINES = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6)  # how far up a name may stand, in lines
SHIFTS = (0.0, 2.5, 5.0)  # how far aside beyond its usual distance


def write_names(ax: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """Write the names of (x, y, name), in data units; the layout of the figure is fixed from here on."""
    ax.figure.canvas.draw()
    ax.figure.set_layout_engine("none")
    if not points:
        return
    frame = tuple(ax.get_window_extent().extents)
    line = SIZE * ax.figure.dpi / 72 * 1.2
    at = ax.transData.transform([(x, y) for x, y, _ in points])
    taken: list[Box] = [(x - DOT * line, y - DOT * line, x + DOT * line, y + DOT * line) for x, y in at]
    for (x, y), (_, _, name) in zip(at, points, strict=True):
        box = min(_boxes(x, y, len(name), line), key=lambda box: _hidden(box, taken, frame))
        taken.append(box)
        _write(ax, name, box, (x, y), line)


def _boxes(x: float, y: float, letters: int, line: float) -> list[Box]:
    """Where a name of so many letters may stand, the nearest first."""
    width, near = 0.56 * line * letters, 0.7 * line
    lefts = [left for shift in SHIFTS for left in (x + near + shift * line, x - near - shift * line - width)]
    middles = [y + up * line for up in LINES]
    found = [(left, middle - line / 2, left + width, middle + line / 2) for left in lefts for middle in middles]
    return sorted(found, key=lambda box: _distance(box, x, y))


def _distance(box: Box, x: float, y: float) -> float:
    """From a point to the nearest point of a box, in pixels."""
    return max(box[0] - x, 0, x - box[2]) + max(box[1] - y, 0, y - box[3])


def _hidden(box: Box, taken: Sequence[Box], frame: Box) -> float:
    """Area in pixels of the box that is taken, or lies outside the frame (which counts more)."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_shared(box, other) for other in taken) + 3 * (area - _shared(box, frame))


def _shared(one: Box, other: Box) -> float:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _write(ax: "Axes", name: str, box: Box, point: tuple[float, float], line: float) -> None:
    from matplotlib.patheffects import withStroke

    x, y = point
    right = box[0] > x
    side, middle = (box[0] if right else box[2]), (box[1] + box[3]) / 2
    leads = {"arrowstyle": "-", "color": "#9aa0a6", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2}
    ax.annotate(
        name,
        xy=point,
        xytext=(side, middle),
        xycoords="figure pixels",
        textcoords="figure pixels",
        fontsize=SIZE,
        ha="left" if right else "right",
        va="center",
        zorder=4,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        arrowprops=leads if _distance(box, x, y) > 0.75 * line else None,
    )
