"""Tuning: every run gets the same number of trials, judged alike by the answers to validation questions.

    trials(params)["trial-3"]        {"++runs.kl.learning_rate": "0.001", "runs.kl.temperature.teacher": "0.4", …}
    outcomes(params, reports)["kl"]  Outcome(settings=[{…}, …], em=[0.61, …], se=[0.02, …], best=4, chosen=0)

A trial sets all runs at once. A run's grid is the product of three learning rates and three values of its own dial: the
temperature or margin of its heaviest loss. A loss that has neither (mse) gets as many learning rates instead. The first
trial is where the run starts from, and of trials within one standard error of the best the first one is taken: a run
leaves its starting values only where that shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitter_retrieval.params import Params
from bitter_retrieval.reporting import wording
from bitter_retrieval.studies.experiments import ExperimentError, Wanted
from bitter_retrieval.training.settings import LOSSES, Run

FACTORS = (1, 0.5, 2)  # of the learning rate, and of the dial
MORE_FACTORS = (1, 0.5, 2, 0.25, 4, 0.71, 1.41, 0.125, 8)  # of the learning rate alone
DIALS = ("margin", "temperature.teacher", "temperature.student")  # a run is tuned by the first that its loss has
NORMAL = 1.96  # half-widths of a 95% interval are so many standard errors
Settings = dict[str, float]


class TuningError(ExperimentError):
    """Trials that cannot be queued or read, and what to do about it."""


@dataclass(frozen=True)
class Outcome:
    """Of one run: its trials in order, and which of them is taken."""

    settings: list[Settings]  # learning_rate, and the dial if it has one
    em: list[float]  # exact match on validation, a share
    se: list[float]  # its standard error, from the interval of the report
    best: int
    chosen: int


def grid(run: Run, learning_rate: float) -> list[Settings]:
    """The trials of one run, the starting values first."""
    rate = run.learning_rate or learning_rate
    heaviest = max(run.losses, key=lambda name: run.losses[name])
    dial = next((dial for dial in DIALS if dial in LOSSES[heaviest].dials), None)
    if dial is None:
        return [{"learning_rate": _short(rate * factor)} for factor in MORE_FACTORS]
    start = run.margin if dial == "margin" else getattr(run.temperature, dial.split(".")[1])
    return [
        {"learning_rate": _short(rate * factor), dial: _short(start * other)} for factor in FACTORS for other in FACTORS
    ]


def _short(value: float) -> float:
    """Two significant digits: what is published is what was run."""
    return float(f"{value:.2g}")


def trials(params: Params) -> Wanted:
    """Settings of each experiment by name. Raises TuningError if it would be the test questions that are answered."""
    if params.evaluate.split != "validation":
        raise TuningError(
            f"evaluate.split is {params.evaluate.split}: settings are chosen on validation. "
            "`python src/use_profile.py tuning` writes such parameters."
        )
    grids = _grids(params)
    return {
        f"trial-{place}": {
            f"{'++' if key == 'learning_rate' else ''}runs.{name}.{key}": f"{value:.8f}".rstrip("0")
            for name, settings in grids.items()
            for key, value in settings[place].items()
        }
        for place in range(len(MORE_FACTORS))
    }


def _grids(params: Params) -> dict[str, list[Settings]]:
    return {name: grid(run, params.train.learning_rate) for name, run in params.runs.items()}


def outcomes(params: Params, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcome]:
    """By run, what its trials gave. reports: metrics/report.json by name, in the order of trials()."""
    found = {}
    for name, settings in _grids(params).items():
        scores = [report["systems"][name]["scores"][params.compare.reader]["em"] for report in reports.values()]
        em = [score["mean"] for score in scores]
        se = [(score["high"] - score["low"]) / (2 * NORMAL) for score in scores]
        best, chosen = choose(em, se)
        found[name] = Outcome(settings, em, se, best, chosen)
    return found


def choose(em: Sequence[float], se: Sequence[float]) -> tuple[int, int]:
    """The best trial, and the first one within one standard error of it (Breiman et al. 1984, CART, section 3.4.3)."""
    best = max(range(len(em)), key=lambda place: em[place])
    return best, next(place for place, value in enumerate(em) if value >= em[best] - se[best])


def markdown(found: Mapping[str, Outcome], about: Mapping[str, Any], commands: Sequence[str]) -> str:
    """A page with what was chosen, and every trial of every run."""
    lines = [
        "# Tuning",
        "",
        "Written by `python src/study.py tune table` from DVC experiments. Again:",
        "",
        *["    " + command for command in commands],
        "",
        f"Every run has {len(MORE_FACTORS)} trials: three learning rates times three values of its own temperature or",
        "margin, or as many learning rates where its loss has neither. The criterion is the same for all: exact match",
        f"of {about['reader']} on {about['questions']} validation questions, {about['seeds']} seed. Taken is the first",
        "trial within one standard error of the best; the first of all is where the run started from. Test questions",
        "had no part in it.",
        "",
        "| run | taken | EM % | best | EM % ± se |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        taken, best = one.chosen, one.best
        best_em = f"{wording.size(one.em[best])} ± {wording.size(one.se[best])}"
        cells = name, _said(one.settings[taken]), wording.size(one.em[taken]), _said(one.settings[best]), best_em
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "The grid, EM %; **taken**, *best*:", ""]
    for name, one in found.items():
        lines += [f"**{name}**", "", "| trial | settings | EM % | se |", "| --- | --- | --- | --- |"]
        for place, settings in enumerate(one.settings):
            mark = "**" * (place == one.chosen) or "*" * (place == one.best)
            em = f"{mark}{wording.size(one.em[place])}{mark}"
            lines.append(f"| {place} | {_said(settings)} | {em} | {wording.size(one.se[place])} |")
        lines.append("")
    return "\n".join(lines)


def _said(settings: Settings) -> str:
    return ", ".join(f"{key.split('.')[-1].replace('_', ' ')} {value:g}" for key, value in settings.items())
