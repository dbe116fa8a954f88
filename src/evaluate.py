"""Stage evaluate: what the readers answer from the passages that a trained run retrieves; and any encoder and reader.

    python src/evaluate.py kl
    python src/evaluate.py --encoder sentence-transformers/all-MiniLM-L6-v2 --reader Qwen/Qwen3-0.6B-Base \
        --input dev-v1.1.json --examples 500 --output found

Every seed of the run retrieves from the passages of the evaluated split and distractors of corpus.parquet, both in
data/prepared; every reader answers from as many of them as evaluate.shown says, once for each number. Questions from
another domain (beyond.parquet, beyond_corpus.parquet), where there are any, are answered too, with the first number.
Writes data/predictions/runs/<run>.parquet (records.PREDICTIONS).

Outside DVC, one encoder (or BM25) and one reader on a file of questions: predictions.parquet of the same columns and
summary.json in the folder --output, and the summary on the terminal. What was embedded and answered once is kept in
.journal.
"""

import argparse
import gc
import json
import sys
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from bitter_retrieval.arguments import positive, prompt, row_range
from bitter_retrieval.data.question_files import read_passages, read_questions
from bitter_retrieval.evaluation.answering import predict, top, without_loss
from bitter_retrieval.evaluation.corpus import asked_in
from bitter_retrieval.evaluation.embeddings import Embeddings
from bitter_retrieval.evaluation.given_models import open_given_reader, point_to_encoder
from bitter_retrieval.evaluation.retrieval import Ranking, rank_by_bm25, rank_by_vectors
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.params import Evaluate, load_params
from bitter_retrieval.progress import bar, track
from bitter_retrieval.readers.language_model import ReaderSettings, load_reader
from bitter_retrieval.records import PREDICTIONS, Row, passage_texts, sweep, write_rows
from bitter_retrieval.reporting import evaluation_summary
from bitter_retrieval.stage import run_stage
from bitter_retrieval.typed_yaml import one_of, read_yaml

PREPARED_FOLDER = Path("data/prepared")
READERS = Path("models/readers")
RUNS = Path("models/runs")
PREDICTED = Path("data/predictions/runs")
ASKED = ReaderSettings("Question: {query}\nContext: {passage}\nAnswer:", "float32", 1024, 32)  # without a reader.json
BM25 = "bm25"
PRESETS = Path(__file__).parents[1] / "profiles/presets.yaml"


def main() -> None:
    keep_freed_memory()
    arguments = parse()
    if arguments.run:
        evaluate_run(arguments.run)
    else:
        evaluate_file(arguments)


def evaluate_run(name: str) -> None:
    params = load_params()
    one_of(name, params.runs, "params.yaml: runs")
    parts = asked_in(PREPARED_FOLDER, params.evaluate)
    sweep(READERS, params.readers)
    seeds = sorted(int(folder.name.removeprefix("seed")) for folder in (RUNS / name).glob("seed*"))
    retrieved = [
        (seed, part, retrieve(RUNS / name / f"seed{seed}", part.rows, part.corpus, params.evaluate))
        for seed in track(seeds, f"retrieve {name}")
        for part in parts
    ]
    answered: list[list[Row]] = [[] for _ in retrieved]
    steps = len(params.readers) * len(retrieved)
    with Journal(journal_folder() / "answers.sqlite") as journal, bar(f"evaluate {name}", steps) as advance:
        for one in params.readers:
            reader = load_reader(READERS / one)
            for rows, (seed, part, rankings) in zip(answered, retrieved, strict=True):
                for count in part.shown:
                    shown, budget = top(part.rows, rankings, count), params.evaluate.batch_tokens
                    rows += predict(name, reader, seed, count, shown, part.corpus, budget, journal)
                advance(1)
            del reader  # memory may not hold the next one beside it
            gc.collect()
    predictions = list(chain.from_iterable(answered))
    write_rows(PREDICTED / f"{name}.parquet", predictions, PREDICTIONS)
    if lacking := without_loss(predictions):
        print(f"evaluate {name}: {lacking}", file=sys.stderr)


def retrieve(folder: Path, rows: list[Row], corpus: dict[str, str], settings: Evaluate) -> list[Ranking]:
    """What the encoder in `folder` retrieves for each question."""
    known = Embeddings(folder, settings.batch_tokens, journal_folder() / "embeddings")
    queries = known.of([row["query"] for row in rows], "query")
    passages = known.of(list(corpus.values()), "passage")
    return rank_by_vectors(queries, passages, list(corpus), candidates(rows), settings.top_k, known.device)


def candidates(rows: list[Row]) -> list[list[str]]:
    return [[passage["passage_id"] for passage in row["passages"]] for row in rows]


