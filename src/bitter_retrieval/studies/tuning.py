"""Tuning: every run gets the same number of trials, all judged by the answers to validation questions.

    trials(params)["trial-3"]        {"++runs.kl_a.learning_rate": "0.001", "runs.kl_a.temperature.student": "0.2", …}
    outcomes(params, reports)["kl_a"]  Outcome(settings=[{…}, …], em=[0.61, …], se=[0.02, …], best=4, chosen=0)

A trial sets all runs at once. A run's grid is the product of three learning rates and three values of its own dial: the
margin or student's temperature of its heaviest loss. A loss that has neither (mse) gets as many learning rates instead.
Trial 0 has the starting values, and the first trial within one standard error of the best is taken: a run leaves its
starting values only for a visible gain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitter_retrieval.params import Params
from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.studies.experiments import ExperimentError, Wanted
from bitter_retrieval.training.settings import LOSSES, Run

FACTORS = (1, 0.5, 2)  # of the learning rate, and of the dial
MORE_FACTORS = (1, 0.5, 2, 0.25, 4, 0.71, 1.41, 0.125, 8)  # of the learning rate alone
DIALS = ("margin", "temperature.student")  # a run's dial is the first that its loss reads
NORMAL = 1.96  # standard errors in half a 95% interval
Settings = dict[str, float]


class TuningError(ExperimentError):
    """Trials that cannot be queued or read, and what to do about it."""


@dataclass(frozen=True)
class Outcome:
    """The trials of one run in order, and which of them is taken."""

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
    """Two significant digits, so that the published value is the one that ran."""
    return float(f"{value:.2g}")


def trials(params: Params) -> Wanted:
    """Settings of each experiment by name. Raises TuningError unless validation questions are answered."""
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
    """Outcome by run. reports: metrics/report.json by name, in the order of trials()."""
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
    """The page: what was chosen, and every trial of every run."""
    chosen = [[name, *_taken(one)] for name, one in found.items()]
    lines = [
        "# Tuning",
        "",
        "Written by `python src/study.py tune table` from DVC experiments. To make it again:",
        "",
        *["    " + command for command in commands],
        "",
        f"Every run has {len(MORE_FACTORS)} trials: three learning rates times three values of its own temperature or",
        "margin, or as many learning rates where its loss has neither. The criterion is the same for all: exact match",
        f"of {about['reader']} on {about['questions']} validation questions, {about['seeds']} seed. The trial taken is",
        "the first within one standard error of the best; trial 0 has the starting values. Test questions played no",
        "part.",
        "",
        markdown_table(["run", "taken", "EM %", "best", "EM % ± se"], chosen),
        "",
        "The grid, EM %; **taken**, *best*:",
        "",
    ]
    for name, one in found.items():
        lines += [f"**{name}**", "", markdown_table(["trial", "settings", "EM %", "se"], _trials(one)), ""]
    return "\n".join(lines)


def _taken(one: Outcome) -> list[str]:
    """Cells on the trial that is taken, and on the best."""
    taken, best = one.chosen, one.best
    best_em = f"{wording.size(one.em[best])} ± {wording.size(one.se[best])}"
    return [_said(one.settings[taken]), wording.size(one.em[taken]), _said(one.settings[best]), best_em]


def _trials(one: Outcome) -> Iterator[list[str]]:
    """A row of cells a trial."""
    for place, settings in enumerate(one.settings):
        mark = "**" * (place == one.chosen) or "*" * (place == one.best)
        yield [str(place), _said(settings), f"{mark}{wording.size(one.em[place])}{mark}", wording.size(one.se[place])]


def _said(settings: Settings) -> str:
    return ", ".join(f"{key.split('.')[-1].replace('_', ' ')} {value:g}" for key, value in settings.items())
