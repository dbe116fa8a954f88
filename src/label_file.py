"""Label a file of questions with the answer losses of any reader, outside DVC.

    python src/label_file.py --model Qwen/Qwen3-0.6B-Base --input questions.jsonl --output labels.parquet

Writes records.SOFT_LABELS and, next to them, their account (labels.account.json), which is also printed. Scored answers
are kept in .journal: a killed command continues where it was.
"""

import argparse
import json
from pathlib import Path

from bitter_retrieval.command_line import bar, check_output, positive, prompt, row_range, run_stage, say
from bitter_retrieval.data.question_files import read_questions
from bitter_retrieval.labels.scored import score_splits, soft_account
from bitter_retrieval.labels.settings import Label
from bitter_retrieval.models.checkpoints import is_gguf
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.records import SOFT_LABELS, write_rows

PROMPT = "Question: {query}\nContext: {passage}\nAnswer:"


def main() -> None:
    keep_freed_memory()
    label_file(parse())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Label the candidates in a file with the answer loss of a frozen language model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
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
    parser.add_argument("--prompt", type=prompt, default=PROMPT, help="with {query} and {passage}; the answer follows")
    parser.add_argument("--chat", action="store_true", help="put the prompt into the tokenizer's chat template")
    parser.add_argument("--answer-end", default="", help="text scored after every answer, or <eos>")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    parser.add_argument("--max-length", type=positive, default=1024, help="tokens; a longer context loses its tail")
    parser.add_argument("--batch-tokens", type=positive, default=8192, help="tokens in a batch, which bound its memory")
    parser.add_argument("--unscorable", default="error", choices=["error", "skip"], help="skip leaves the label empty")
    parser.add_argument("--mlflow", action="store_true", help="log rates to mlflow.db in this folder")
    return parser.parse_args()


def label_file(arguments: argparse.Namespace) -> None:
    from bitter_retrieval.readers.gguf import find_gguf, provenance
    from bitter_retrieval.readers.language_model import ReaderSettings, open_reader

    counts_file = arguments.output.parent / f"{arguments.output.stem}.account.json"
    check_output([arguments.output, counts_file], [arguments.input, arguments.model])
    found = read_questions(arguments.input, arguments.split, *arguments.range)
    asked = ReaderSettings(
        arguments.prompt, arguments.dtype, arguments.max_length, 0, arguments.chat, arguments.answer_end
    )
    reader = open_reader(Path(arguments.model).name, arguments.model, arguments.revision, asked)
    settings = Label(arguments.batch_tokens, arguments.unscorable, arguments.mlflow)
    labels = score_splits(reader, {"rows": found.rows}, settings, bar, say)["rows"]
    write_rows(arguments.output, labels, SOFT_LABELS)
    account = {**soft_account(found.rows, labels), "left_out": found.left_out, "left_out_fields": found.fields}
    if is_gguf(arguments.model):
        account["weights"] = provenance(find_gguf(arguments.model, arguments.revision))
    counted = json.dumps(account, indent=2)
    counts_file.write_text(counted + "\n", encoding="utf-8")
    print(counted)


if __name__ == "__main__":
    run_stage(main)
