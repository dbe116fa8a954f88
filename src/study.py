"""Many experiments at once, as DVC experiments: tune every run, locate the spread, confirm on unseen worlds.

    python src/use_profile.py tuning        # for validation questions
    python src/study.py tune queue          # queues trial-0 … trial-8, the same number for every run
    dvc exp run --run-all                   # runs them one after the other; in the background: dvc queue start -j 1
    python src/study.py tune table          # docs/tuning.md; copy the values taken into a profile by hand

    python src/use_profile.py spread        # several fits of one reader
    python src/study.py spread queue        # queues spread-201-0 … spread-204-1: four worlds, two draws of questions
    dvc exp run --run-all
    python src/study.py spread table        # docs/spread.md

    python src/use_profile.py confirm       # for worlds unseen during development
    python src/study.py confirm queue       # queues world-101 … world-108
    dvc exp run --run-all
    python src/study.py confirm table       # docs/confirm.md and plots/map.png

Experiments belong to the last commit, and DVC reuses what a setting does not change. Both actions of a study read
params.yaml: go back by `python src/use_profile.py default` only once the page is written. --rev names the experiments'
commit if others followed it. After a stop, the queue command and `dvc exp run --run-all` go on. spread and confirm keep
their figures in metrics/spread.json and metrics/confirm.json; commit them, and a study goes on in another clone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser
from bitter_retrieval.params import load_params
from bitter_retrieval.records import write_text
from bitter_retrieval.studies import confirmation, confirmation_page, map_plot, replication, spread, sweep_plot, tuning
from bitter_retrieval.studies.experiments import ExperimentError, Wanted, queue, reports
from bitter_retrieval.studies.replication import Figures
from bitter_retrieval.typed_yaml import ParamsError, read_yaml

RUN = "dvc exp run --run-all"
DOCS, METRICS, MAP = Path("docs"), Path("metrics"), Path("plots/map.png")
RESULTS, SWEEP = "results/*/report.json", Path("plots/sweep.png")  # reports of real text, kept beside the docs
WORLDS = {"confirm": confirmation.WORLDS, "spread": spread.WORLDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 2 experiments that cannot be queued, or have no results to write."""
    options = parse(arguments)
    try:
        {"tune": tune, "spread": locate, "confirm": confirm}[options.study](options)
    except (ExperimentError, ParamsError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    studies = parser.add_subparsers(dest="study", required=True)
    for name, told, example in (
        ("tune", "Tune every run with the same number of trials, on validation questions.", "queue"),
        ("spread", "Locate the spread: worlds, draws of training questions, fits of a reader.", "table"),
        ("confirm", "Confirm on unseen worlds, at several errors of annotators and labeller.", "table --rev HEAD~1"),
    ):
        epilog = f"example: python src/study.py {name} {example}"
        study = studies.add_parser(name, help=told, description=told, epilog=epilog)
        study.add_argument("action", choices=["queue", "table"], help="table: write the results")
        study.add_argument("--rev", default="HEAD", help="commit that the experiments start from (table)")
        if name in WORLDS:
            worlds = f"worlds of the study (default {WORLDS[name]})"
            study.add_argument("--worlds", type=int, default=WORLDS[name], metavar="N", help=worlds)
    return parser.parse_args(arguments)


# -- tune ------------------------------------------------------------------------------------------------------------


def tune(options: argparse.Namespace) -> None:
    params, commands = load_params(), commands_of(options, "tuning")
    wanted = tuning.trials(params)
    if options.action == "queue":
        queue_all(wanted, commands)
        return
    found = reports(wanted, options.rev)
    about = next(iter(found.values()))["about"]
    write(DOCS / "tuning.md", tuning.markdown(tuning.outcomes(params, found), about, commands))
    print(f"docs/tuning.md: {len(found)} trials")


# -- studies over worlds ---------------------------------------------------------------------------------------------


def locate(options: argparse.Namespace) -> None:
    params, commands = load_params(), commands_of(options, "spread")
    found = queued_or_found(options, spread.wanted(params, options.worlds), commands)
    if found is not None:
        analysed = spread.analyse(params, found)
        write(DOCS / "spread.md", spread.markdown(analysed, options.worlds, commands))
        print(f"docs/spread.md: {len(analysed.worlds)} of {options.worlds} worlds")


def confirm(options: argparse.Namespace) -> None:
    params, commands = load_params(), commands_of(options, "confirm")
    found = queued_or_found(options, confirmation.wanted(params, options.worlds), commands)
    if found is not None:
        design = confirmation.design(params)
        analysed = confirmation.analyse(design, found)
        map_plot.draw(analysed.errors_map, len(found), MAP)
        real = {page.parent.name: json.loads(page.read_text(encoding="utf-8")) for page in sorted(DOCS.glob(RESULTS))}
        sweep_plot.draw(sweep_plot.worlds(analysed), real, SWEEP)
        page = confirmation_page.markdown(analysed, design, options.worlds, commands, f"../{MAP.as_posix()}")
        write(DOCS / "confirm.md", page)
        print(f"docs/confirm.md, {MAP} and {SWEEP}: {len(found)} of {options.worlds} worlds")


def queued_or_found(options: argparse.Namespace, wanted: Wanted, commands: Sequence[str]) -> dict[str, Figures] | None:
    """None once the missing experiments are queued; for a table, the figures of those that are there."""
    kept = METRICS / f"{options.study}.json"
    if options.action == "table":
        return replication.gather(kept, wanted, options.rev)
    queue_all(replication.unfinished(kept, wanted, read_yaml("params.yaml")), commands)
    return None


def queue_all(wanted: Wanted, commands: Sequence[str]) -> None:
    queue(wanted)
    print(f"Then table: {commands[-1]}")


def commands_of(options: argparse.Namespace, profile: str) -> list[str]:
    """Commands that make the page of a study again."""
    worlds = getattr(options, "worlds", None)
    more = f" --worlds {worlds}" if worlds != WORLDS.get(options.study) else ""
    command = f"python src/study.py {options.study}"
    return [f"python src/use_profile.py {profile}", f"{command} queue{more}", RUN, f"{command} table{more}"]


def write(page: Path, text: str) -> None:
    write_text(page, text)


if __name__ == "__main__":
    sys.exit(main())
