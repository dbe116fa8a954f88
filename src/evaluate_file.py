"""Evaluate any encoder (or BM25) and any reader on a file of questions, outside DVC.

    python src/evaluate_file.py --encoder sentence-transformers/all-MiniLM-L6-v2 --reader Qwen/Qwen3-0.6B-Base \
        --input dev-v1.1.json --examples 500 --output found

    python src/evaluate_file.py --encoder bm25 --input scifact --output found    # retrieval alone, on a folder of BEIR

Writes predictions.parquet (records.PREDICTIONS; without a reader rankings.parquet, its columns of rankings) and
summary.json into the folder --output, and prints the summary, with 95% intervals. Embeddings and answers are kept in
.journal and not computed again.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bitter_retrieval.command_line import Parser, bar, check_output, positive, prompt, row_range, run_stage

# isort: split
import pyarrow as pa

from bitter_retrieval.data.layouts import beir_file, is_beir
from bitter_retrieval.data.passage_files import read_passages
from bitter_retrieval.data.question_files import read_questions
from bitter_retrieval.evaluation.answering import predict, top
from bitter_retrieval.evaluation.given_models import open_given_reader, point_to_encoder
from bitter_retrieval.evaluation.retrieval import Ranking, without_word
from bitter_retrieval.evaluation.retrievers import rank_by_bm25, rank_by_encoder
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.plain_text import PlainConsole
from bitter_retrieval.readers.language_model import Reader, ReaderSettings
from bitter_retrieval.records import PREDICTIONS, Row, passage_texts, write_json, write_rows
from bitter_retrieval.reporting import evaluation_summary
from bitter_retrieval.statistics.metrics import PREDICTED
from bitter_retrieval.typed_yaml import read_yaml

READERS = Path("models/readers")
ASKED = ReaderSettings("Question: {query}\nContext: {passage}\nAnswer:", "float32", 1024, 32)  # without a reader.json
BM25 = "bm25"
RANKED = ("query_id", "group_id", "ranked_ids", "ranked_scores", "candidate_ids", "candidate_ranks")
RANKINGS = pa.schema([PREDICTIONS.field(name) for name in RANKED])
PRESETS = Path(__file__).parents[1] / "profiles/presets.yaml"


def main(arguments: Sequence[str] | None = None) -> str:
    options = parse(arguments)
    keep_freed_memory()
    return evaluate_file(options)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--encoder", required=True, help=f"path, pkg://package/folder or hub id of a bi-encoder; or {BM25}"
    )
    parser.add_argument(
        "--reader",
        help=f"a name in {READERS}; or path, pkg://package/folder or hub id of a causal language model; without one, "
        "only retrieval is measured",
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="questions: prepared parquet, SQuAD's files, or JSONL, JSON or "
        "parquet in MS MARCO's layout or with query, answers, passages; a file, or a folder of splits; or a folder of "
        "BEIR, whose corpus is searched",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--split", help="which split of a folder (default for BEIR: test)")
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
    return parser.parse_args(arguments)


def stated(arguments: argparse.Namespace, **fields: str) -> dict[str, Any]:
    """The fields whose options were given."""
    given = {field: getattr(arguments, option) for field, option in fields.items()}
    return {field: value for field, value in given.items() if value is not None}


def evaluate_file(arguments: argparse.Namespace) -> str:
    read = arguments.reader is not None
    models = (arguments.encoder, *((arguments.reader, READERS / arguments.reader) if read else ()))
    rows_file = f"{'predictions' if read else 'rankings'}.parquet"
    written = arguments.output / rows_file, arguments.output / "summary.json"
    check_output(written, [arguments.input, arguments.corpus, *models])
    first, last = arguments.range
    found = read_questions(arguments.input, arguments.split, first, last, unanswered=not read, graded=True)
    rows = found.rows[: arguments.examples]
    corpus, empty, fields = passage_texts(found.rows), 0, Counter[str]()
    own = [beir_file(arguments.input, "corpus")] if is_beir(arguments.input) else []
    for file in (*own, *([arguments.corpus] if arguments.corpus else [])):
        corpus, without_text = read_passages(file, corpus, arguments.input, fields)
        empty += without_text
    reader = open_reader(arguments) if read else None  # before the passages are embedded: it may be refused
    shown = list(dict.fromkeys(arguments.shown))
    rankings, encoder = retrieve_given(rows, corpus, max(10, *shown), arguments)
    predictions = answers(reader[0], shown, rows, rankings, corpus, arguments) if reader else unread(rows, rankings)
    figures = evaluation_summary.summarise(rows, predictions)
    if not reader:
        figures["answers"] = figures["counts"]["truncated"] = figures["counts"]["unscorable"] = {}
    summary = {
        "encoder": encoder,
        "reader": reader and reader[1],
        "input": str(arguments.input),
        "corpus": str(arguments.corpus) if arguments.corpus else None,
        **figures,
    }
    left_out = found.left_out | {"empty_corpus_passages": empty}
    summary["counts"] |= {"readable": len(found.rows), "passages": len(corpus), "left_out": left_out}
    if arguments.encoder == BM25:
        summary["counts"]["without_matching_word"] = without_word(ranking.scores for ranking in rankings)
    summary["counts"]["left_out_fields"] = found.fields | {f"corpus.{name}": count for name, count in fields.items()}
    write_rows(written[0], predictions, PREDICTIONS if read else RANKINGS)
    write_json(written[1], summary)
    console = PlainConsole()
    who = f"{arguments.encoder} and {arguments.reader}" if read else arguments.encoder
    console.print(f"{who} on {arguments.input}", soft_wrap=True)
    for part in evaluation_summary.tables(summary):
        console.print(part, soft_wrap=True)
    return f"evaluate_file: {len(rows):,} of {len(found.rows):,} questions in {arguments.output}"


def open_reader(arguments: argparse.Namespace) -> tuple[Reader, dict[str, Any]]:
    """The reader that the arguments name, and a description of it."""
    how = ("prompt", "chat", "answer_end", "stop", "dtype", "max_length", "max_new_tokens")
    asked = stated(arguments, **{name: name for name in how})
    reader, settings = open_given_reader(arguments.reader, arguments.reader_revision, READERS, asked, ASKED)
    commit = getattr(reader.model.config, "_commit_hash", None)
    return reader, {"model": arguments.reader, "revision": commit, **asdict(settings)}


def answers(
    reader: Reader,
    shown: list[int],
    rows: list[Row],
    rankings: list[Ranking],
    corpus: dict[str, str],
    arguments: argparse.Namespace,
) -> list[Row]:
    """The reader's answers from the first passages of each ranking, for each number in `shown`."""
    system, budget = arguments.encoder, arguments.batch_tokens
    with Journal(journal_folder() / "answers.sqlite") as journal:
        return [
            row
            for count in shown
            for row in predict(
                system, reader, count, {0: top(rows, rankings, count)}, corpus, budget, journal, watch=bar
            )
        ]


def unread(rows: list[Row], rankings: list[Ranking]) -> list[Row]:
    """Rankings as rows, like predictions without an answer."""
    unknown = {"shown": 0, "truncated": 0, **dict.fromkeys(PREDICTED)}
    return [
        unknown
        | {name: row[name] for name in ("query_id", "group_id")}
        | {"ranked_ids": one.ids, "ranked_scores": one.scores}
        | {"candidate_ids": [passage["passage_id"] for passage in row["passages"]]}
        | {"candidate_ranks": one.candidate_ranks}
        for row, one in zip(rows, rankings, strict=True)
    ]


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
