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
from bitter_retrieval.statistics.comparison import COMPARED

HEADS = {
    "em": "EM",
    "f1": "F1",
    "accuracy": "Answer accuracy",
    "answer_nll": "Answer NLL",
    "retrieval": "Retrieval accuracy",
    "success": "True support",
}
SECONDARY_HEADS = {
    "ndcg_10": "nDCG@10",
    "mrr_10": "MRR@10",
    "recall_1": "Recall@1",
    "recall_5": "Recall@5",
    "recall_10": "Recall@10",
    "regret": "Regret",
    "regret_labeller": "Regret of the labeller",
    "harm": "Harm",
    "empty": "Empty passage",
}
OTHER_HEADS = {
    "labels": "Labels",
    "difference": "Difference",
    "p": "Adjusted p",
    "verdict": "Verdict",
    "mde": "MDE",
    "seed_sd": "Seed sd",
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
        heads=HEADS,
        secondary_heads=SECONDARY_HEADS,
        beyond_heads=list(wording.BEYOND.values()) if report["beyond"] else [],
        compared=COMPARED,
        kinds={"Runs": _of_kind(report, "run"), "Controls": _of_kind(report, "control")},
        definitions=_definitions(about),
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


def _definitions(about: Mapping[str, Any]) -> dict[str, str]:
    meaning = {name: words.format(equivalence=100 * about["equivalence"]) for name, words in wording.MEANING.items()}
    return {head: meaning[name] for name, head in (HEADS | SECONDARY_HEADS | OTHER_HEADS).items()}


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
