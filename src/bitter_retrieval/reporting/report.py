"""metrics/report.html: the whole comparison on one page, which loads nothing from elsewhere.

    page = render(report, to_read, params, sources, {"data/prepared/test.parquet": "9a1f…"}, {"differences": Path(…)})

report comes from comparison.compare, questions to read from differing; params and files (MD5 by path) are their inputs.
Pictures are embedded, so the page can be sent or opened offline. It has no date or machine's path, and needs no script:
one line opens the part that a link of the contents leads to.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from bitter_retrieval.plain_text import plain
from bitter_retrieval.reporting import answer, wording
from bitter_retrieval.reporting.page import CONTENTS, PAGE
from bitter_retrieval.statistics.metrics import METRICS, of_family

FURTHER = (
    "answer_nll",
    "regret",
    "harm",
)  # metrics next to exact match in the tables with another number of passages shown
COLUMNS = {
    "Labels": "where a run's training labels come from",
    "Difference": "mean over questions and seeds of a run minus another, in points (hundredths), with a 95% interval. "
    "The primary one stands alone; the intervals of all others in a table hold at once, contrasts included",
    "p": "p value of the difference; but for the primary one adjusted for all in the table (largest |t| over the "
    "bootstrap)",
    "Verdict": "better or worse: the interval excludes 0. equivalent: the difference is shown to "
    "be within ±{equivalence:g} points. inconclusive: neither",
    "MDE": "minimum detectable effect: the difference that would be called better or worse with 80% power, in points",
    "Seed sd": "standard deviation of the difference between training seeds, in points",
}
PICTURES = {
    "differences": "Exact match of each run less the baseline's, points, with the 95% interval. In brackets: labels "
    "that it was trained on. Grey: the region called equivalent.",
    "answer_accuracy": "Answers by run and control, with 95% intervals; the dashed line is the baseline.",
    "answer_vs_retrieval": "Answers against agreement with the annotators. A run above and to the left of the baseline "
    "answers better and agrees less.",
    "training_curves": "Loss on training batches (light) and on validation (dark), one line per seed. "
    "Losses of different runs are not comparable.",
}
LONGEST = 1000  # characters of a text of the data
BAR, MARGIN = 160, 10  # width of an interval's picture, and room for arrows at its edges, in SVG units


def render(
    report: Mapping[str, Any],
    to_read: Mapping[str, Any],
    params: Mapping[str, Any],
    sources: Mapping[str, str],
    files: Mapping[str, str],
    pictures: Mapping[str, Path],
) -> str:
    """The page as text.

    to_read: `differing` and `sides` from most_differing, `sample` and its `scale` of utility. sources: what each label
    source is. pictures: PNG files by name in PICTURES.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_plain, trim_blocks=True, lstrip_blocks=True
    )
    about = report["about"]
    return environment.from_string(PAGE).render(
        report=report,
        about=about,
        words=wording,
        main=wording.distinct(report, of_family("answer", "passage")),
        secondary=of_family("ranking", "utility"),
        beyond=wording.beyond_metrics(report),
        compared=wording.distinct(report, (metric for metric in METRICS.values() if metric.compared)),
        further=[METRICS[name] for name in FURTHER],
        kinds={"Runs": _of_kind(report, "run"), "Controls": _of_kind(report, "control")},
        definitions=_definitions(100 * about["equivalence"]),
        bars={metric: _bars(report, metric) for metric in _compared(report)},
        agreements=list(zip(*report["label_agreement"].values(), strict=True)),
        to_read=to_read,
        longest=LONGEST,
        answer=answer,
        names=answer.names(report, {name: run["losses"] for name, run in params["runs"].items()}, sources),
        contents={name: title for name, title in CONTENTS.items() if name != "further" or report["further"]},
        params=dict(_leaves(params)),
        files=files,
        pictures={name: (_inline(path), PICTURES[name]) for name, path in pictures.items()},
        verdict=wording.sentence(about["primary"], about["baseline"], _compared(report)["em"].get(about["primary"])),
    )


def _plain(value: Any) -> Any:
    """Texts of the data without control characters; what macros have made of them is plain already."""
    return plain(value) if type(value) is str else value


def _of_kind(report: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: system for name, system in report["systems"].items() if system["kind"] == kind}


def _compared(report: Mapping[str, Any]) -> Mapping[str, dict]:
    return report["differences"][report["about"]["reader"]]


def _definitions(equivalence: float) -> dict[str, str]:
    """Definition of every column; `equivalence` in points."""
    metrics = of_family("answer", "passage", "ranking", "utility")
    columns = {head: meaning.format(equivalence=equivalence) for head, meaning in COLUMNS.items()}
    return {metric.head: metric.definition for metric in metrics} | columns


def _bars(report: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Positions on a picture BAR wide of each difference and its interval, and of the region called equivalent.

    Negative controls do not set the scale, so that the others are not squeezed; nor do ends of intervals beyond a
    difference of 1, which are cut. What lies outside the picture is drawn at its edge, and `beyond` has the edge.
    """
    found, equivalence = _compared(report)[metric] | wording.contrasts(report, metric), report["about"]["equivalence"]
    near = [one for name, one in found.items() if name not in report["negative_controls"]]
    ends = [abs(one[end]) for one in near for end in ("low", "high", "mean") if one[end] is not None]
    reach = min(1.0, max([*ends, 1.5 * equivalence]))
    equal = _place(-equivalence, reach)  # the region is symmetric about the middle
    places = {name: _placed(one, reach) for name, one in found.items()}
    return {"width": BAR, "equal": [equal, round(BAR - 2 * equal, 1)], "runs": places}


def _placed(difference: Mapping[str, Any], reach: float) -> dict[str, Any]:
    ends = {end: difference[end] for end in ("low", "mean", "high") if difference[end] is not None}
    possible = {end: min(1.0, max(-1.0, value)) for end, value in ends.items()}
    beyond = [side for side in (-1, 1) if any(side * value > reach for value in possible.values())]
    inside = {end: _place(min(reach, max(-reach, value)), reach) for end, value in possible.items()}
    outside = abs(possible.get("mean", 0.0)) > reach
    return {end: inside.get(end) for end in ("low", "mean", "high")} | {"beyond": beyond, "outside": outside}


def _place(value: float, reach: float) -> float:
    return round(BAR / 2 + value / reach * (BAR / 2 - MARGIN), 1)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The settings of a tree as ("train.epochs", "3"), without those that are None."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode("ascii")
