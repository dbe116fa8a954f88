"""Stage evaluate: the readers' answers from the passages that a trained run retrieves.

    python src/evaluate.py kl

Every seed of the run retrieves from the passages of the evaluated split and distractors of corpus.parquet, both in
data/prepared. Every reader answers once for each number in evaluate.shown, from that many passages; what several seeds
show is answered once. Questions from another domain (beyond.parquet, beyond_corpus.parquet), if there are any, are
answered too, with the first number.
Writes data/predictions/runs/<run>.parquet (records.PREDICTIONS).
"""

import gc
from collections.abc import Sequence
from pathlib import Path

from bitter_retrieval.command_line import bar, named, run_stage, warn
from bitter_retrieval.evaluation.answering import predict, top, without_loss
from bitter_retrieval.evaluation.corpus import asked_in
from bitter_retrieval.evaluation.retrieval import Ranking
from bitter_retrieval.evaluation.retrievers import rank_by_encoder
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.models.workers import Tell, side_by_side
from bitter_retrieval.readers.language_model import load_reader
from bitter_retrieval.records import PREDICTIONS, Row, sweep, write_rows

PREPARED_FOLDER = Path("data/prepared")
READERS = Path("models/readers")
RUNS = Path("models/runs")
PREDICTED = Path("data/predictions/runs")


def main(arguments: Sequence[str] | None = None) -> str:
    params, name = named("runs", __doc__, arguments)
    run = params.runs[name]
    keep_freed_memory()
    parts = asked_in(PREPARED_FOLDER, params.evaluate)
    sweep(READERS, params.readers)
    seeds = sorted(int(folder.name.removeprefix("seed")) for folder in (RUNS / name).glob("seed*"))
    top_k, budget = params.evaluate.top_k, params.evaluate.batch_tokens

    def rank(seed: int, tell: Tell) -> list[list[Ranking]]:
        folder = RUNS / name / f"seed{seed}"
        found = [rank_by_encoder(folder, part.rows, part.corpus, top_k, budget) for part in parts]
        tell(1)
        return found

    with bar(f"retrieve {name}", len(seeds), "seed") as advance:
        small = params.encoders[run.encoder].fit is not None  # of others memory may not hold several
        ranked = side_by_side(rank, seeds, advance, threads=1) if small else [rank(seed, advance) for seed in seeds]
    retrieved = [dict(zip(seeds, of_part, strict=True)) for of_part in zip(*ranked, strict=True)]
    predictions: list[Row] = []
    with Journal(journal_folder() / "answers.sqlite") as journal:
        for one in params.readers:
            reader = load_reader(READERS / one)
            for part, rankings in zip(parts, retrieved, strict=True):
                for count in part.shown:
                    shown = {seed: top(part.rows, own, count) for seed, own in rankings.items()}
                    predictions += predict(name, reader, count, shown, part.corpus, budget, journal, part.beyond, bar)
            del reader  # memory may not hold two
            gc.collect()
    write_rows(PREDICTED / f"{name}.parquet", predictions, PREDICTIONS)
    if lacking := without_loss(predictions):
        warn(f"evaluate {name}: {lacking}")
    return f"evaluate {name}: {len(predictions):,} answers of {len(params.readers)} readers, {len(seeds)} seeds"


if __name__ == "__main__":
    run_stage(main)
