"""Evaluate any encoder (or BM25) and any reader on a file of questions, outside DVC.

    python src/evaluate_file.py --encoder sentence-transformers/all-MiniLM-L6-v2 --reader Qwen/Qwen3-0.6B-Base \
        --input dev-v1.1.json --examples 500 --output found

Writes predictions.parquet (records.PREDICTIONS) and summary.json into the folder --output, and prints the summary.
Embeddings and answers are kept in .journal and not computed again.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bitter_retrieval.command_line import check_output, positive, prompt, row_range, run_stage, track
from bitter_retrieval.data.question_files import read_passages, read_questions
from bitter_retrieval.evaluation.answering import predict, top
from bitter_retrieval.evaluation.given_models import open_given_reader, point_to_encoder
from bitter_retrieval.evaluation.retrieval import Ranking, without_word
from bitter_retrieval.evaluation.retrievers import rank_by_bm25, rank_by_encoder
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.plain_text import PlainConsole
from bitter_retrieval.readers.language_model import ReaderSettings
from bitter_retrieval.records import PREDICTIONS, Row, passage_texts, write_rows
from bitter_retrieval.reporting import evaluation_summary
from bitter_retrieval.typed_yaml import read_yaml

READERS = Path("models/readers")
ASKED = ReaderSettings("Question: {query}\nContext: {passage}\nAnswer:", "float32", 1024, 32)  # without a reader.json
BM25 = "bm25"
PRESETS = Path(__file__).parents[1] / "profiles/presets.yaml"


def main() -> None:
    keep_freed_memory()
    evaluate_file(parse())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Retrieve and answer with any encoder and reader over a file of questions, and measure how well, "
        "with 95% intervals."
    )
    parser.add_argument(
        "--encoder", required=True, help=f"path, pkg://package/folder or hub id of a bi-encoder; or {BM25}"
    )
    parser.add_argument(
        "--reader",
        required=True,
        help=f"a name in {READERS}; or path, pkg://package/folder or hub id of a causal language model",
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="questions: prepared parquet, SQuAD's files, or JSONL, JSON or "
        "parquet in MS MARCO's layout or with query, answers, passages; a file, or a folder of splits",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for predictions.parquet and summary.json")
    parser.add_argument("--split", help="which split of a folder")
    parser.add_argument(
        "--range",
        type=row_range,
        default=(0, None),
        metavar="FIRST:LAST",
        help="rows to read, without LAST; their passages are searched (default: all)",
    )
    parser.add_argument(
        "--examples",
        type=positive,
        help="questions to ask, from the first on; the passages of the others are searched too (default: all)",
    )
    parser.add_argument(
        "--corpus", type=Path, help="further passages to search: parquet or JSONL with passage_id and text"
    )
    parser.add_argument(
        "--shown",
        type=positive,
        nargs="+",
        default=[1, 5],
        help="passages that the reader sees; it answers once for each number (default: 1 5)",
    )
    parser.add_argument(
        "--batch-tokens", type=positive, default=8192, help="bound on a batch's memory, in tokens (default: 8192)"
    )
    encoder = parser.add_argument_group(
        "how the encoder is used",
        "By default as its sentence-transformers files say, and profiles/presets.yaml where they do not.",
    )
    encoder.add_argument("--encoder-revision", help="commit of a hub id (default: the current one)")
    encoder.add_argument("--pooling", choices=["mean", "cls"], help="needed if it has no such files")
    encoder.add_argument("--query-prefix", help="text before a question")
    encoder.add_argument("--passage-prefix", help="text before a passage")
    encoder.add_argument("--encoder-max-length", type=positive, help="tokens read of a text")
    reader = parser.add_argument_group("how the reader is asked", "By default as its reader.json says, or as follows.")
    reader.add_argument("--reader-revision", help="commit of a hub id (default: the current one)")
    reader.add_argument("--prompt", type=prompt, help=f"with {{query}} and {{passage}}; default: {ASKED.prompt!r}")
    reader.add_argument("--chat", action="store_true", default=None, help="put it into the tokenizer's chat template")
    reader.add_argument("--answer-end", help="text scored after every reference, or <eos> (default: none)")
    reader.add_argument("--stop", nargs="+", help="texts that end an answer, as line breaks and end tokens always do")
    reader.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="of the weights (default: float32)")
    reader.add_argument(
        "--max-length",
        type=positive,
        help=f"tokens of prompt and answer; a longer context loses its tail (default: {ASKED.max_length})",
    )
    reader.add_argument("--max-new-tokens", type=positive, help=f"of an answer (default: {ASKED.max_new_tokens})")
    return parser.parse_args()


def stated(arguments: argparse.Namespace, **fields: str) -> dict[str, Any]:
    """The fields whose options were given."""
    given = {field: getattr(arguments, option) for field, option in fields.items()}
    return {field: value for field, value in given.items() if value is not None}


def evaluate_file(arguments: argparse.Namespace) -> None:
    models = (arguments.encoder, arguments.reader, READERS / arguments.reader)
    written = arguments.output / "predictions.parquet", arguments.output / "summary.json"
    check_output(written, [arguments.input, arguments.corpus, *models])
    found = read_questions(arguments.input, arguments.split, *arguments.range)
    rows = found.rows[: arguments.examples]
    corpus, empty, fields = passage_texts(found.rows), 0, Counter[str]()
    if arguments.corpus:
        corpus, empty = read_passages(arguments.corpus, corpus, arguments.input, fields)
    how = ("prompt", "chat", "answer_end", "stop", "dtype", "max_length", "max_new_tokens")
    reader, settings = open_given_reader(
        arguments.reader, arguments.reader_revision, READERS, stated(arguments, **{name: name for name in how}), ASKED
    )
    shown = list(dict.fromkeys(arguments.shown))
    rankings, encoder = retrieve_given(rows, corpus, max(10, *shown), arguments)
    predictions: list[Row] = []
    with Journal(journal_folder() / "answers.sqlite") as journal:
        for count in track(shown, "answer"):
            seen = {0: top(rows, rankings, count)}
            predictions += predict(arguments.encoder, reader, count, seen, corpus, arguments.batch_tokens, journal)
    commit = getattr(reader.model.config, "_commit_hash", None)
    summary = {
        "encoder": encoder,
        "reader": {"model": arguments.reader, "revision": commit, **asdict(settings)},
        "input": str(arguments.input),
        "corpus": str(arguments.corpus) if arguments.corpus else None,
        **evaluation_summary.summarise(rows, predictions),
    }
    left_out = found.left_out | {"empty_corpus_passages": empty}
    summary["counts"] |= {"readable": len(found.rows), "passages": len(corpus), "left_out": left_out}
    if arguments.encoder == BM25:
        summary["counts"]["without_matching_word"] = without_word(ranking.scores for ranking in rankings)
    summary["counts"]["left_out_fields"] = found.fields | {f"corpus.{name}": count for name, count in fields.items()}
    write_rows(written[0], predictions, PREDICTIONS)
    written[1].write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console = PlainConsole()
    console.print(f"{arguments.encoder} and {arguments.reader} on {arguments.input}", soft_wrap=True)
    for part in evaluation_summary.tables(summary):
        console.print(part, soft_wrap=True)


def retrieve_given(
    rows: list[Row], corpus: dict[str, str], top_k: int, arguments: argparse.Namespace
) -> tuple[list[Ranking], dict[str, Any]]:
    """Rankings by the encoder that the arguments name, and a description of it."""
    usage = stated(
        arguments,
        pooling="pooling",
        query_prefix="query_prefix",
        passage_prefix="passage_prefix",
        max_length="encoder_max_length",
    )
    if arguments.encoder == BM25:
        return rank_by_bm25(rows, corpus, top_k), {"model": BM25}
    with TemporaryDirectory() as pointer:
        given = Path(pointer), arguments.encoder, arguments.encoder_revision
        folder, what = point_to_encoder(*given, usage, preset(arguments.encoder), partial(print, file=sys.stderr))
        return rank_by_encoder(folder, rows, corpus, top_k, arguments.batch_tokens, arguments.encoder), what


def preset(encoder: str) -> dict[str, Any]:
    """The entry of that model in profiles/presets.yaml; empty if there is none."""
    ready = read_yaml(PRESETS)["encoders"].values() if PRESETS.is_file() else []
    return next((entry for entry in ready if entry["model"] == encoder), {})


if __name__ == "__main__":
    run_stage(main)
