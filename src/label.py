"""Stage label: one label source over train, validation and test; and the same reader over a file of one's own.

    python src/label.py reader_a
    python src/label.py --model Qwen/Qwen3-0.6B-Base --input questions.jsonl --output labels.parquet

Soft sources give rows of records.SOFT_LABELS, the others of records.BINARY_LABELS, in
data/labels/<source>/{train,validation,test}.parquet; metrics/label/<source>.json is their account. What a reader has
scored is journalled: a killed command goes on where it was.
"""

import argparse
import json
from collections import Counter
from itertools import chain
from pathlib import Path

from bitter_retrieval.arguments import positive, prompt, row_range
from bitter_retrieval.data.hub_datasets import hub_parts
from bitter_retrieval.data.question_files import data_files, file_records, read_questions
from bitter_retrieval.labels.annotators import annotate
from bitter_retrieval.labels.binary import has_answer_labels, permuted_labels, selected_labels, truth_labels
from bitter_retrieval.labels.published import published_labels
from bitter_retrieval.labels.scored import score_splits, soft_account
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.params import SOFT_KINDS, Label, Labels, load_params
from bitter_retrieval.records import BINARY_LABELS, PREPARED, SOFT_LABELS, Row, read_rows, write_rows
from bitter_retrieval.stage import run_stage
from bitter_retrieval.typed_yaml import one_of

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")
METRICS = Path("metrics/label")
SPLITS = ("train", "validation", "test")
PROMPT = "Question: {query}\nContext: {passage}\nAnswer:"


def main() -> None:
    keep_freed_memory()
    arguments = parse()
    if arguments.source:
        label_source(arguments.source)
    else:
        label_file(arguments)


def label_source(name: str) -> None:
    params = load_params()
    settings = params.labels[one_of(name, params.labels, "params.yaml: labels")]
    rows = {split: read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED) for split in SPLITS}
    more: dict[str, dict] = {}
    if settings.kind == "reader":
        labels = from_reader(Path(settings.needs), rows, params.label)
    elif settings.kind == "published":
        labels, more = published(f"labels.{name}", settings, rows)
    elif settings.kind == "permuted":
        labels = {split: permuted(Path(settings.needs) / f"{split}.parquet", settings.seed) for split in SPLITS}
    else:
        labels = {split: binary(settings, rows[split]) for split in SPLITS}
    soft = settings.kind in SOFT_KINDS
    for split in SPLITS:
        write_rows(LABELS / name / f"{split}.parquet", labels[split], SOFT_LABELS if soft else BINARY_LABELS)
    counted = {split: (soft_account(rows[split], labels[split]) if soft else counts(labels[split])) for split in SPLITS}
    counted |= more
    METRICS.mkdir(parents=True, exist_ok=True)
    (METRICS / f"{name}.json").write_text(json.dumps(counted, indent=2) + "\n")


# -- a reader's answer losses ----------------------------------------------------------------------------------------


def from_reader(folder: Path, splits: dict[str, list[Row]], settings: Label) -> dict[str, list[Row]]:
    from bitter_retrieval.readers.language_model import load_reader

    return score_splits(load_reader(folder), splits, settings)


# -- other sources ---------------------------------------------------------------------------------------------------


def published(at: str, settings: Labels, splits: dict[str, list[Row]]) -> tuple[dict[str, list[Row]], dict[str, dict]]:
    """Labels of every split, and what of the published rows, and of ours, has no other."""
    if settings.hub:
        where, records = settings.hub.id, chain(*hub_parts(settings.hub, f"{at}.hub", f"{at}.needs").values())
    else:
        where, records = settings.needs, file_records(data_files(Path(settings.needs)), Counter())
    labels, unmatched, unused = published_labels(records, splits, f"{at}: {where}")
    return labels, {"unmatched": unmatched, "unused": unused}


def permuted(path: Path, seed: int) -> list[Row]:
    return permuted_labels(read_rows(path, SOFT_LABELS), seed)


def binary(settings: Labels, rows: list[Row]) -> list[Row]:
    if settings.kind == "annotators":
        return annotate(rows, settings.annotator, settings.noise, settings.seed)
    return {"truth": truth_labels, "has_answer": has_answer_labels, "selected": selected_labels}[settings.kind](rows)


def counts(labels: list[Row]) -> dict[str, int]:
    """Of binary labels: rows, and queries without a relevant candidate."""
    positive = {row["query_id"] for row in labels if row["relevant"]}
    queries = {row["query_id"] for row in labels}
    return {"queries": len(queries), "rows": len(labels), "queries_without_relevant": len(queries - positive)}


# -- outside DVC -----------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Label candidates with the answer loss of a frozen language model (in the DAG: by a source of "
        "params.yaml; outside: by any model, over a file of one's own).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("source", nargs="?", help="a name in labels of params.yaml; leave out all other arguments")
    parser.add_argument("--model", help="path, pkg://package/folder or hub id of a causal language model")
    parser.add_argument("--revision", help="commit of a hub id")
    parser.add_argument(
        "--input",
        type=Path,
        help="prepared parquet, or JSONL, JSON or parquet in MS MARCO's layout "
        "or with query, answers, passages; a file, or a folder of splits",
    )
    parser.add_argument("--split", help="which split of a folder")
    parser.add_argument("--range", type=row_range, default=(0, None), metavar="FIRST:LAST", help="rows, LAST left out")
    parser.add_argument("--output", type=Path, help="parquet of soft labels; its account lies beside it")
    parser.add_argument("--prompt", type=prompt, default=PROMPT, help="with {query} and {passage}; the answer follows")
    parser.add_argument("--chat", action="store_true", help="put the prompt into the tokenizer's chat template")
    parser.add_argument("--answer-end", default="", help="text scored after every answer, or <eos>")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    parser.add_argument("--max-length", type=positive, default=1024, help="tokens; a longer context loses its tail")
    parser.add_argument("--batch-tokens", type=positive, default=8192, help="bound on a batch's memory, in tokens")
    parser.add_argument("--unscorable", default="error", choices=["error", "skip"], help="or leave the label empty")
    parser.add_argument("--mlflow", action="store_true", help="log rates to mlflow.db in this folder")
    arguments = parser.parse_args()
    missing = [f"--{name}" for name in ("model", "input", "output") if getattr(arguments, name) is None]
    if arguments.source is None and missing:
        parser.error(f"give a source of params.yaml, or {', '.join(missing)}")
    return arguments


def label_file(arguments: argparse.Namespace) -> None:
    from bitter_retrieval.readers.language_model import ReaderSettings, open_reader

    found = read_questions(arguments.input, arguments.split, *arguments.range)
    asked = ReaderSettings(
        arguments.prompt, arguments.dtype, arguments.max_length, 0, arguments.chat, arguments.answer_end
    )
    reader = open_reader(Path(arguments.model).name, arguments.model, arguments.revision, asked)
    settings = Label(arguments.batch_tokens, arguments.unscorable, arguments.mlflow)
    labels = score_splits(reader, {"rows": found.rows}, settings)["rows"]
    write_rows(arguments.output, labels, SOFT_LABELS)
    counted = json.dumps({**soft_account(found.rows, labels), "left_out": found.left_out}, indent=2)
    arguments.output.with_suffix(".account.json").write_text(counted + "\n")
    print(counted)


if __name__ == "__main__":
    run_stage(main)
