"""The comparison: from outcomes on each evaluated question to a plain dict of estimates, differences and verdicts.

The dict is metrics/report.json. Shares lie in [0, 1], answer losses are in nats a token, null means undefined:

    {"about": {"baseline": "infonce_human", "primary": "infonce_a", "reader": "reader_a", "questions": 2560, …},
     "systems": {"infonce_a": {"kind": "run", "role": null, "labels": "reader_a", "encoder": "mini", "truncated": 0,
         "scores": {"reader_a": {"em": {"mean": 0.596, "low": 0.561, "high": 0.631, "seed_sd": 0.006, …}}}}},
     "differences": {"reader_a": {"em": {"infonce_a": {"mean": 0.046, "low": 0.017, …, "verdict": "better"}}}},
     "contrasts": {"reader_a": {"em": {"loss": {"mean": 0.011, "low": -0.012, …, "verdict": "inconclusive"}}}},
     "further": {"5": {"systems": {"kl_a": {"truncated": 0, "scores": {…}}}, "differences": {…}, "contrasts": {…}}},
     "beyond": {"questions": 500, "systems": {…}, "differences": {"reader_a": {"em": {"kl_a": {…}}, "retrieval": {…}}}},
     "negative_controls": {"kl_flat": {"untrained": {…}, "primary": {…}}},
     "missing": {"answers": 46080, "missing": 0, "coverage": 1.0, "reasons": {}}}

`differences` are to the baseline, by reader and metric, `contrasts` between two other runs, by name. One of them stands
alone: the primary run's, with the primary reader and the first number of passages shown, in exact match (and in answer
accuracy where that is primary too). All others are secondary, and those of a reader and metric hold simultaneously.

`further` holds results with other numbers of passages shown, by the entries of evaluate.shown from the second on, for
systems that retrieve. `beyond` is about questions from another domain, and empty without any; its differences are to
the encoder that a run started from, before training. A negative control is trained on labels that say nothing of which
of a question's passages helps: `untrained` is its difference to that encoder, `primary` the difference of the primary
run to it. An A/A run repeats the baseline with other seeds.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bitter_retrieval.statistics.metrics import METRICS
from bitter_retrieval.statistics.outcomes import ComparisonError, EvaluatedQuestions, JudgedAnswers, Outcomes
from bitter_retrieval.statistics.statistics import Design

CONTROLS = {
    "no_passage": "the reader answers without a passage",
    "random": "the reader is shown a random candidate of the question",
    "annotated": "the reader is shown the passage that the annotators selected (questions with one)",
    "oracle": "the reader is shown the candidate with its own lowest answer loss",
    "bm25": "BM25 ranks the corpus",
    "untrained": "the encoder ranks the corpus before any training",
}
BY_DEFINITION = {  # scores that a control has whatever the questions, by metric: these alone are certain
    "no_passage": {"harm": 0.0},
    "annotated": {"retrieval": 1.0},
    "oracle": {"regret": 0.0, "regret_labeller": 0.0},  # the second if the labeller answers
}
NEGATIVE = "negative control"  # trained on labels that say nothing of which of a question's passages helps
AGAIN = "A/A"  # trained as the baseline is, from other seeds
DIGITS = 6  # of every figure in report.json


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison: params.compare, the evaluated split, and the number of seeds of a run."""

    split: str
    baseline: str
    primary: str  # the soft-label run whose difference to the baseline is the primary figure
    reader: str  # of the primary figure
    readers: Sequence[str]
    label_source: str
    human_source: str
    seeds: int
    draws: int
    seed: int
    equivalence: float
    shown: Sequence[int] = (1,)  # evaluate.shown; the first is that of the primary figure
    contrasts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by name: a run and its own baseline
    primary_metrics: Sequence[str] = ("em",)  # those in which the primary difference stands alone


@dataclass(frozen=True)
class System:
    """A run or a control with its outcomes by reader."""

    kind: str  # run or control
    about: str
    labels: str | None  # label source of a run
    role: str | None  # NEGATIVE, AGAIN or None
    outcomes: Mapping[str, Outcomes]  # with the first number of passages shown
    further: Mapping[int, Mapping[str, Outcomes]] = field(
        default_factory=dict
    )  # by other numbers; of systems that retrieve
    beyond: Mapping[str, Outcomes] = field(default_factory=dict)  # on questions from another domain
    encoder: str | None = None  # that training starts from, or that ranks before training
    by_definition: Mapping[str, float] = field(default_factory=dict)  # BY_DEFINITION of a control


