"""Confirmation on unseen worlds, and the map of annotators' and labeller's errors: one experiment a world makes both.

    wanted(params, 16)                   {"world-101": {"data.seed": "101", "++labels.human_00.seed": "101000", …}, …}
    found = gather(…)                    the figures of each world
    analyse(design(params), found)       contrasts with their intervals over worlds, and the map
    markdown(…)                          docs/confirm.md

Each world is read and labelled once. It has runs on the labels of annotators who err more and more, and on those of a
reader to which errors are added. A label contrast is a run on a reader's labels minus one on annotators' labels. Means
and intervals are over worlds, simultaneous within a family: the four label contrasts with the reader as it is (the
primary family), those of each other measure, and the whole map.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from bitter_retrieval.params import Params
from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.statistics.worlds import OverWorlds, simultaneous_over_worlds
from bitter_retrieval.studies.experiments import Wanted
from bitter_retrieval.studies.replication import (
    TARGET,
    Figures,
    ReplicationError,
    contrast,
    first_world,
    made_by,
    paragraph,
    seeds,
    unfinished_words,
    worlds_needed,
)

WORLDS = 16
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
        raise ReplicationError(f"{len(found)} world is in: two are needed for an interval, as worlds are the unit.")
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


# -- the page --------------------------------------------------------------------------------------------------------

HEADS = ["difference, points [95%]", "p", "MDE", "worlds above 0", "verdict"]


def markdown(found: Confirmation, design: Design, asked: int, commands: Sequence[str], picture: str) -> str:
    """docs/confirm.md. asked: worlds of the whole study."""
    return "\n".join(
        [
            f"# Confirmation on {len(found.worlds)} unseen worlds",
            "",
            "Written by `python src/study.py confirm table` from DVC experiments. To make it again:",
            "",
            *["    " + command for command in commands],
            "",
            *unfinished_words(len(found.worlds), asked),
            paragraph(
                "Each world repeats the whole experiment with frozen parameters: the generator draws other entities, "
                "facts, passages and questions, reader and encoder are fitted on them, the reader and annotators label "
                f"them, and every run is trained {found.about['seeds']} times, all with seeds of that world. These "
                "worlds were not looked at in development. The unit is the world: intervals hold for further worlds of "
                "this generator with these parameters, and for no other text.",
                found.made_by,
            ),
            "",
            *_primary(found, design),
            *_losses(found, design),
            *[line for words, family in found.measures.items() for line in _measure(words, family)],
            *_map(found.errors_map, picture),
            *_each_world(found, design),
        ]
    )


def _primary(found: Confirmation, design: Design) -> list[str]:
    rows = [
        [run, wording.size(found.errors[run]), *_cells(one), *_power(one)]  # a row a level of annotators
        for run, one in found.contrasts
    ]
    target = f"{100 * TARGET:g}"
    return [
        "## Labels, by annotators' error",
        "",
        paragraph(
            f"The primary figure: exact match of {design.reader} after training on its own labels (`{design.primary}`, "
            "the passage of lowest loss) minus after training on annotators' labels with the same loss. Error: share "
            "of training questions whose label does not truly support the answer; the reader's is "
            f"{wording.percent(found.errors[design.primary])}."
        ),
        "",
        markdown_table(["annotators", "error %", *HEADS, "sd", f"worlds for {target}"], rows),
        "",
        paragraph(
            f"The {len(rows)} intervals hold simultaneously, and p is adjusted to match (largest |t| over the "
            "contrasts). MDE: the true difference that this row calls better or worse with 80% power. Equivalent: "
            f"shown to be within ±{100 * found.about['equivalence']:g} points by two one-sided t tests of that row "
            "alone. sd: standard deviation over worlds, in points; the last column is how many worlds find "
            f"{target} points with 80% power if a row stands alone."
        ),
        "",
        *[f"- {_sentence(run, found.errors[run], one)}" for run, one in found.contrasts],
        "",
    ]


def _cells(one: OverWorlds) -> list[str]:
    above = f"{one.above} of {len(one.worlds)}"
    return [wording.points(asdict(one)), wording.probability(one.p), _mde(one), above, one.verdict]


def _mde(one: OverWorlds) -> str:
    return wording.NOTHING if math.isnan(one.mde) else wording.size(one.mde)


def _power(one: OverWorlds) -> list[str]:
    """Standard deviation over worlds, and worlds needed."""
    sd = one.se * len(one.worlds) ** 0.5
    return [wording.size(sd), str(worlds_needed(sd))]


def _sentence(run: str, error: float, one: OverWorlds) -> str:
    said = {
        "better": "soft labels answer more questions",
        "worse": "annotators' labels answer more questions",
        "equivalent": "both answer as many questions",
        "inconclusive": "it is open which labels answer more questions",
    }[one.verdict]
    return f"Annotators wrong about {wording.percent(error)} (`{run}`): {said}, {wording.points(asdict(one))}."


def _losses(found: Confirmation, design: Design) -> list[str]:
    if not found.losses:
        return []
    rows = [[f"{run} − {design.primary}", *_cells(one)] for run, one in found.losses]
    title = "## Another loss on the same labels (secondary)"
    return [title, "", f"Exact match of {design.reader}:", "", markdown_table(["contrast", *HEADS], rows), ""]


def _measure(words: str, family: Sequence[Contrast]) -> list[str]:
    rows = [[run, *_cells(one)] for run, one in family]
    title = f"## The label contrast in another measure: {words} (secondary)"
    return [title, "", markdown_table(["annotators", *HEADS], rows), ""]


def _map(found: ErrorMap, picture: str) -> list[str]:
    """Picture, and a table with a row a level of annotators and a column a level of the labeller."""
    places = [error for _, error in found.labellers]
    heads = ["annotators, error", *(f"labeller {wording.percent(place)}" for place in places)]
    rows = [
        [f"{run}, {wording.percent(error)}", *(wording.points(asdict(cell)) for cell in cells), _even(cells, places)]
        for (run, error), cells in zip(found.annotators, found.cells, strict=True)
    ]
    return [
        "## Annotators' error and labeller's error",
        "",
        f"![Difference of the label contrast by both errors, with the break-even line]({picture})",
        "",
        paragraph(
            "Training on soft labels minus training on annotators' labels, points of exact match. Errors were added to "
            "the reader's losses, so that its lowest-loss passage is wrong more often from left to right.",
            f"The {sum(map(len, found.cells))} intervals hold simultaneously.",
        ),
        "",
        markdown_table([*heads, "break-even, labeller's error %"], rows),
        "",
        paragraph(
            "Break-even: the labeller's error at which the difference is 0, linear between the columns; in brackets, "
            "where the lower and the upper end of the interval are 0."
        ),
        "",
    ]


def _even(cells: Sequence[OverWorlds], places: Sequence[float]) -> str:
    """Break-even with its interval, as in "7.4 [5.1, above 9.8]"."""
    mean, low, high = (
        _place(break_even(places, [getattr(cell, field) for cell in cells]), places)
        for field in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def _place(place: float, places: Sequence[float]) -> str:
    if math.isinf(place):
        return f"above {wording.size(places[-1])}" if place > 0 else f"below {wording.size(places[0])}"
    return wording.size(place)


def _each_world(found: Confirmation, design: Design) -> list[str]:
    runs, values = zip(*((run, one.worlds) for run, one in found.contrasts), strict=True)
    rows = [
        [world, *map(wording.signed, of_world)]
        for world, of_world in zip(found.worlds, zip(*values, strict=True), strict=True)
    ]
    return [
        "## Each world",
        "",
        f"Label contrast in points of exact match of {design.reader}:",
        "",
        markdown_table(["world", *runs], rows),
        "",
        f"Exact match of {design.reader}, %, mean over worlds:",
        "",
        markdown_table(["run or control", "EM %"], [[name, wording.size(em)] for name, em in found.em.items()]),
        "",
    ]
