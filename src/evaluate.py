"""Stage evaluate: what the readers answer from the passages that a trained run retrieves.

    python src/evaluate.py kl

Every seed of the run retrieves from the passages of the evaluated split and distractors of corpus.parquet, both in
data/prepared; every reader answers from as many of them as evaluate.shown says, once for each number. Writes
data/predictions/runs/<run>.parquet (records.PREDICTIONS).
"""

import sys
from itertools import product
from pathlib import Path

from bitter_retrieval.answering import predict, top
from bitter_retrieval.corpus import searched_corpus
from bitter_retrieval.embeddings import Embeddings
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.language_model import load_reader
from bitter_retrieval.memory import keep_freed_memory
from bitter_retrieval.params import Evaluate, load_params
from bitter_retrieval.progress import bar
from bitter_retrieval.records import CORPUS, PREDICTIONS, PREPARED, Row, read_rows, sweep, write_rows
from bitter_retrieval.retrieval import Ranking, rank_by_vectors
from bitter_retrieval.stage import run_stage

PREPARED_FOLDER = Path("data/prepared")
READERS = Path("models/readers")
RUNS = Path("models/runs")
PREDICTED = Path("data/predictions/runs")


def main() -> None:
    name = sys.argv[1]
    keep_freed_memory()
    params = load_params()
    rows = read_rows(PREPARED_FOLDER / f"{params.evaluate.split}.parquet", PREPARED)
    corpus = searched_corpus(read_rows(PREPARED_FOLDER / "corpus.parquet", CORPUS), rows, params.evaluate)
    sweep(READERS, params.readers)
    readers = [load_reader(READERS / reader) for reader in params.readers]
    seeds = sorted(int(folder.name.removeprefix("seed")) for folder in (RUNS / name).glob("seed*"))
    predictions: list[Row] = []
    with Journal(journal_folder() / "answers.sqlite") as journal, bar(f"evaluate {name}", len(seeds)) as advance:
        for seed in seeds:
            rankings = retrieve(RUNS / name / f"seed{seed}", rows, corpus, params.evaluate)
            for reader, count in product(readers, params.evaluate.shown):
                shown = top(rows, rankings, count)
                predictions += predict(name, reader, seed, count, shown, corpus, params.evaluate.batch_tokens, journal)
            advance(1)
    write_rows(PREDICTED / f"{name}.parquet", predictions, PREDICTIONS)


def retrieve(folder: Path, rows: list[Row], corpus: dict[str, str], settings: Evaluate) -> list[Ranking]:
    """What the encoder in `folder` retrieves for each question."""
    known = Embeddings(folder, settings.batch_tokens, journal_folder() / "embeddings")
    queries = known.of([row["query"] for row in rows], "query")
    passages = known.of(list(corpus.values()), "passage")
    candidates = [[passage["passage_id"] for passage in row["passages"]] for row in rows]
    return rank_by_vectors(queries, passages, list(corpus), candidates, settings.top_k, known.device)


if __name__ == "__main__":
    run_stage(main)
