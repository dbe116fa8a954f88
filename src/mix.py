"""Stage mix: a soft label source and people's labels as one source, over train and validation.

    python src/mix.py smollm2_and_human

both     the soft labels, and people's in human-<split>.parquet next to them: a run's losses take what they can read
mixed    soft labels in which a share of the questions has people's (labels/targets.py says how), which are in
         replaced-<split>.parquet too

Writes data/labels/<source>/, so a run names it like any other source, and data/figures/label/<source>.json.
"""

from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import named, run_stage
from bitter_retrieval.labels.targets import HUMAN_FILE, REPLACED_FILE, with_people
from bitter_retrieval.records import BINARY_LABELS, SOFT_LABELS, read_rows, write_json, write_rows

LABELS = Path("data/labels")
FIGURES = Path("data/figures/label")
SPLITS = ("train", "validation")  # what training reads


def main(arguments: Sequence[str] | None = None) -> str:
    params, name = named("mixed_labels", __doc__, arguments)
    settings = params.mixed_labels[name]
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
    write_json(FIGURES / f"{name}.json", counted)
    taught = sum(of.get("queries_with_human_label", of["queries"]) for of in counted.values())
    return f"mix {name}: people's labels for {taught:,} of {sum(of['queries'] for of in counted.values()):,} questions"


if __name__ == "__main__":
    run_stage(main)
