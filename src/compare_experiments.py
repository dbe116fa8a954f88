"""Experiments, commits and the workspace side by side, in 140 columns; `make compare`.

    python src/compare_experiments.py                              # the last commit, the workspace, all experiments
    python src/compare_experiments.py main more workspace          # these: branches, tags, commits, experiments
    python src/compare_experiments.py --pair main more             # also the difference of a run, question by question
    python src/compare_experiments.py --pair --run kl_a --metric success   # of all that are done, to the first
    python src/compare_experiments.py --plot em train.epochs       # plots/em_by_train.epochs.png

A row has what differs from the first row in the parameters, and the primary figures of metrics/report.json in per cent
with 95% intervals. What failed, is queued or runs has no figures (`dvc exp show` gives a failed experiment those of its
commit), nor has a workspace or a commit whose parameters were changed after its last run: "not run".

--pair reads predictions (and, for accuracy, judgements) of each revision from DVC's cache or remote, pairs them by
question and seed, and gives simultaneous intervals as the stage compare does. Questions that are not in both are
counted and left out; other data are refused. Without names, what cannot be paired is left out with the reason.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser, run_stage, track

# isort: split
from rich import box
from rich.console import Console
from rich.table import Table

from bitter_retrieval.plain_text import PlainConsole
from bitter_retrieval.reporting import tables, wording
from bitter_retrieval.statistics.comparison import plain
from bitter_retrieval.statistics.metrics import METRICS
from bitter_retrieval.statistics.outcomes import ComparisonError
from bitter_retrieval.studies import parameter_plot
from bitter_retrieval.studies.experiments import ExperimentError
from bitter_retrieval.studies.pairs import COMPARED, Answers, Pair, aligned, paired, stored_answers
from bitter_retrieval.studies.revisions import Revision, changes, listed, measured, named, primary
from bitter_retrieval.typed_yaml import one_of

WIDTH = 140
SHOWN = 6  # changes of a row that are written out
PLOTS = Path("plots")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    found = named(options.revisions, options.rev) if options.revisions else listed(options.rev)
    console = wide_enough()
    show(found, console)
    if options.pair:
        compare(found, options, console)
    if options.plot:
        plot(found, *options.plot)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "revisions", nargs="*", help="workspace, experiments, branches, tags, commits; the first is the base"
    )
    parser.add_argument("--rev", default="HEAD", help="commit that the experiments started from")
    parser.add_argument("--pair", action="store_true", help="difference of a run to the first revision")
    parser.add_argument("--run", help="run of --pair; by default the primary run of the first")
    parser.add_argument("--metric", choices=COMPARED, default="em", help="metric of --pair (default em)")
    parser.add_argument("--plot", nargs=2, metavar=("METRIC", "PARAM"), help="picture of a metric by a parameter")
    options = parser.parse_args(arguments)
    if not options.pair and (options.run or options.metric != "em"):
        parser.error("--run and --metric go with --pair")
    if options.plot:
        one_of(options.plot[0], METRICS, "--plot")
    return options


def wide_enough() -> Console:
    """As wide as the terminal, and WIDTH at most."""
    found = PlainConsole()
    return found if found.is_terminal and found.width < WIDTH else tables.console(width=WIDTH)


def show(found: Sequence[Revision], console: Console) -> None:
    base = found[0]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("revision", "state", f"differs from {base.name} in"):
        table.add_column(head, overflow="fold")
    for head in ("baseline", "primary", "difference"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in found:
        table.add_row(one.name, one.state, told(changes(one, base)), *cells(one))
    console.print(table)
    kinds: dict[str, list[str]] = {}
    for one in found:
        if one.report:
            kinds.setdefault(measured(one), []).append(one.name)
    for kind, names in kinds.items():
        console.print(f"{', '.join(names) if len(kinds) > 1 else 'Figures'}: exact match of {kind}, % [95%].")


def told(found: Sequence[str]) -> str:
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def cells(one: Revision) -> list[str]:
    if one.report is None:
        return [wording.NOTHING] * 3
    figures = primary(one)
    return [
        *(wording.bracketed(figures[which]) for which in ("baseline", "primary")),
        wording.points(figures["difference"]),
    ]


def compare(found: Sequence[Revision], options: argparse.Namespace, console: Console) -> None:
    """Differences of one run to the first revision; without names, of what is done."""
    done = found if options.revisions else [one for one in found if one.report]
    if len(done) < 2:
        raise ExperimentError(f"--pair: {len(done)} of {len(found)} revisions are done; a difference needs two.")
    first = done[0]
    run = options.run or first.figures["about"]["primary"]
    answers: list[Answers] = []
    with tempfile.TemporaryDirectory() as folder:
        for one in track(done, "read predictions", unit="revisions"):
            try:
                found_here = stored_answers(one, run, options.metric, Path(folder))
                aligned(answers[0] if answers else found_here, found_here)
                answers.append(found_here)
            except (ExperimentError, ComparisonError) as error:
                if options.revisions or one is first:
                    raise
                console.print(f"{one.name} is left out: {error}")
    if len(answers) < 2:
        raise ExperimentError(f"--pair: nothing is left to compare with {first.name}.")
    console.print(f"\n{METRICS[options.metric].head} of {run} minus that in {first.name}, points; {tables.ALL_AT_ONCE}")
    show_pairs(paired(answers[0], answers[1:]), console)


def show_pairs(found: dict[str, Pair], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("revision", "questions", "difference", "p", "verdict", "MDE"):
        table.add_column(head, justify="left" if head in ("revision", "verdict") else "right", no_wrap=True)
    for name, pair in found.items():
        one = plain(pair.difference)
        known = wording.points(one), wording.probability(one["p"]), one["verdict"], wording.size(one["mde"])
        table.add_row(name, f"{pair.questions:,}", *known)
    console.print(table)
    for name, pair in found.items():
        for note in pair.notes:
            console.print(f"{name}: {note}.")


def plot(found: Sequence[Revision], metric: str, path: str) -> None:
    drawn = parameter_plot.points(found, metric, path)
    readers = dict.fromkeys(one.figures["about"]["reader"] for one in found if one.report)
    file = PLOTS / f"{metric}_by_{path}.png"
    parameter_plot.draw(drawn, metric, path, " and ".join(readers), file)
    count = max(len(series) for series in drawn.values())
    print(f"{file}: {count} of {len(found)} revisions")


if __name__ == "__main__":
    run_stage(main)
