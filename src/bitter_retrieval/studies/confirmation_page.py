"""The page of the confirmation: markdown(analyse(design, found), design, 8, commands, "../plots/map.png")."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.statistics.worlds import OverWorlds
from bitter_retrieval.studies.confirmation import Confirmation, Contrast, Design, ErrorMap, break_even
from bitter_retrieval.studies.replication import TARGET, paragraph, unfinished_words, worlds_needed

HEADS = ["difference, points [95%]", "p", "MDE", "worlds above 0", "verdict"]


def markdown(found: Confirmation, design: Design, asked: int, commands: Sequence[str], picture: str) -> str:
    """docs/confirm.md. asked: worlds of the whole study."""
    seeds = "one seed" if found.about["seeds"] == 1 else f"{found.about['seeds']} seeds"
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
                f"them, and every run is trained from {seeds} of that world. These "
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
