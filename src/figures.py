"""Stage figures: what other stages have measured, for git and `dvc exp show`.

    python src/figures.py

Copies data/figures/{prepare.json,reader/,label/} to metrics/. DVC keeps no run cache for a stage with an out that git
keeps (`cache: false`): a stage that costs more than this copy would be run again after a change and back. First it
removes figures of readers and label sources that are no longer in params.yaml, as DVC does not.
"""

from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser, run_stage
from bitter_retrieval.params import load_params
from bitter_retrieval.records import sweep, write_text

FIGURES, METRICS = Path("data/figures"), Path("metrics")


def main(arguments: Sequence[str] | None = None) -> str:
    Parser(description=__doc__).parse_args(arguments)
    params = load_params()
    for folder in (FIGURES, METRICS):
        sweep(folder / "reader", params.readers)
        sweep(folder / "label", params.sources)
    files = sorted(FIGURES.rglob("*.json"))
    for file in files:
        write_text(METRICS / file.relative_to(FIGURES), file.read_text(encoding="utf-8"))
    return f"figures: {len(files)} files in {METRICS}"


if __name__ == "__main__":
    run_stage(main)
