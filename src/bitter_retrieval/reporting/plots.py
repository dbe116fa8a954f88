"""The pictures of the comparison, drawn from its report. The same report gives the same bytes.

differences.png            exact match of every run less the baseline's, with the interval
answer_accuracy.png        answer accuracy of every run and control with its 95% interval
answer_vs_retrieval.png    answer accuracy against agreement of the top passage with the annotators
training_curves.png        loss on training batches and on validation by step, a panel a run, a line a seed

If the answers were not judged, exact match replaces answer accuracy and the axis is labelled so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bitter_retrieval.records import replacing
from bitter_retrieval.reporting import wording
from bitter_retrieval.statistics.metrics import METRICS

if TYPE_CHECKING:  # matplotlib is slow to import and only drawing needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]
Curve = Mapping[str, Sequence[float | None]]  # column of a curves file: values by row
Pair = tuple[Mapping[str, Any], Mapping[str, Any]]  # estimates of retrieval and of answers

BLUE, ORANGE, GREY, LIGHT, INK = "#2a6fbb", "#d1661c", "#7a7f87", "#b9d2ec", "#22262b"
DPI = 120


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> "tuple[Figure, Any]":
    """A figure of this size in inches, in the common style, and its axes as a grid [rows, columns]."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    look = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "grid.color": "#e6e8eb",
        "axes.axisbelow": True,
        "figure.constrained_layout.use": True,
    }
    with matplotlib.rc_context(look):
        return pyplot.subplots(rows, columns, figsize=(width, height), dpi=DPI, squeeze=False)


def save(figure: "Figure", path: Path | str) -> None:
    """Write a PNG, whole or not at all. Without matplotlib's version in it, equal pictures are equal files."""
    from matplotlib import pyplot

    try:
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": None})
    finally:
        pyplot.close(figure)


def judged_metric(report: Report) -> str:
    """Answer accuracy if any run or control was judged, else exact match."""
    scores = [system["scores"].get(report["about"]["reader"], {}) for system in report["systems"].values()]
    return "accuracy" if any(one.get("accuracy") for one in scores) else "em"


