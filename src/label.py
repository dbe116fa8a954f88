"""Stage label: one label source over train, validation and test.

    python src/label.py reader_a

Soft sources give rows of records.SOFT_LABELS, the others of records.BINARY_LABELS, in
data/labels/<source>/{train,validation,test}.parquet; metrics/label/<source>.json counts them.
"""

import json
import sys
from pathlib import Path

from bitter_retrieval.annotators import annotate
from bitter_retrieval.answer_loss import Triple, score_answers
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.label_sources import has_answer_labels, permuted_labels, selected_labels, truth_labels
from bitter_retrieval.language_model import Reader, load_reader
from bitter_retrieval.memory import keep_freed_memory
from bitter_retrieval.params import Labels, load_params
from bitter_retrieval.progress import bar
from bitter_retrieval.records import BINARY_LABELS, NO_PASSAGE, PREPARED, SOFT_LABELS, Row, read_rows, write_rows
from bitter_retrieval.stage import run_stage

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")
METRICS = Path("metrics/label")
SPLITS = ("train", "validation", "test")
BATCH_TOKENS = 8192


def main() -> None:
    name = sys.argv[1]
    keep_freed_memory()
    settings = load_params().labels[name]
    splits = {split: read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED) for split in SPLITS}
    if settings.kind == "reader":
        labels, counts = from_reader(Path(settings.needs), splits)
    elif settings.kind == "permuted":
        labels, counts = permute(Path(settings.needs), settings.seed), {}
    else:
        labels, counts = {split: binary(settings, rows) for split, rows in splits.items()}, {}
    schema = SOFT_LABELS if settings.kind in {"reader", "permuted"} else BINARY_LABELS
    for split, rows in labels.items():
        write_rows(LABELS / name / f"{split}.parquet", rows, schema)
    METRICS.mkdir(parents=True, exist_ok=True)
    (METRICS / f"{name}.json").write_text(json.dumps(summary(labels, counts), indent=2) + "\n")


def from_reader(folder: Path, splits: dict[str, list[Row]]) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """The answer loss of each candidate, and of no passage at all, for every reference answer."""
    reader = load_reader(folder)
    truncated: dict[str, int] = {}
    labels: dict[str, list[Row]] = {}
    with Journal(journal_folder() / "answer_loss.sqlite") as journal:
        for split, rows in splits.items():
            labels[split], truncated[f"{split}_truncated_contexts"] = soft(reader, rows, journal, split)
    return labels, truncated


def soft(reader: Reader, rows: list[Row], journal: Journal, split: str) -> tuple[list[Row], int]:
    """Soft labels of prepared rows, and how many contexts were cut to fit."""
    asked = [
        (row["query_id"], passage["passage_id"], index, Triple(row["query"], passage["text"], answer))
        for row in rows
        for passage in [*row["passages"], {"passage_id": NO_PASSAGE, "text": ""}]
        for index, answer in enumerate(row["answers"])
    ]
    triples = [triple for *_, triple in asked]
    with bar(f"label {reader.name} {split}", len(set(triples)), "passage") as advance:
        scores = score_answers(reader, triples, BATCH_TOKENS, journal, advance)
    labels = [
        {
            "query_id": query_id,
            "passage_id": passage_id,
            "answer_index": index,
            "nll_sum": score.nll_sum,
            "n_tokens": score.n_tokens,
        }
        for (query_id, passage_id, index, _), score in zip(asked, scores, strict=True)
    ]
    return labels, sum(score.truncated for score in scores)


def permute(folder: Path, seed: int) -> dict[str, list[Row]]:
    return {split: permuted_labels(read_rows(folder / f"{split}.parquet", SOFT_LABELS), seed) for split in SPLITS}


def binary(settings: Labels, rows: list[Row]) -> list[Row]:
    if settings.kind == "annotators":
        return annotate(rows, settings.annotator, settings.noise, settings.seed)
    return {"truth": truth_labels, "has_answer": has_answer_labels, "selected": selected_labels}[settings.kind](rows)


def summary(labels: dict[str, list[Row]], counts: dict[str, int]) -> dict[str, int]:
    """Rows by split, queries without a relevant candidate for binary sources, and what the source counted."""
    found = {f"{split}_rows": len(rows) for split, rows in labels.items()}
    for split, rows in labels.items():
        if "relevant" in rows[0]:
            positive = {row["query_id"] for row in rows if row["relevant"]}
            found[f"{split}_queries_without_relevant"] = len({row["query_id"] for row in rows} - positive)
    return {**found, **counts}


if __name__ == "__main__":
    run_stage(main)
