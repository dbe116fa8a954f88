"""Agreement of two judges on the answers of every run and control.

    python src/agreement.py data/judgements.parquet                 # against the rule, which is free
    python src/agreement.py data/judgements.parquet other.parquet

Each file holds the verdicts of one judge, as the stage judge writes them: keep a copy before another judge replaces it
(`dvc get . data/judgements.parquet --rev <commit> -o other.parquet` fetches the file of a commit). Answers come from
data/predictions; each distinct one counts once, over all and by run.
"""

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from bitter_retrieval.command_line import Parser, run_stage

# isort: split
from rich import box
from rich.table import Table

from bitter_retrieval.judging.agreement import Agreement, Verdicts, agreement
from bitter_retrieval.judging.judges import Case, RuleJudge, answered, judgements
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.records import JUDGEMENTS, read_rows
from bitter_retrieval.reporting import tables

PREPARED_FOLDER = Path("data/prepared")
PREDICTED = Path("data/predictions")
Cases = dict[Case, str]  # group of the question by case


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("first", type=Path, help="judgements of one judge")
    parser.add_argument("second", type=Path, nargs="?", help="judgements of another; by default the rule's")
    options = parser.parse_args(arguments)
    params = load_params()
    systems = by_system(params)
    everything: Cases = dict(chain.from_iterable(cases.items() for cases in systems.values()))
    first = Verdicts(read_rows(options.first, JUDGEMENTS), str(options.first))
    if options.second is None:
        second = Verdicts(judgements(RuleJudge(), everything), "the rule")
    else:
        second = Verdicts(read_rows(options.second, JUDGEMENTS), str(options.second))
    found = {
        name: agreement(cases, first, second, params.compare.draws, params.compare.seed)
        for name, cases in {"all": everything, **systems}.items()
    }
    show(found, first, second)


def by_system(params: Params) -> dict[str, Cases]:
    """The distinct answers of each run of params and of each control."""
    prepared = (PREPARED_FOLDER / f"{name}.parquet" for name in (params.evaluate.split, "beyond"))
    folders = {"runs": params.runs, "controls": params.controls}
    files = [PREDICTED / folder / f"{name}.parquet" for folder, names in folders.items() for name in names]
    return dict(zip((file.stem for file in files), answered(files, *prepared), strict=True))


def show(found: dict[str, Agreement], first: Verdicts, second: Verdicts) -> None:
    console = tables.console()
    everything = found["all"]
    names = [f"{said.judge} ({said.model})" for said in (first, second)]
    a, b, c, d = everything.counts
    console.print(f"First judge: {names[0]}\nSecond judge: {names[1]}", soft_wrap=True)
    console.print(f"Correct by both {a:,}, by the first alone {b:,}, by the second alone {c:,}, by neither {d:,}.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = ("", "answers", "agree %", "kappa [95%]", "correct %", "incorrect %", "1st %", "2nd %", "left out")
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for name, one in found.items():
        table.add_row(name, *cells(one), end_section=name == "all")
    console.print(table)
    console.print(
        "agree: same verdict; correct, incorrect: of the verdicts of this class by either judge, the share on which "
        "the other agrees; 1st, 2nd: judged correct by each; left out: answers without a verdict of both.",
        soft_wrap=True,
    )


def cells(one: Agreement) -> list[str]:
    shares = one.observed, one.on_correct, one.on_incorrect, one.first_rate, one.second_rate
    percent = [f"{100 * share:.1f}" if math.isfinite(share) else "-" for share in shares]
    interval = f" [{one.low:.2f}, {one.high:.2f}]" if math.isfinite(one.low) else ""
    kappa = f"{one.kappa:.2f}{interval}" if math.isfinite(one.kappa) else "undefined"
    left_out = one.first_alone + one.second_alone + one.neither
    return [f"{one.answers:,}", percent[0], kappa, *percent[1:], f"{left_out:,}"]


if __name__ == "__main__":
    run_stage(main)
