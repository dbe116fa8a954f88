"""Stage evaluate: what the readers answer from the passages that a trained run retrieves.

    python src/evaluate.py kl

Every seed of the run retrieves from data/prepared/corpus.parquet, and from the passages of the evaluated split, which
the corpus holds if that is test; every reader answers. Writes data/predictions/runs/<run>.parquet
(records.PREDICTIONS).
"""

import sys
from pathlib import Path

from bitter_retrieval.answering import Shown, predict
from bitter_retrieval.encoder import load_encoder
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.language_model import load_reader
from bitter_retrieval.memory import keep_freed_memory
from bitter_retrieval.params import Evaluate, load_params
from bitter_retrieval.progress import bar
from bitter_retrieval.records import CORPUS, PREDICTIONS, PREPARED, Row, passage_texts, read_rows, sweep, write_rows
from bitter_retrieval.retrieval import rank_by_vectors
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
    corpus = {p["passage_id"]: p["text"] for p in read_rows(PREPARED_FOLDER / "corpus.parquet", CORPUS)}
    corpus |= passage_texts(rows)
    sweep(READERS, params.readers)
    readers = [load_reader(READERS / reader) for reader in params.readers]
    seeds = sorted(int(folder.name.removeprefix("seed")) for folder in (RUNS / name).glob("seed*"))
    predictions: list[Row] = []
    with Journal(journal_folder() / "answers.sqlite") as journal, bar(f"evaluate {name}", len(seeds)) as advance:
        for seed in seeds:
            shown = retrieve(RUNS / name / f"seed{seed}", rows, corpus, params.evaluate)
            for reader in readers:
                predictions += predict(name, reader, seed, shown, corpus, params.evaluate.batch_tokens, journal)
            advance(1)
    write_rows(PREDICTED / f"{name}.parquet", predictions, PREDICTIONS)


def retrieve(folder: Path, rows: list[Row], corpus: dict[str, str], settings: Evaluate) -> list[Shown]:
    """What the encoder in `folder` retrieves for each question."""
    encoder = load_encoder(folder)
    queries = encoder.embed([row["query"] for row in rows], "query", settings.batch_tokens)
    passages = encoder.embed(list(corpus.values()), "passage", settings.batch_tokens)
    candidates = [[passage["passage_id"] for passage in row["passages"]] for row in rows]
    rankings = rank_by_vectors(queries, passages, list(corpus), candidates, settings.top_k)
    return [Shown(row, ranking.ids[: settings.shown], ranking) for row, ranking in zip(rows, rankings, strict=True)]


if __name__ == "__main__":
    run_stage(main)
