"""metrics/report.html: one page that holds the whole comparison and loads nothing from elsewhere.

    page = render(report, questions, params, {"data/judgements.parquet": "9a1f…"}, {"answer_accuracy": Path("….png")})

report is what comparison.compare made, questions what differing.most_differing chose, params and files (MD5 by path)
what produced both. Pictures are written into the page, so that it can be sent or opened offline. No script, date or
path of a machine is in it.
"""

import base64
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.page import PAGE
from bitter_retrieval.statistics.metrics import METRICS, of_family

FURTHER = ("answer_nll", "regret", "harm")  # metrics beside exact match where another number of passages is shown
COLUMNS = {
    "Labels": "where a run's training labels come from",
    "Difference": "mean over questions and seeds of run minus baseline, in points (hundredths), with an interval that "
    "holds for all runs at once",
    "Adjusted p": "p value of the difference, adjusted for the number of runs (largest |t| over the bootstrap)",
    "Verdict": "better or worse: the simultaneous interval leaves out 0. equivalent: the difference is shown to be "
    "within ±{equivalence:g} points. inconclusive: neither",
    "MDE": "minimum detectable effect: the difference that would be called better or worse with 80% power, in points",
    "Seed sd": "standard deviation of the seeds' means, in points",
}
PICTURES = {
    "answer_accuracy": "Answers by run and control, with 95% intervals; the dashed line is the baseline.",
    "answer_vs_retrieval": "Answers against agreement with the annotators. A run above and to the left of the baseline "
    "answers better while it agrees less.",
    "training_curves": "Loss on training batches (light) and on validation (dark), a line a seed. "
    "Losses of different runs are not comparable.",
}
BAR = 160  # width of an interval's picture, in units of its drawing


def render(
    report: Mapping[str, Any],
    questions: Sequence[Mapping],
    params: Mapping[str, Any],
    files: Mapping[str, str],
    pictures: Mapping[str, Path],
) -> str:
    """The page as text. pictures: PNG files by name in PICTURES."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    about, off = report["about"], report["negative_controls"]
    return environment.from_string(PAGE).render(
        report=report,
        about=about,
        words=wording,
        main=of_family("answer", "passage"),
        secondary=of_family("ranking", "utility"),
        beyond=wording.beyond_metrics(report),
        compared=[metric for metric in METRICS.values() if metric.compared],
        further=[METRICS[name] for name in FURTHER],
        kinds={"Runs": _of_kind(report, "run"), "Controls": _of_kind(report, "control")},
        definitions=_definitions(100 * about["equivalence"]),
        bars={metric: _bars(found, about["equivalence"], off) for metric, found in _compared(report).items()},
        agreements=list(zip(*report["label_agreement"].values(), strict=True)),
        questions=questions,
        params=dict(_leaves(params)),
        files=files,
        pictures={name: (_inline(path), PICTURES[name]) for name, path in pictures.items()},
        verdict=wording.sentence(about["primary"], about["baseline"], _compared(report)["em"].get(about["primary"])),
    )


def _of_kind(report: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: system for name, system in report["systems"].items() if system["kind"] == kind}


def _compared(report: Mapping[str, Any]) -> Mapping[str, Mapping]:
    return report["differences"][report["about"]["reader"]]


def _definitions(equivalence: float) -> dict[str, str]:
    """Of every column; `equivalence` in points."""
    metrics = of_family("answer", "passage", "ranking", "utility")
    columns = {head: meaning.format(equivalence=equivalence) for head, meaning in COLUMNS.items()}
    return {metric.head: metric.definition for metric in metrics} | columns


def _bars(found: Mapping[str, Mapping], equivalence: float, off: Container[str]) -> dict[str, Any]:
    """Places on a drawing BAR wide of each difference and its ends, and of the region called equivalent.

    Runs in `off` may lie beyond the drawing, so that the others are not squeezed, and so may an interval's ends beyond
    a difference of 1.
    """
    near = [one for name, one in found.items() if name not in off]
    ends = [one[end] for one in near for end in ("low", "high", "mean") if one[end] is not None]
    reach = min(1.0, max([abs(end) for end in ends] + [1.5 * equivalence]))
    places = {name: {end: _place(one[end], reach) for end in ("low", "mean", "high")} for name, one in found.items()}
    equal = _place(-equivalence, reach)  # from there as far beyond the middle
    return {"width": BAR, "equal": [equal, round(BAR - 2 * equal, 1)], "runs": places}


def _place(value: float | None, reach: float) -> float | None:
    return None if value is None else round(BAR / 2 + value / reach * (BAR / 2 - 4), 1)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """What is set, as ("train.epochs", "3"); what is None is not."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode("ascii")
