"""Confirmation on unseen worlds, and the map of annotators' and labeller's errors: one experiment a world makes both.

    wanted(params, 8)                    {"world-101": {"data.seed": "101", "++labels.human_00.seed": "101000", …}, …}
    found = gather(…)                    the figures of each world
    analyse(design(params), found)       contrasts with their intervals over worlds, and the map

Each world is read and labelled once. It has runs on the labels of annotators who err more and more, and on those of a
reader to which errors are added. A label contrast is a run on a reader's labels minus one on annotators' labels. Means
and intervals are over worlds, simultaneous within a family: the four label contrasts with the reader as it is (the
primary family), those of each other measure, and the whole map.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bitter_retrieval.params import Params
from bitter_retrieval.statistics.worlds import OverWorlds, simultaneous_over_worlds
from bitter_retrieval.studies.experiments import Wanted
from bitter_retrieval.studies.replication import (
    Figures,
    ReplicationError,
    contrast,
    first_world,
    made_by,
    seeds,
)

WORLDS = 8  # detect 0.6 points (docs/spread.md)
Contrast = tuple[str, OverWorlds]  # with the run that varies
LABEL_LOSS, CONVERTED_LOSS = "infonce", "infonce_soft"  # the same loss, on marked passages and on those of lowest loss


@dataclass(frozen=True)
class Design:
    """The runs that are compared."""

    primary: str  # on the reader's labels as they are
    annotators: list[str]  # the same loss on annotators' labels
    labellers: list[str]  # the same loss on the reader's labels, with errors added or not; the primary is one
    losses: list[str]  # other losses on the labels of the primary
    labels: dict[str, str]  # source by run
    reader: str
    others: list[str]  # readers that made none of the labels


@dataclass(frozen=True)
class ErrorMap:
    """Label contrasts by the errors of both sides, each axis in ascending order; errors and differences are shares."""

    annotators: list[tuple[str, float]]  # run, share of training questions about which its labels are wrong
    labellers: list[tuple[str, float]]
    cells: list[list[OverWorlds]]  # [annotators, labellers]

    def grid(self, field: str) -> np.ndarray:
        """mean, low or high [annotators, labellers]."""
        return np.array([[getattr(cell, field) for cell in row] for row in self.cells])


@dataclass(frozen=True)
class Confirmation:
    """What the page says."""

    worlds: list[str]
    about: Figures
    made_by: str
    errors: dict[str, float]  # by run
    em: dict[str, float]  # by run and control, mean over worlds
    contrasts: list[Contrast]  # the primary family, by run on annotators' labels
    losses: list[Contrast]
    measures: dict[str, list[Contrast]]  # further families of the same contrasts, by measure
    errors_map: ErrorMap


# -- design ----------------------------------------------------------------------------------------------------------


def wanted(params: Params, worlds: int) -> Wanted:
    """Settings of the experiments by name. Raises ReplicationError unless params are of this study."""
    design(params)
    first = first_world(params, "confirm")
    return {f"world-{world}": seeds(params, world) for world in range(first, first + worlds)}


def design(params: Params) -> Design:
    """Which runs are compared. Raises ReplicationError if a side of the map has fewer than two runs."""
    runs, primary = params.runs, params.compare.primary
    kinds = {name: params.sources[run.labels].kind for name, run in runs.items()}
    annotators = [name for name, run in runs.items() if LABEL_LOSS in run.losses and kinds[name] == "annotators"]
    labellers = [name for name, run in runs.items() if CONVERTED_LOSS in run.losses]
    if primary not in labellers or min(len(annotators), len(labellers)) < 2:
        raise ReplicationError(
            f"params.yaml has the runs {', '.join(runs)}: a map needs {LABEL_LOSS} on labels of several annotators and "
            f"{CONVERTED_LOSS} on several soft labels, compare.primary ({primary}) among these. "
            "`python src/use_profile.py confirm` writes them."
        )
    labels = {name: run.labels for name, run in runs.items()}
    losses = [name for name in runs if labels[name] == labels[primary] and name != primary]
    reader = params.compare.reader
    return Design(
        primary, annotators, labellers, losses, labels, reader, [one for one in params.readers if one != reader]
    )


# -- analysis --------------------------------------------------------------------------------------------------------


def analyse(design: Design, found: Mapping[str, Figures]) -> Confirmation:
    """Raises ReplicationError on fewer than two worlds."""
    if len(found) < 2:
        raise ReplicationError(
            f"worlds with results: {len(found)}. Two are needed for an interval, as worlds are the unit."
        )
    first, primary, reader = next(iter(found.values())), design.primary, design.reader
    errors = {run: _error(found, design.labels[run]) for run in (*design.annotators, *design.labellers)}
    annotators, labellers = (
        sorted(runs, key=lambda run: errors[run]) for runs in (design.annotators, design.labellers)
    )
    label_contrasts = [(primary, run) for run in annotators]
    systems = first["scores"][reader]["em"]
    cells = _family(found, [(soft, run) for run in annotators for soft in labellers], reader, "em")
    return Confirmation(
        worlds=list(found),
        about=first["about"],
        made_by=made_by(found),
        errors=errors,
        em={name: float(np.mean([one["scores"][reader]["em"][name] for one in found.values()])) for name in systems},
        contrasts=list(zip(annotators, _family(found, label_contrasts, reader, "em"), strict=True)),
        losses=list(
            zip(design.losses, _family(found, [(run, primary) for run in design.losses], reader, "em"), strict=True)
        ),
        measures={
            words: list(zip(annotators, _family(found, label_contrasts, by, metric), strict=True))
            for words, by, metric in _measures(design)
        },
        errors_map=ErrorMap(
            [(run, errors[run]) for run in annotators],
            [(run, errors[run]) for run in labellers],
            [cells[at : at + len(labellers)] for at in range(0, len(cells), len(labellers))],
        ),
    )


def _measures(design: Design) -> list[tuple[str, str, str]]:
    """Words, reader and metric of the further families."""
    others = [(f"EM of {other}", other, "em") for other in design.others]
    return [("the passage truly supports", design.reader, "success"), *others]


def _family(
    found: Mapping[str, Figures], pairs: Sequence[tuple[str, str]], reader: str, metric: str
) -> list[OverWorlds]:
    """Differences of pairs of runs, whose intervals hold together."""
    if not pairs:
        return []
    differences = [contrast(found, run, other, reader, metric) for run, other in pairs]
    equivalence = next(iter(found.values()))["about"]["equivalence"]
    return simultaneous_over_worlds(np.transpose(differences), equivalence)


def _error(found: Mapping[str, Figures], source: str) -> float:
    """Share of training questions about which a source is wrong, mean over worlds."""
    shares = [one["errors"].get(source) for one in found.values()]
    if None in shares:
        raise ReplicationError(f"labels {source}: a report has no share of wrong labels (label_errors).")
    return float(np.mean(shares))


def break_even(places: Sequence[float], values: Sequence[float]) -> float:
    """Where values first fall to 0, linear between places in ascending order; -inf if at once, inf if nowhere."""
    if values[0] <= 0:
        return -math.inf
    for (place, value), (next_place, following) in pairwise(zip(places, values, strict=True)):
        if following <= 0:
            return place + (next_place - place) * value / (value - following)
    return math.inf