def answer_accuracy(report: Report, path: Path | str) -> None:
    """Every system with its interval, runs above controls, in the order of params.yaml."""
    metric = judged_metric(report)
    found = {name: _estimate(report, name, metric) for name in report["systems"]}
    figure, axes = new_figure(7.5, 1.1 + 0.27 * len(found))
    ax = axes[0, 0]
    for place, (name, estimate) in enumerate(found.items()):
        if estimate:
            _point(ax, estimate, None, _colour(report, name), place)
    ax.set_yticks(range(len(found)), [_label(report, name) for name in found])
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_xlim(0, None)
    ax.grid(axis="y", visible=False)
    ax.axhline(sum(_is_run(report, name) for name in found) - 0.5, color=GREY, linewidth=0.6)
    ax.set_xlabel(f"{METRICS[metric].head} with {report['about']['reader']}, % (95% interval{_not_judged(metric)})")
    baseline = found.get(report["about"]["baseline"])
    if baseline:
        ax.axvline(100 * baseline["mean"], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    save(figure, path)


def differences(report: Report, path: Path | str) -> None:
    """Every run's difference to the baseline in exact match; grey: what is called equivalent.

    Negative controls do not set the scale: an arrow at the edge stands for what lies beyond it.
    """
    about = report["about"]
    found = report["differences"][about["reader"]]["em"]
    figure, axes = new_figure(5.4, 0.8 + 0.27 * max(1, len(found)))
    ax = axes[0, 0]
    near = [one for name, one in found.items() if name not in report["negative_controls"]]
    ends = [abs(one[end]) for one in near for end in ("low", "mean", "high") if one[end] is not None]
    reach = 105 * min(1.0, max([*ends, 1.5 * about["equivalence"]]))
    for place, (name, one) in enumerate(found.items()):
        low, high = (100 * min(1.0, max(-1.0, one["mean" if one[end] is None else end])) for end in ("low", "high"))
        colour = GREY if name in report["negative_controls"] else BLUE
        bold = 2.4 if name == about["primary"] else 1.2
        ax.plot((low, high), (place, place), color=colour, linewidth=bold, zorder=3)
        ax.plot(100 * one["mean"], place, "o", color=colour, markersize=4.5, zorder=3)
        for side, end, mark in ((-1, low, "<"), (1, high, ">")):
            if side * end > reach:
                ax.plot(side * 0.98 * reach, place, mark, color=colour, markersize=6, zorder=4)
        if abs(100 * one["mean"]) > reach:
            side = 1 if one["mean"] > 0 else -1
            told = {"ha": "right" if side > 0 else "left", "va": "center", "fontsize": 8, "color": colour}
            ax.text(side * 0.93 * reach, place, wording.points(one), **told)
    if not found:
        ax.text(0.5, 0.5, "nothing to compare", ha="center", transform=ax.transAxes)
    ax.axvspan(*(side * 100 * about["equivalence"] for side in (-1, 1)), color="#eef0f3", zorder=0)
    ax.axvline(0, color=ORANGE, linewidth=0.8, zorder=1)
    ax.set_yticks(range(len(found)), [_label(report, name) for name in found])
    ax.set_ylim(max(1, len(found)) - 0.4, -0.6)
    ax.set_xlim(-reach, reach)
    ax.grid(axis="y", visible=False)
    figure.supxlabel(f"exact match less that of {about['baseline']}, points", fontsize=9)
    save(figure, path)


def answer_vs_retrieval(report: Report, path: Path | str) -> None:
    """Each system as a cross of two intervals, and a close-up of the runs: do better answers need more agreement?"""
    metric = judged_metric(report)
    figure, axes = new_figure(9.5, 4.6, columns=2)
    everything, near = axes[0]
    shown: dict[str, Pair] = {}
    for name in report["systems"]:
        retrieval, answer = _estimate(report, name, "retrieval"), _estimate(report, name, metric)
        if retrieval and answer:
            shown[name] = retrieval, answer
    runs = [name for name in shown if _is_run(report, name) and name not in report["negative_controls"]]
    _scatter(everything, report, "runs and controls", shown)
    _scatter(near, report, "the runs, closer", {name: shown[name] for name in runs})
    figure.supxlabel(f"Top passage relevant by the labels of {report['about']['human_source']}, %", fontsize=9)
    everything.set_ylabel(f"{METRICS[metric].head} with {report['about']['reader']}, %{_not_judged(metric)}")
    write_names(everything, [_named(name, shown) for name in shown if name not in runs])
    write_names(near, [_named(name, shown) for name in runs])
    save(figure, path)


def _scatter(ax: "Axes", report: Report, title: str, shown: Mapping[str, Pair]) -> None:
    ax.set_title(title, fontsize=9, loc="left")
    if not shown:
        ax.text(0.5, 0.5, "nothing to show", ha="center", transform=ax.transAxes)
    for name, (retrieval, answer) in shown.items():
        _point(ax, retrieval, answer, _colour(report, name))


def write_names(ax: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """Write the names of (x, y, name), in data units, near their points. This fixes the figure's layout."""
    from adjustText import adjust_text
    from matplotlib.patheffects import withStroke

    figure = cast("Figure", ax.figure)  # we draw no subfigures
    figure.canvas.draw()
    figure.set_layout_engine("none")
    outline = [withStroke(linewidth=2.5, foreground="white")]
    names = [ax.text(x, y, name, fontsize=8, zorder=4, path_effects=outline) for x, y, name in points]
    leads = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": 2}
    apart = {"expand": (1.4, 2.2), "force_text": (0.3, 0.4), "force_pull": (0.02, 0.02), "min_arrow_len": 10}
    # By default adjust_text stops after some seconds, so a slow machine would draw another picture.
    adjust_text(names, ax=ax, arrowprops=leads, iter_lim=500, **apart)


def _named(name: str, shown: Mapping[str, Pair]) -> tuple[float, float, str]:
    retrieval, answer = shown[name]
    return 100 * retrieval["mean"], 100 * answer["mean"], name


def training_curves(curves: Mapping[str, Curve], path: Path | str) -> None:
    """Loss by optimiser step of each run; curves by run with columns seed, step, loss and validation_loss."""
    columns = min(4, max(1, len(curves)))
    rows = -(-len(curves) // columns) or 1
    figure, axes = new_figure(2.6 * columns, 0.5 + 1.9 * rows, rows, columns)
    for ax in axes.flat[len(curves) :]:
        ax.set_axis_off()
    for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        _curve(ax, curve, "loss", color=LIGHT, linewidth=0.8)
        _curve(ax, curve, "validation_loss", color=BLUE, linewidth=1.4, marker=".", markersize=4)
        ax.set_title(name, fontsize=9, loc="left")
    figure.supxlabel("optimiser step", fontsize=9)
    figure.supylabel("loss (dark: validation)", fontsize=9)
    save(figure, path)


def _curve(ax: "Axes", curve: Curve, column: str, **style: Any) -> None:
    """One line per seed through the steps where the column has a value."""
    rows = list(zip(curve["seed"], curve["step"], curve.get(column, [None] * len(curve["seed"])), strict=True))
    for seed in sorted({seed for seed, _, _ in rows if seed is not None}):
        of_seed = ((step, value) for one, step, value in rows if one == seed)
        points = sorted((step, value) for step, value in of_seed if step is not None and value is not None)
        if points:
            ax.plot(*zip(*points, strict=True), **style)


def _point(ax: "Axes", across: Mapping, upward: Mapping | None, colour: str, place: float = 0) -> None:
    """A dot with its intervals in percent; `upward` None puts it at the height `place`."""
    height = place if upward is None else 100 * upward["mean"]
    ax.errorbar(
        100 * across["mean"],
        height,
        xerr=_reach(across),
        yerr=None if upward is None else _reach(upward),
        fmt="o",
        markersize=4.5,
        color=colour,
        elinewidth=1.2,
        ecolor=colour + ("99" if upward is None else "66"),
        capsize=0,
        zorder=3,
    )


def reach(means: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> list[list[float]]:
    """Distances from each mean to the ends of its interval, as matplotlib's errorbar takes them."""
    return [
        [mean - low for mean, low in zip(means, lows, strict=True)],
        [high - mean for mean, high in zip(means, highs, strict=True)],
    ]


def _reach(estimate: Mapping) -> list[list[float]] | None:
    """Distances in percent from the mean to the lower and upper end of the interval; None without an interval."""
    if estimate["low"] is None or estimate["high"] is None:
        return None
    ends = estimate["mean"] - estimate["low"], estimate["high"] - estimate["mean"]
    return [[100 * max(0.0, end)] for end in ends]


def _estimate(report: Report, name: str, metric: str) -> Mapping | None:
    return report["systems"][name]["scores"].get(report["about"]["reader"], {}).get(metric)


def _colour(report: Report, name: str) -> str:
    """Runs blue, the baseline orange, controls grey."""
    if name == report["about"]["baseline"]:
        return ORANGE
    return BLUE if _is_run(report, name) else GREY


def _is_run(report: Report, name: str) -> bool:
    return report["systems"][name]["kind"] == "run"


def _label(report: Report, name: str) -> str:
    """Name, label source, and what the system is in the comparison: "infonce_a (reader_a, primary)"."""
    about, system = report["about"], report["systems"][name]
    role = {about["baseline"]: "baseline", about["primary"]: "primary"}.get(name, system["role"])
    said = ", ".join(filter(None, (system["labels"], role)))
    return f"{name} ({said})" if said else name


def _not_judged(metric: str) -> str:
    return "; answers are not judged" if metric == "em" else ""
