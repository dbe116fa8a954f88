"""Stage reader: one reader, ready to load.

    python src/reader.py reader_a

A reader with `model: fit` is fitted on data/prepared/reader.parquet; for any other, models/readers/<reader>/ points to
its weights. data/figures/reader/<reader>.json holds its exact match with a supporting, a random and no passage, on
groups of reader.parquet that it was not fitted on; and how many of these prompts it cannot be asked, if any.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bitter_retrieval.command_line import bar, named, run_stage

# isort: split
import numpy as np

from bitter_retrieval.models.checkpoints import is_gguf, save_checkpoint, write_pointer
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.readers.fit import fit_reader, supports
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.gguf import find_gguf, provenance
from bitter_retrieval.readers.language_model import Reader, ReaderError, ReaderSettings, load_reader, save_settings
from bitter_retrieval.readers.prompts import Prompt
from bitter_retrieval.readers.settings import ReaderFit, ReaderParams
from bitter_retrieval.records import PREPARED, Row, read_rows, replacing, write_json
from bitter_retrieval.scoring import exact_match

ROWS = Path("data/prepared/reader.parquet")
MODELS = Path("models/readers")
FIGURES = Path("data/figures/reader")
CHECKED_GROUPS = 250  # that check a reader that is not fitted here
BATCH_TOKENS = 8192


def main(arguments: Sequence[str] | None = None) -> str:
    params, name = named("readers", __doc__, arguments)
    settings = params.readers[name]
    keep_freed_memory()
    fitting, held_out = divide(read_rows(ROWS, PREPARED), settings.fit.held_out if settings.fit else CHECKED_GROUPS)
    fitted = fit(name, fitting, settings, settings.fit) if settings.fit else None
    asked = ReaderSettings(**{f.name: getattr(settings, f.name) for f in fields(ReaderSettings)})
    weights = provenance(find_gguf(settings.model, settings.revision)) if is_gguf(settings.model) else None
    with replacing(MODELS / name) as folder:
        if fitted:
            save_checkpoint(folder, *fitted)
        else:
            write_pointer(folder, settings.model, settings.revision)
        save_settings(folder, asked, weights)
    found = accuracy(load_reader(MODELS / name), held_out)
    write_json(FIGURES / f"{name}.json", found)
    how, em = f"fitted in {settings.fit.steps:,} steps" if settings.fit else settings.model, found["em_supporting"]
    measured = "not measured" if em is None else f"exact match {em:.1%} with a supporting passage"
    return f"reader {name}: {how}; {measured}, {len(held_out):,} questions"


def divide(rows: list[Row], held_out: int) -> tuple[list[Row], list[Row]]:
    """Rows to fit on, and rows of the last `held_out` groups to check on (at most a third of the groups)."""
    groups = list(dict.fromkeys(row["group_id"] for row in rows))
    checked = set(groups[len(groups) - min(held_out, len(groups) // 3) :])
    return [r for r in rows if r["group_id"] not in checked], [r for r in rows if r["group_id"] in checked]


def fit(name: str, rows: list[Row], reader: ReaderParams, settings: ReaderFit) -> tuple[Any, Any]:
    """Model and tokenizer."""
    with bar(f"fit {name}", settings.steps, "step") as advance:
        return fit_reader(rows, Prompt(reader.prompt), reader.max_length, settings, lambda step, losses: advance(1))


def accuracy(reader: Reader, rows: list[Row]) -> dict[str, float | None]:
    """Exact match with a supporting candidate, a random passage of another group, no passage, and by role.

    None if no row has such a context: data without a split for readers has no rows at all. A prompt that the reader
    cannot be asked counts as answered wrongly, and in not_asked.
    """
    unasked: list[ReaderError] = []
    rng = np.random.default_rng(0)
    pool = [(row["group_id"], passage["text"]) for row in rows for passage in row["passages"]]
    groups = {group for group, _ in pool}

    def supporting(row: Row) -> str | None:
        return _any([p["text"] for p in row["passages"] if supports(p)], rng)

    def random(row: Row) -> str | None:
        while len(groups) > 1:
            group, text = pool[rng.integers(len(pool))]
            if group != row["group_id"]:
                return text
        return None

    def em(context: Callable[[Row], str | None]) -> float | None:
        return _em(reader, rows, context, unasked.append)

    found = {
        "questions": len(rows),
        "em_supporting": em(supporting),
        "em_random": em(random),
        "em_no_passage": em(lambda row: ""),
    }
    roles = sorted({p["role"] for row in rows for p in row["passages"] if p["role"]})
    found |= {f"em_{role}": em(_with_role(role)) for role in roles}
    return {**found, "not_asked": len(unasked)} if unasked else found


def _with_role(role: str) -> Callable[[Row], str | None]:
    return lambda row: next((p["text"] for p in row["passages"] if p["role"] == role), None)


def _any(options: list[str], rng: np.random.Generator) -> str | None:
    return options[rng.integers(len(options))] if options else None


def _em(
    reader: Reader, rows: list[Row], context: Callable[[Row], str | None], on_bad: Callable[[ReaderError], None]
) -> float | None:
    """Share of exact matches over the rows that have such a context; None where there are none."""
    shown = [(row, text) for row in rows if (text := context(row)) is not None]
    answers = generate_answers(reader, [(row["query"], text) for row, text in shown], BATCH_TOKENS, on_bad=on_bad)
    hits = [
        0.0 if answer is None else exact_match(answer.text, row["answers"])
        for (row, _), answer in zip(shown, answers, strict=True)
    ]
    return round(float(np.mean(hits)), 4) if hits else None


if __name__ == "__main__":
    run_stage(main)
