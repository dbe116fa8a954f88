"""A reader in a folder, as its library saves it, and the answer losses to compare its labels with."""

from pathlib import Path
from typing import Any

import tiny

from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.language_model import ReaderSettings, open_reader
from bitter_retrieval.records import Row

PROMPT = "Question: {query}\nContext: {passage}\nAnswer:"
ASKED = {"prompt": PROMPT, "dtype": "float32", "max_length": 1024, "max_new_tokens": 0}
TOO_LONG = "goat " * 99  # an answer longer than a max_length of 96


def save_reader(folder: Path) -> Path:
    """A Qwen3 checkpoint: config, weights and tokenizer."""
    reader = tiny.tiny_reader(tokenizer="bpe")
    reader.model.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    return folder


def texts(row: Row) -> list[str]:
    return [passage["text"] for passage in row["passages"]]


def losses(model: Path, rows: list[Row], **settings: Any) -> list[float]:
    """Losses of each row's first answer, given each passage and none."""
    reader = open_reader("x", str(model), None, ReaderSettings(**{**ASKED, **settings}))
    asked = [Triple(row["query"], text, row["answers"][0]) for row in rows for text in [*texts(row), ""]]
    return [score.nll_sum for score in Scorer(reader, 10**6).score(asked)]
