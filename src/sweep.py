"""Sweep a setting as DVC experiments: by default how wrong the annotators are, in two ways.

    python src/sweep.py queue      # queues 8 experiments: annotators skim and uniform, noise 0, .1, .2 and .4
    dvc exp run --run-all          # runs them one after the other (or: dvc queue start -j 1, in the background)
    python src/sweep.py draw       # plots/sweep.png and docs/sweep.md

Another sweep, with its own picture and page (plots/sweep-train_clusters.png, docs/sweep-train_clusters.md):

    python src/sweep.py queue --set data.world.train_clusters=125,250,500
    python src/sweep.py draw --set data.world.train_clusters=125,250,500

Several --set make a product; the last one runs along the axis. Experiments hang on the last commit, and DVC reuses what
a setting does not change: annotator noise trains the runs on human labels again and nothing else.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.studies import sweep_plot
from bitter_retrieval.studies.experiments import ExperimentError, queue, shown
from bitter_retrieval.studies.sweeps import ANNOTATORS, Grid, experiments, markdown, parse_grid, points


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 2 the sweep cannot be queued or drawn."""
    parser = argparse.ArgumentParser(description="Sweep settings as DVC experiments; by default the annotators' noise.")
    parser.add_argument("action", choices=["queue", "draw"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=V1,V2", help="key of params.yaml and values")
    parser.add_argument("--rev", default="HEAD", help="commit that the experiments start from (draw)")
    options = parser.parse_args(arguments)
    try:
        grid = parse_grid(options.set)
        if options.action == "queue":
            queue(experiments(grid))
            print(f"Then draw:  {command('draw', grid)}")
        else:
            draw(grid, options.rev)
    except ExperimentError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def draw(grid: Grid, rev: str) -> None:
    """Write the picture and the page."""
    suffix = "" if grid == ANNOTATORS else "-" + "-".join(key.split(".")[-1] for key in grid)
    picture, page = Path(f"plots/sweep{suffix}.png"), Path(f"docs/sweep{suffix}.md")
    found = points(shown(rev), grid)
    sweep_plot.draw(found, grid, picture)
    commands = [command("queue", grid), "dvc exp run --run-all", command("draw", grid)]
    page.parent.mkdir(exist_ok=True)
    page.write_text(markdown(found, grid, commands, f"../{picture.as_posix()}"), encoding="utf-8")
    print(f"{picture} and {page}: {len(found)} experiments")


def command(action: str, grid: Grid) -> str:
    settings = [] if grid == ANNOTATORS else [f"--set {key}={','.join(values)}" for key, values in grid.items()]
    return " ".join(["python src/sweep.py", action, *settings])


if __name__ == "__main__":
    sys.exit(main())
