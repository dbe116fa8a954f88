"""Label a file of questions with the answer losses of any reader, outside DVC.

    python src/label_file.py --model Qwen/Qwen3-0.6B-Base --input questions.jsonl --output labels.parquet

Writes records.SOFT_LABELS and, next to them, their account (labels.account.json), of which the main
figures are printed. Scored answers are kept in .journal: a killed command continues where it was.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bitter_retrieval.command_line import Parser, bar, check_output, positive, prompt, row_range, run_stage, say

# isort: split
from rich import box
from rich.table import Table

from bitter_retrieval.data.question_files import read_questions
from bitter_retrieval.labels.scored import score_splits, soft_account
from bitter_retrieval.labels.settings import Label
from bitter_retrieval.models.checkpoints import is_gguf
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.plain_text import PlainConsole
from bitter_retrieval.records import SOFT_LABELS, write_json, write_rows

PROMPT = "Question: {query}\nContext: {passage}\nAnswer:"


def main(arguments: Sequence[str] | None = None) -> str:
    options = parse(arguments)
    keep_freed_memory()
    return label_file(options)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--model", required=True, help="path, pkg://package/folder or hub id of a causal language model, or a GGUF file"
    )
    parser.add_argument("--revision", help="commit of a hub id")
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="prepared parquet, or JSONL, JSON or parquet in MS MARCO's layout "
        "or with query, answers, passages; a file, or a folder of splits",
    )
    parser.add_argument("--split", help="split, if the input is a folder")
    parser.add_argument("--range", type=row_range, default=(0, None), metavar="FIRST:LAST", help="rows, LAST excluded")
    parser.add_argument(
        "--output", type=Path, required=True, help="parquet of soft labels; its account is put next to it"
    )
    parser.add_argument(
        "--prompt",
        type=prompt,
        default=PROMPT,
        help="with {query} and {passage}; the answer follows (default: %(default)r)",
    )
    parser.add_argument("--chat", action="store_true", help="put the prompt into the tokenizer's chat template")
    parser.add_argument("--answer-end", default="", help="text scored after every answer, or <eos>")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="of the weights (default: %(default)s)",
    )
    parser.add_argument(
        "--max-length", type=positive, default=1024, help="a longer context loses its tail (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-tokens", type=positive, default=8192, help="which bound its memory (default: %(default)s)"
    )
    parser.add_argument(
        "--unscorable",
        default="error",
        choices=["error", "skip"],
        help="skip leaves the label empty (default: %(default)s)",
    )
    parser.add_argument("--mlflow", action="store_true", help="log rates to mlflow.db in this folder")
    return parser.parse_args(arguments)


def label_file(arguments: argparse.Namespace) -> str:
    from bitter_retrieval.readers.gguf import find_gguf, provenance
    from bitter_retrieval.readers.language_model import ReaderSettings, open_reader

    counts_file = arguments.output.parent / f"{arguments.output.stem}.account.json"
    check_output([arguments.output, counts_file], [arguments.input, arguments.model])
    found = read_questions(arguments.input, arguments.split, *arguments.range)
    asked = ReaderSettings(
        arguments.prompt, arguments.dtype, arguments.max_length, 0, arguments.chat, arguments.answer_end
    )
    reader = open_reader(Path(arguments.model).name, arguments.model, arguments.revision, asked)
    settings = Label(arguments.batch_tokens, arguments.unscorable)
    labels = score_splits(reader, {"rows": found.rows}, settings, bar, say, tracked=arguments.mlflow)["rows"]
    write_rows(arguments.output, labels, SOFT_LABELS)
    account = {**soft_account(found.rows, labels), "left_out": found.left_out, "left_out_fields": found.fields}
    if is_gguf(arguments.model):
        account["weights"] = provenance(find_gguf(arguments.model, arguments.revision))
    write_json(counts_file, account)
    PlainConsole().print(table(account), soft_wrap=True)
    return f"label_file: {len(labels) - account['unscorable']:,} of {len(labels):,} losses in {arguments.output}"


def table(account: Mapping[str, Any]) -> Table:
    """The account's main figures. A dash: unknown, or nothing counts towards it."""
    selected = account["human_label"] or {"disagreement": None}
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    found.add_column(no_wrap=True)
    found.add_column(justify="right", no_wrap=True)
    for words, value, form in (
        ("questions", account["queries"], ",d"),
        ("labels: every candidate and no passage, by every reference", account["rows"] + account["unscorable"], ",d"),
        ("of them without a loss", account["unscorable"], ",d"),
        ("contexts that lost their tail at --max-length", account["truncated_contexts"], ",d"),
        ("gain of a passage over none, mean, nats a token", account["gain"]["mean"], "+.3f"),
        ("passages worse than none", account["worse_than_none"], ".1%"),
        ("exact match without a passage", account["exact_without_passage"], ".1%"),
        ("best passage by loss is not the selected one", selected["disagreement"], ".1%"),
        *((f"left out: {name.replace('_', ' ')}", count, ",d") for name, count in account["left_out"].items() if count),
        *((f"field not read: {name}", count, ",d") for name, count in account["left_out_fields"].items()),
    ):
        found.add_row(words, "-" if value is None else format(value, form))
    return found


if __name__ == "__main__":
    run_stage(main)
