"""Stage mix: a soft label source and people's labels as one source, over train and validation.

    python src/mix.py smollm2_and_human

both     the soft labels, and people's in human-<split>.parquet next to them: a run's losses take what they can read
mixed    soft labels in which a share of the questions has people's (labels/targets.py says how), which are in
         replaced-<split>.parquet too

Writes data/labels/<source>/, so a run names it like any other source, and metrics/mix/<source>.json.
"""

import json
from pathlib import Path

from bitter_retrieval.command_line import named, run_stage
from bitter_retrieval.labels.targets import HUMAN_FILE, REPLACED_FILE, with_people
from bitter_retrieval.params import load_params
from bitter_retrieval.records import BINARY_LABELS, SOFT_LABELS, read_rows, write_rows

LABELS = Path("data/labels")
METRICS = Path("metrics/mix")
SPLITS = ("train", "validation")  # what training reads


def main() -> None:
    params = load_params()
    name, settings = named("mixed_labels", params.mixed_labels)
    counted: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        labels = read_rows(Path(settings.needs) / f"{split}.parquet", SOFT_LABELS)
        people = read_rows(Path(settings.human) / f"{split}.parquet", BINARY_LABELS)
        counted[split] = {"queries": len({row["query_id"] for row in labels})}
        if settings.kind == "both":
            write_rows(LABELS / name / HUMAN_FILE.format(split), people, BINARY_LABELS)
        else:
            labels, replaced = with_people(labels, people, settings.share, settings.seed)
            write_rows(LABELS / name / REPLACED_FILE.format(split), replaced, BINARY_LABELS)
            counted[split]["queries_with_human_label"] = len({row["query_id"] for row in replaced})
        write_rows(LABELS / name / f"{split}.parquet", labels, SOFT_LABELS)
    METRICS.mkdir(parents=True, exist_ok=True)
    (METRICS / f"{name}.json").write_text(json.dumps(counted, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
