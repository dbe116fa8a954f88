"""Stage check: is params.yaml right? Before any other, and again whenever a section changes whose keys are names.

    python src/check.py

DVC empties the paths that names stand in before it runs a stage, outside the repo too if a name is `../../x`. So every
other stage comes after this one, which refuses such a name. Writes data/checked, always the same.
"""

from pathlib import Path

from bitter_retrieval.command_line import run_stage
from bitter_retrieval.params import load_params

CHECKED = Path("data/checked")


def main() -> None:
    load_params()
    CHECKED.parent.mkdir(parents=True, exist_ok=True)
    CHECKED.write_text("The names in params.yaml may be names of files.\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