def compare(
    asked: EvaluatedQuestions,
    systems: Mapping[str, System],
    verdicts: JudgedAnswers,
    settings: Settings,
    beyond: EvaluatedQuestions,
    watch: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> dict[str, Any]:
    """The report. Raises ComparisonError if a run lacks a reader, a question or a seed that the baseline has.

    verdicts: those of the outcomes, to count missing ones. beyond: questions from another domain, if any. watch: wraps
    the names of systems as they are iterated, for a progress bar.
    """
    _check(systems, settings, asked, f"{settings.shown[0]} shown")
    design = Design(asked.groups, settings.seeds, settings.draws, settings.seed)
    compared = [row.name for row in METRICS.values() if row.compared]
    report = {
        "about": _about(asked, systems, settings),
        "systems": {name: _system(design, systems[name], settings.readers) for name in watch(list(systems))},
        **_differences(design, systems, compared, settings, settings.primary_metrics),
        "further": {shown: _further(design, systems, shown, asked, settings) for shown in settings.shown[1:]},
        "beyond": _beyond(systems, beyond, settings) if beyond.rows else {},
        "negative_controls": _negative_controls(design, systems, settings),
        "missing": {
            "answers": verdicts.asked,
            "missing": verdicts.reasons.total(),
            "coverage": 1 - verdicts.reasons.total() / verdicts.asked,
            "reasons": dict(sorted(verdicts.reasons.items())),
        },
    }
    return plain(report)


def plain(value: Any) -> Any:
    """A JSON value: dataclasses become dicts, numbers are rounded, NaN and infinities become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else None
    return value


def _about(asked: EvaluatedQuestions, systems: Mapping[str, System], settings: Settings) -> dict[str, Any]:
    return dataclasses.asdict(settings) | {
        "questions": len(asked.rows),
        "groups": len(set(asked.groups)),
        "without_human_label": asked.without_label,
        "roles_known": any(supporting is not None for supporting in asked.supporting),
    }


def _system(design: Design, system: System, readers: Sequence[str]) -> dict[str, Any]:
    named = ("kind", "role", "about", "labels", "encoder")
    about = {name: getattr(system, name) for name in named}
    return about | _scores(design, system, METRICS, readers)


def _scores(design: Design, system: System, metrics: Iterable[str], readers: Sequence[str]) -> dict[str, Any]:
    read = {reader: system.outcomes[reader] for reader in readers if reader in system.outcomes}
    return {
        "truncated": sum(outcomes.truncated for outcomes in read.values()),
        "scores": {
            reader: {metric: _estimate(design, system, metric, outcomes.scores[metric]) for metric in metrics}
            for reader, outcomes in read.items()
        },
    }


def _estimate(design: Design, system: System, metric: str, scores: np.ndarray) -> Any:
    certain = system.by_definition.get(metric)
    bounds = METRICS[metric].unit.bounds if certain is None else (certain, certain)
    return design.estimate(scores, bounds) if np.isfinite(scores).any() else None


def _further(
    design: Design, systems: Mapping[str, System], shown: int, asked: EvaluatedQuestions, settings: Settings
) -> dict[str, Any]:
    """Results with `shown` passages shown. Raises ComparisonError if a run lacks such answers."""
    read = {
        name: replace(system, outcomes=system.further.get(shown, {}))
        for name, system in systems.items()
        if system.kind == "run" or shown in system.further
    }
    _check(read, settings, asked, f"{shown} shown")
    metrics = [row.name for row in METRICS.values() if row.of_shown]
    compared = [name for name in metrics if METRICS[name].compared]
    return {
        "systems": {name: _scores(design, system, metrics, settings.readers) for name, system in read.items()},
        **_differences(design, read, compared, settings),
        "negative_controls": _negative_controls(design, read, settings),
    }


def _beyond(systems: Mapping[str, System], asked: EvaluatedQuestions, settings: Settings) -> dict[str, Any]:
    """Results on another domain. Raises ComparisonError if a run lacks answers to its questions."""
    design = Design(asked.groups, settings.seeds, settings.draws, settings.seed)
    read = {name: replace(system, outcomes=system.beyond) for name, system in systems.items()}
    _check(read, settings, asked, f"{settings.shown[0]} shown beyond the domain")
    runs = [name for name, system in read.items() if system.kind == "run"]
    told = [row.name for row in METRICS.values() if row.beyond]
    return {
        "questions": len(asked.rows),
        "groups": len(set(asked.groups)),
        "without_human_label": asked.without_label,
        "systems": {name: _scores(design, system, METRICS, settings.readers) for name, system in read.items()},
        "differences": {
            reader: {metric: _learnt(design, read, runs, reader, metric, settings) for metric in told}
            for reader in settings.readers
        },
    }


def _differences(
    design: Design,
    systems: Mapping[str, System],
    metrics: Iterable[str],
    settings: Settings,
    alone: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """`differences` and `contrasts`, by reader and metric. alone: metrics in which the primary one stands alone."""
    others = [name for name, system in systems.items() if system.kind == "run" and name != settings.baseline]
    differences = {name: (name, settings.baseline) for name in others}
    contrasts = {name: (run, baseline) for name, (run, baseline) in settings.contrasts.items()}
    found: dict[str, dict[str, Any]] = {"differences": {}, "contrasts": {}}
    for reader in settings.readers:
        for metric in metrics:
            primary = [settings.primary] if reader == settings.reader and metric in alone else []
            made: dict[str, Any] = {}
            for family in ([n for n in (*differences, *contrasts) if n not in primary], primary):
                pairs = {name: (differences | contrasts)[name] for name in family}
                made |= _compared(design, systems, pairs, reader, metric, settings.equivalence)
            for part, names in {"differences": differences, "contrasts": contrasts}.items():
                found[part].setdefault(reader, {})[metric] = {name: made[name] for name in names if name in made}
    return found


def _compared(
    design: Design,
    systems: Mapping[str, System],
    pairs: Mapping[str, tuple[str, str]],
    reader: str,
    metric: str,
    equivalence: float,
) -> dict[str, Any]:
    """Differences of the named pairs of systems that have at least one question with both scores, simultaneously."""
    scores = {
        name: (systems[first].outcomes[reader].scores[metric], systems[second].outcomes[reader].scores[metric])
        for name, (first, second) in pairs.items()
    }
    paired = {name: (first, second) for name, (first, second) in scores.items() if np.isfinite(first - second).any()}
    return dict(design.differences(paired, equivalence))


def _negative_controls(design: Design, systems: Mapping[str, System], settings: Settings) -> dict[str, Any]:
    """Exact match of each negative control against the untrained encoder, and of the primary run against it."""
    names, how = [name for name, system in systems.items() if system.role == NEGATIVE], (settings.reader, "em")
    learnt, found = _learnt(design, systems, names, *how, settings), {}
    for name in names:
        pairs = {"primary": (settings.primary, name)} if name != settings.primary else {}
        over = _compared(design, systems, pairs, *how, settings.equivalence)
        found[name] = {"untrained": learnt.get(name), "primary": over.get("primary")}
    return found


def _learnt(
    design: Design, systems: Mapping[str, System], runs: Sequence[str], reader: str, metric: str, settings: Settings
) -> dict[str, Any]:
    """Runs against the encoders that they started from, before training; runs of one encoder share an adjustment."""
    found: dict[str, Any] = {}
    for start, untrained in systems.items():
        if untrained.kind == "control" and untrained.encoder and reader in untrained.outcomes:
            pairs = {name: (name, start) for name in runs if systems[name].encoder == untrained.encoder}
            found |= _compared(design, systems, pairs, reader, metric, settings.equivalence)
    return found


def _check(systems: Mapping[str, System], settings: Settings, asked: EvaluatedQuestions, shown: str) -> None:
    for name, system in systems.items():
        for reader in settings.readers:
            if system.kind == "run":
                answers = f"reader {reader!r} with {shown}"
                _check_run(name, answers, system.outcomes.get(reader), settings, asked)
            elif reader in system.outcomes:
                _check_control(name, system.outcomes[reader], settings)


def _check_control(name: str, found: Outcomes, settings: Settings) -> None:
    if len(found.seeds) not in (1, settings.seeds):
        raise ComparisonError(
            f"control {name!r} has {len(found.seeds)} draws, train.seeds has {settings.seeds}: give it as many or 1 "
            "(control.random_draws), then run `dvc repro`."
        )


def _check_run(
    name: str, answers_of: str, found: Outcomes | None, settings: Settings, asked: EvaluatedQuestions
) -> None:
    remedy = f"run `dvc repro evaluate@{name}`."
    if found is None:
        raise ComparisonError(f"data/predictions/runs/{name}.parquet has no answers of {answers_of}: {remedy}")
    if len(found.seeds) != settings.seeds:
        raise ComparisonError(
            f"run {name!r} has {len(found.seeds)} seeds {list(found.seeds)}, train.seeds has {settings.seeds}: "
            f"runs are paired seed by seed. Give runs.{name}.seeds {settings.seeds} seeds, or {remedy}"
        )
    absent = [row["query_id"] for row, answers in zip(asked.rows, found.answers.T, strict=True) if None in answers]
    if absent:
        raise ComparisonError(
            f"data/predictions/runs/{name}.parquet lacks {len(absent)} of {len(asked.rows)} questions "
            f"for some seed of {answers_of}, {absent[0]!r} first: {remedy}"
        )
