"""Write a label source in the layout of another framework, which trains on it as it is.

    python src/export.py reader_a --to sentence-transformers
    python src/export.py human --to beir --output exports/human

Reads data/prepared and data/labels/<source>; writes exports/<source>-<layout>/ by default (publishing/exchange.py shows
the files) and prints what was left out. An existing folder is not written to.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser, check_output, run_stage
from bitter_retrieval.labels.soft import LabelError
from bitter_retrieval.labels.targets import HUMAN_FILE
from bitter_retrieval.params import load_params
from bitter_retrieval.publishing.exchange import LAYOUTS, scored
from bitter_retrieval.records import PREPARED, read_labels, read_rows, replacing
from bitter_retrieval.typed_yaml import one_of

PREPARED_FOLDER, LABELS, EXPORTS = Path("data/prepared"), Path("data/labels"), Path("exports")
SPLITS = ("train", "validation", "test")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    source = one_of(options.source, load_params().sources, "params.yaml: labels")
    files = {split: LABELS / source / f"{split}.parquet" for split in SPLITS}
    found = {split: file for split, file in files.items() if file.is_file()}
    if not found:
        raise LabelError(f"{LABELS / source}: no labels here. Run `dvc repro`, or `dvc pull {LABELS / source}`.")
    folder: Path = options.output or EXPORTS / f"{source}-{options.to}"
    if os.path.lexists(folder):
        raise LabelError(f"{folder}: is there already. Move it away, or name another folder by --output.")
    check_output([folder / "new"], [LABELS / source])
    with replacing(folder) as partial:
        for split, file in found.items():
            labels, soft = read_labels(file)
            rows = read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED)
            questions, left_out = scored(rows, labels, soft, source)
            left_out |= LAYOUTS[options.to](partial, split, questions)
            told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items() if count)
            print(f"{folder}: {split}: {len(questions):,} questions{f'; left out: {told}' if told else ''}")
    if (LABELS / source / HUMAN_FILE.format("train")).is_file():
        print(f"{source} holds people's labels too, which are not written: export their source for them.")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("source", help="a label source of params.yaml")
    parser.add_argument("--to", required=True, choices=LAYOUTS, help="the framework")
    parser.add_argument("--output", type=Path, help="a new folder (default exports/<source>-<framework>)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_stage(main)
