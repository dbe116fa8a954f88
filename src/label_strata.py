"""How often a reader's lowest loss is the passage that people marked, by kind of question.

    python src/label_strata.py smollm2 human
    python src/label_strata.py smollm2 human --split test

The first source is soft, the second binary; their labels and the questions are those of the last run.
"""

from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser, run_stage

# isort: split
from rich import box
from rich.table import Table

from bitter_retrieval.params import load_params
from bitter_retrieval.records import BINARY_LABELS, PREPARED, SOFT_LABELS, read_rows
from bitter_retrieval.reporting import tables, wording
from bitter_retrieval.statistics.comparison import plain
from bitter_retrieval.statistics.label_agreement import Stratum, strata
from bitter_retrieval.statistics.statistics import Design

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("soft", help="label source with losses")
    parser.add_argument("binary", help="label source with marks")
    parser.add_argument("--split", default="train", choices=["train", "validation", "test"])
    options = parser.parse_args(arguments)
    settings = load_params().compare
    rows = read_rows(PREPARED_FOLDER / f"{options.split}.parquet", PREPARED)
    soft = read_rows(LABELS / options.soft / f"{options.split}.parquet", SOFT_LABELS)
    binary = read_rows(LABELS / options.binary / f"{options.split}.parquet", BINARY_LABELS)
    found = strata(rows, soft, binary, Design([row["group_id"] for row in rows], 1, settings.draws, settings.seed))
    show(found, f"{options.soft} and {options.binary}, split {options.split}", len(rows))


def show(found: list[Stratum], title: str, questions: int) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for place, head in enumerate(("", "", "questions", "marked, % [95%]", "chance", "else an answer, % [95%]")):
        table.add_column(head, justify="right" if place > 1 else "left", no_wrap=True)
    by = None
    for one in found:
        counts = (
            f"{one.agreed.n_questions:,}",
            wording.bracketed(plain(one.agreed)),
            f"{100 * one.chance:.1f}",
            wording.bracketed(plain(one.answered)),
        )
        table.add_row(one.by if one.by != by else "", one.kind, *counts)
        by = one.by
    console = tables.console()
    console.print(table)
    compared = found[0].agreed.n_questions if found else 0
    console.print(
        "marked: the passage of lowest loss is a marked one; chance: the same for a random candidate; else an answer: "
        f"how often it holds a reference answer where it is not marked. {questions - compared:,} of {questions:,} "
        "questions left out: fewer than two candidates that both sources label, or all of them level.",
        soft_wrap=True,
    )


if __name__ == "__main__":
    run_stage(main)
