"""Many experiments at once, as DVC experiments: sweep a setting, tune every run, confirm on unseen worlds.

    python src/study.py sweep queue         # queues 8 experiments: annotators skim and uniform, noise 0, .1, .2 and .4
    dvc exp run --run-all                   # runs them one after the other; in the background: dvc queue start -j 1
    python src/study.py sweep draw          # plots/sweep.png and docs/sweep.md

    python src/use_profile.py tuning        # for validation questions
    python src/study.py tune queue          # queues trial-0 … trial-8, the same number for every run
    python src/study.py tune table          # docs/tuning.md; copy the values taken into a profile by hand

    python src/use_profile.py confirm       # for worlds unseen during development
    python src/study.py confirm queue       # queues world-101 … world-105: data.seed of params.yaml and four more
    python src/study.py confirm table       # docs/confirm.md

Experiments belong to the last commit, and DVC reuses what a setting does not change. Both actions of a study read
params.yaml: go back by `python src/use_profile.py default` only once the page is written. --rev names the experiments'
commit if others followed it. Another sweep gets its own picture and page; several --set are combined, and the last one
runs along the axis:

    python src/study.py sweep queue --set data.world.train_clusters=125,250,500
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.params import load_params
from bitter_retrieval.studies import confirmation, sweep_plot, sweeps, tuning
from bitter_retrieval.studies.experiments import ExperimentError, queue, read, reports, results, shown
from bitter_retrieval.typed_yaml import ParamsError

RUN = "dvc exp run --run-all"
TUNING_PAGE, CONFIRM_PAGE = Path("docs/tuning.md"), Path("docs/confirm.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 2 experiments that cannot be queued, or have no results to write."""
    options = parse(arguments)
    try:
        {"sweep": sweep, "tune": tune, "confirm": confirm}[options.study](options)
    except (ExperimentError, ParamsError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Many experiments at once, as DVC experiments.")
    studies = parser.add_subparsers(dest="study", required=True)
    for name, page, told, example in (
        ("sweep", "draw", "Sweep settings; by default the annotators' noise.", "draw --set train.epochs=2,4"),
        ("tune", "table", "Tune every run with the same number of trials, on validation questions.", "queue"),
        ("confirm", "table", "Repeat the whole experiment on unseen worlds.", "table --rev HEAD~1"),
    ):
        epilog = f"example: python src/study.py {name} {example}"
        study = studies.add_parser(name, help=told, description=told, epilog=epilog)
        study.add_argument("action", choices=["queue", page], help=f"{page}: write the results")
        study.add_argument("--rev", default="HEAD", help=f"commit that the experiments start from ({page})")
        if name == "sweep":
            study.add_argument(
                "--set", action="append", default=[], metavar="KEY=V1,V2", help="key of params.yaml and values"
            )
    return parser.parse_args(arguments)


# -- sweep -----------------------------------------------------------------------------------------------------------


def sweep(options: argparse.Namespace) -> None:
    grid = sweeps.parse_grid(options.set)
    commands = [sweep_command("queue", grid), RUN, sweep_command("draw", grid)]
    if options.action == "queue":
        queue(sweeps.experiments(grid))
        print(f"Then draw:  {commands[-1]}")
        return
    suffix = "" if grid == sweeps.ANNOTATORS else "-" + "-".join(key.split(".")[-1] for key in grid)
    picture, page = Path(f"plots/sweep{suffix}.png"), Path(f"docs/sweep{suffix}.md")
    found = sweeps.points(shown(options.rev), grid)
    sweep_plot.draw(found, grid, picture)
    write(page, sweeps.markdown(found, grid, commands, f"../{picture.as_posix()}"))
    print(f"{picture} and {page}: {len(found)} experiments")


def sweep_command(action: str, grid: sweeps.Grid) -> str:
    settings = [] if grid == sweeps.ANNOTATORS else [f"--set {key}={','.join(values)}" for key, values in grid.items()]
    return " ".join(["python src/study.py sweep", action, *settings])


# -- tune ------------------------------------------------------------------------------------------------------------


def tune(options: argparse.Namespace) -> None:
    params, commands = load_params(), commands_of("tune", "tuning")
    wanted = tuning.trials(params)
    if options.action == "queue":
        queue(wanted)
        print(f"Then table: {commands[-1]}")
        return
    found = reports(wanted, options.rev)
    about = next(iter(found.values()))["about"]
    write(TUNING_PAGE, tuning.markdown(tuning.outcomes(params, found), about, commands))
    print(f"{TUNING_PAGE}: {len(found)} trials")


# -- confirm ---------------------------------------------------------------------------------------------------------


def confirm(options: argparse.Namespace) -> None:
    wanted, commands = confirmation.worlds(load_params()), commands_of("confirm", "confirm")
    if options.action == "queue":
        queue(wanted)
        print(f"Then table: {commands[-1]}")
        return
    found = results(shown(options.rev), wanted)
    confirmation.check_frozen(found, wanted)
    analysed = confirmation.analyse({name: read(result) for name, result in found.items()})
    write(CONFIRM_PAGE, confirmation.markdown(analysed, commands))
    print(f"{CONFIRM_PAGE}: {len(found)} worlds")


def commands_of(study: str, profile: str) -> list[str]:
    """Commands that make the page of a study again."""
    command = f"python src/study.py {study}"
    return [f"python src/use_profile.py {profile}", f"{command} queue", RUN, f"{command} table"]


def write(page: Path, text: str) -> None:
    page.parent.mkdir(exist_ok=True)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
