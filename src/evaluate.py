"""Stage evaluate: the readers' answers from the passages that a trained run retrieves.

    python src/evaluate.py kl

Every seed of the run retrieves from the passages of the evaluated split and distractors of corpus.parquet, both in
data/prepared. Every reader answers once for each number in evaluate.shown, from that many passages. Questions from
another domain (beyond.parquet, beyond_corpus.parquet), if there are any, are answered too, with the first number.
Writes data/predictions/runs/<run>.parquet (records.PREDICTIONS).
"""

import gc
import sys
from itertools import chain
from pathlib import Path

from bitter_retrieval.command_line import bar, named, run_stage, track
from bitter_retrieval.evaluation.answering import predict, top, without_loss
from bitter_retrieval.evaluation.corpus import asked_in
from bitter_retrieval.evaluation.retrievers import rank_by_encoder
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.params import load_params
from bitter_retrieval.readers.language_model import load_reader
from bitter_retrieval.records import PREDICTIONS, Row, sweep, write_rows

PREPARED_FOLDER = Path("data/prepared")
READERS = Path("models/readers")
RUNS = Path("models/runs")
PREDICTED = Path("data/predictions/runs")


def main() -> None:
    params = load_params()
    name, _ = named("runs", params.runs)
    keep_freed_memory()
    parts = asked_in(PREPARED_FOLDER, params.evaluate)
    sweep(READERS, params.readers)
    seeds = sorted(int(folder.name.removeprefix("seed")) for folder in (RUNS / name).glob("seed*"))
    top_k, budget = params.evaluate.top_k, params.evaluate.batch_tokens
    retrieved = [
        (seed, part, rank_by_encoder(RUNS / name / f"seed{seed}", part.rows, part.corpus, top_k, budget))
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
                    shown = top(part.rows, rankings, count)
                    rows += predict(name, reader, seed, count, shown, part.corpus, budget, journal, part.beyond)
                advance(1)
            del reader  # memory may not hold two
            gc.collect()
    predictions = list(chain.from_iterable(answered))
    write_rows(PREDICTED / f"{name}.parquet", predictions, PREDICTIONS)
    if lacking := without_loss(predictions):
        print(f"evaluate {name}: {lacking}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
