"""Confirm the findings on five worlds that nobody looked at while developing, as DVC experiments.

    python src/use_profile.py confirm
    python src/confirm.py queue            # queues world-101 … world-105: data.seed of params.yaml and four more
    dvc exp run --run-all                  # about ten minutes a world on two cores
    python src/confirm.py table            # docs/confirm.md; --rev REV if commits came after queueing

Both actions read from params.yaml which worlds are meant: `python src/use_profile.py default` afterwards, not before.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.params import ParamsError, load_params
from bitter_retrieval.studies.confirmation import analyse, check_frozen, markdown, worlds
from bitter_retrieval.studies.experiments import ExperimentError, Wanted, queue, read, results, shown

PAGE = Path("docs/confirm.md")
COMMANDS = (
    "python src/use_profile.py confirm",
    "python src/confirm.py queue",
    "dvc exp run --run-all",
    "python src/confirm.py table",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 2 the worlds cannot be queued or tabulated."""
    parser = argparse.ArgumentParser(description="Repeat the experiment on unseen worlds, as DVC experiments.")
    parser.add_argument("action", choices=["queue", "table"])
    parser.add_argument("--rev", default="HEAD", help="commit that the experiments start from (table)")
    options = parser.parse_args(arguments)
    try:
        wanted = worlds(load_params())
        if options.action == "queue":
            queue(wanted)
            print(f"Then table: {COMMANDS[-1]}")
        else:
            table(wanted, options.rev)
    except (ExperimentError, ParamsError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def table(wanted: Wanted, rev: str) -> None:
    """Write the page."""
    found = results(shown(rev), wanted)
    check_frozen(found, wanted)
    page = markdown(analyse({name: read(result) for name, result in found.items()}), COMMANDS)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE}: {len(found)} worlds")


if __name__ == "__main__":
    sys.exit(main())