# -- outside DVC -----------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Retrieve and answer (in the DAG: a run of params.yaml; outside: any encoder and reader, over a "
        "file of one's own), and say how well, with 95% intervals."
    )
    parser.add_argument("run", nargs="?", help="a name in runs of params.yaml; leave out all other arguments")
    parser.add_argument("--encoder", help=f"path, pkg://package/folder or hub id of a bi-encoder; or {BM25}")
    parser.add_argument(
        "--reader", help=f"a name in {READERS}; or path, pkg://package/folder or hub id of a causal language model"
    )
    parser.add_argument(
        "--input",
        type=Path,
        help="questions: prepared parquet, SQuAD's files, or JSONL, JSON or "
        "parquet in MS MARCO's layout or with query, answers, passages; a file, or a folder of splits",
    )
    parser.add_argument("--output", type=Path, help="folder for predictions.parquet and summary.json")
    parser.add_argument("--split", help="which split of a folder")
    parser.add_argument(
        "--range",
        type=row_range,
        default=(0, None),
        metavar="FIRST:LAST",
        help="rows that are read, LAST left out: their passages are searched (default: all)",
    )
    parser.add_argument(
        "--examples",
        type=positive,
        help="how many of the questions are asked, from the first on; the "
        "passages of the others are searched too (default: all)",
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
    encoder.add_argument("--encoder-revision", help="commit of a hub id (default: the one that it now has)")
    encoder.add_argument("--pooling", choices=["mean", "cls"], help="needed where it carries no such files")
    encoder.add_argument("--query-prefix", help="text before a question")
    encoder.add_argument("--passage-prefix", help="text before a passage")
    encoder.add_argument("--encoder-max-length", type=positive, help="tokens that are read of a text")
    reader = parser.add_argument_group("how the reader is asked", "By default as its reader.json says, or as follows.")
    reader.add_argument("--reader-revision", help="commit of a hub id (default: the one that it now has)")
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
    arguments = parser.parse_args()
    needed = ("encoder", "reader", "input", "output")
    missing = [f"--{name}" for name in needed if getattr(arguments, name) is None]
    if arguments.run is None and missing:
        parser.error(f"give a run of params.yaml, or {', '.join(missing)}")
    return arguments


def stated(arguments: argparse.Namespace, **fields: str) -> dict[str, Any]:
    """The fields whose options were given."""
    given = {field: getattr(arguments, option) for field, option in fields.items()}
    return {field: value for field, value in given.items() if value is not None}


def evaluate_file(arguments: argparse.Namespace) -> None:
    found = read_questions(arguments.input, arguments.split, *arguments.range)
    rows = found.rows[: arguments.examples]
    corpus, empty = passage_texts(found.rows), 0
    if arguments.corpus:
        corpus, empty = read_passages(arguments.corpus, corpus, arguments.input)
    how = ("prompt", "chat", "answer_end", "stop", "dtype", "max_length", "max_new_tokens")
    reader, settings = open_given_reader(
        arguments.reader, arguments.reader_revision, READERS, stated(arguments, **{name: name for name in how}), ASKED
    )
    shown = list(dict.fromkeys(arguments.shown))
    rankings, encoder = retrieve_given(rows, corpus, max(10, *shown), arguments)
    predictions: list[Row] = []
    with Journal(journal_folder() / "answers.sqlite") as journal:
        for count in track(shown, "answer"):
            seen = top(rows, rankings, count)
            predictions += predict(arguments.encoder, reader, 0, count, seen, corpus, arguments.batch_tokens, journal)
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
    write_rows(arguments.output / "predictions.parquet", predictions, PREDICTIONS)
    (arguments.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console = Console(markup=False, highlight=False)
    console.print(f"{arguments.encoder} and {arguments.reader} on {arguments.input}", soft_wrap=True)
    for part in evaluation_summary.tables(summary):
        console.print(part, soft_wrap=True)


def retrieve_given(
    rows: list[Row], corpus: dict[str, str], top_k: int, arguments: argparse.Namespace
) -> tuple[list[Ranking], dict[str, Any]]:
    """Rankings by the encoder that the arguments name, and what it is."""
    usage = stated(
        arguments,
        pooling="pooling",
        query_prefix="query_prefix",
        passage_prefix="passage_prefix",
        max_length="encoder_max_length",
    )
    if arguments.encoder == BM25:
        queries = [row["query"] for row in rows]
        return rank_by_bm25(queries, list(corpus.values()), list(corpus), candidates(rows), top_k), {"model": BM25}
    settings = Evaluate("test", None, False, top_k, arguments.shown, arguments.batch_tokens)
    with TemporaryDirectory(prefix=f"{Path(arguments.encoder).name}-") as pointer:
        given = Path(pointer), arguments.encoder, arguments.encoder_revision
        folder, what = point_to_encoder(*given, usage, preset(arguments.encoder), partial(print, file=sys.stderr))
        return retrieve(folder, rows, corpus, settings), what


def preset(encoder: str) -> dict[str, Any]:
    """The ready entry of that model; empty where there is none."""
    ready = read_yaml(PRESETS)["encoders"].values() if PRESETS.is_file() else []
    return next((entry for entry in ready if entry["model"] == encoder), {})


if __name__ == "__main__":
    run_stage(main)
