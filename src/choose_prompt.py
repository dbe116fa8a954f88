"""Which prompt does a reader answer best by? Tried on validation questions with the passage that people selected.

    python src/choose_prompt.py smollm2 --questions 100 --output docs/prompts_smollm2.md

Tries 0, 2 and 4 of the reader's `examples` in params.yaml, the passage before the question and after it, and plain text
or the tokenizer's chat template. Prints a table, the best first: exact match, F1, the loss of the best reference given
the passage, and exact match without a passage, which is what the reader knows or guesses. Copy the winner into
`readers.<reader>` by hand. Test questions are not looked at.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from bitter_retrieval.command_line import Parser, check_output, positive, run_stage, track

# isort: split
import numpy as np

from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.params import load_params
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.language_model import Reader, ReaderError, load_reader
from bitter_retrieval.readers.prompts import Prompt
from bitter_retrieval.records import PREPARED, SUPPORTING_ROLES, Row, read_rows, write_text
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.scoring import exact_match, f1
from bitter_retrieval.typed_yaml import one_of

ROWS, READERS = Path("data/prepared/validation.parquet"), Path("models/readers")
ORDERS = {
    "passage first": "Context: {passage}\nQuestion: {query}\nAnswer:",
    "question first": "Question: {query}\nContext: {passage}\nAnswer:",
}
EXAMPLES = (0, 2, 4)
HEADS = ["examples", "order", "chat", "exact match %", "F1 %", "loss, nats a token", "exact match without passage %"]


class Trial(NamedTuple):
    examples: int
    order: str
    chat: bool
    em: float
    f1: float
    nll: float  # mean over the questions that can be scored
    em_without: float
    unasked: int  # questions that the reader cannot be asked; they count as wrong

    def cells(self) -> list[str]:
        shares = [f"{100 * value:.1f}" for value in (self.em, self.f1)]
        asked = [str(self.examples), self.order, "yes" if self.chat else "no"]
        return [*asked, *shares, f"{self.nll:.2f}", f"{100 * self.em_without:.1f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    keep_freed_memory()
    name = one_of(options.reader, load_params().readers, "params.yaml: readers")
    if options.output:
        check_output([options.output], ["params.yaml", ROWS, READERS / name])
    reader = load_reader(READERS / name)
    questions = shown(read_rows(ROWS, PREPARED))[: options.questions]
    if not questions:
        raise ReaderError(f"{ROWS}: no question has a passage that people selected. Prompts are tried on such ones.")
    found = sorted(trials(reader, questions, options.batch_tokens), key=lambda trial: (-trial.em, trial.nll))
    page = told(name, len(questions), found)
    print(page)
    if options.output:
        write_text(options.output, page + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("reader", help="a reader of params.yaml, whose stage has run")
    parser.add_argument("--questions", type=positive, default=100, help="the first ones of validation (default 100)")
    parser.add_argument("--batch-tokens", type=positive, default=8192, help="tokens in a batch, which bound its memory")
    parser.add_argument("--output", type=Path, help="a Markdown page for the table")
    return parser.parse_args(arguments)


def shown(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Questions with the passage that people selected or, in the generated world, that supports the answer."""
    return [
        (row, passages[0])
        for row in rows
        if (passages := [p["text"] for p in row["passages"] if p["is_selected"] or p["role"] in SUPPORTING_ROLES])
    ]


def trials(reader: Reader, questions: Sequence[tuple[Row, str]], budget: int) -> Iterator[Trial]:
    worked = reader.prompt.examples
    counts = [count for count in EXAMPLES if count <= len(worked)]
    chats = (False, True) if reader.tokenizer.chat_template else (False,)
    for count, order, chat in track(list(product(counts, ORDERS, chats)), f"try {reader.name}", unit="prompt"):
        prompt = Prompt(ORDERS[order], worked[:count], reader.prompt.several)
        yield trial(replace(reader, prompt=prompt, chat=chat), questions, budget, count, order)


def trial(reader: Reader, questions: Sequence[tuple[Row, str]], budget: int, count: int, order: str) -> Trial:
    unasked: list[ReaderError] = []
    said = [
        [answer.text if answer else "" for answer in generate_answers(reader, asked, budget, on_bad=unasked.append)]
        for asked in ([(row["query"], text) for row, text in questions], [(row["query"], "") for row, _ in questions])
    ]
    triples = [[Triple(row["query"], text, answer) for answer in row["answers"]] for row, text in questions]
    scores = iter(Scorer(reader, budget).score([t for own in triples for t in own], on_bad=lambda error: None))
    losses = [[s.nll_sum / s.n_tokens for s in (next(scores) for _ in own) if s is not None] for own in triples]
    references = [row["answers"] for row, _ in questions]

    def mean(metric: Callable[[str, Sequence[str]], float], answers: Sequence[str]) -> float:
        return float(np.mean([metric(answer, own) for answer, own in zip(answers, references, strict=True)]))

    return Trial(
        count,
        order,
        reader.chat,
        mean(exact_match, said[0]),
        mean(f1, said[0]),
        float(np.mean([min(own) for own in losses if own])) if any(losses) else float("nan"),
        mean(exact_match, said[1]),
        len(unasked),
    )


def told(name: str, questions: int, found: Sequence[Trial]) -> str:
    unasked = max(trial.unasked for trial in found)
    return "\n\n".join(
        [
            f"# Prompts of {name}",
            f"`python src/choose_prompt.py {name} --questions {questions}`, on validation questions with the passage "
            "that people selected; the best first." + (f" At most {unasked} prompts did not fit." if unasked else ""),
            markdown_table(HEADS, [trial.cells() for trial in found]),
        ]
    )


if __name__ == "__main__":
    run_stage(main)
