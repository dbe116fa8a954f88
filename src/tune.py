"""Choose each run's settings on validation questions, as DVC experiments: the same number of trials for every run.

    python src/use_profile.py tuning
    python src/tune.py queue               # queues trial-0 … trial-8
    dvc exp run --run-all                  # about five minutes a trial on two cores
    python src/tune.py table               # docs/tuning.md; --rev REV if commits came after queueing

What the page names as taken is written into profiles/default.yaml by hand.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.params import Params, ParamsError, load_params
from bitter_retrieval.studies.experiments import ExperimentError, queue, reports
from bitter_retrieval.studies.tuning import markdown, outcomes, trials

PAGE = Path("docs/tuning.md")
COMMANDS = (
    "python src/use_profile.py tuning",
    "python src/tune.py queue",
    "dvc exp run --run-all",
    "python src/tune.py table",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 2 the trials cannot be queued or tabulated."""
    parser = argparse.ArgumentParser(description="Tune every run with the same number of trials, as DVC experiments.")
    parser.add_argument("action", choices=["queue", "table"])
    parser.add_argument("--rev", default="HEAD", help="commit that the experiments start from (table)")
    options = parser.parse_args(arguments)
    try:
        params = load_params()
        if options.action == "queue":
            queue(trials(params))
            print(f"Then table: {COMMANDS[-1]}")
        else:
            table(params, options.rev)
    except (ExperimentError, ParamsError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def table(params: Params, rev: str) -> None:
    """Write the page."""
    found = reports(trials(params), rev)
    about = next(iter(found.values()))["about"]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(markdown(outcomes(params, found), about, COMMANDS), encoding="utf-8")
    print(f"{PAGE}: {len(found)} trials")


if __name__ == "__main__":
    sys.exit(main())
