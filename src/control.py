"""Stage control: what the readers answer without a trained retriever.

no_passage   nothing is shown                        random     a candidate at random, several draws
annotated    the candidate that humans marked        oracle     the candidate with the reader's own lowest answer loss
bm25         BM25 retrieves from the corpus          untrained  an encoder before training

What retrieves is read once for each entry of evaluate.shown, the others for the first alone: theirs is no ranking.
Writes data/predictions/controls/<control>.parquet (records.PREDICTIONS).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bitter_retrieval.answering import Shown, predict, top
from bitter_retrieval.corpus import searched_corpus
from bitter_retrieval.embeddings import Embeddings
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.language_model import Reader, load_reader
from bitter_retrieval.memory import keep_freed_memory
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.progress import track
from bitter_retrieval.records import (
    BINARY_LABELS,
    CORPUS,
    PREDICTIONS,
    PREPARED,
    SOFT_LABELS,
    Row,
    read_rows,
    sweep,
    write_rows,
)
from bitter_retrieval.retrieval import Ranking, rank_by_bm25, rank_by_vectors
from bitter_retrieval.stage import run_stage
from bitter_retrieval.targets import answer_losses

PREPARED_FOLDER = Path("data/prepared")
READERS = Path("models/readers")
ENCODERS = Path("models/encoders")
LABELS = Path("data/labels")
PREDICTED = Path("data/predictions/controls")
NOT_RETRIEVED = ("no_passage", "random", "annotated", "oracle")


def main() -> None:
    keep_freed_memory()
    params = load_params()
    rows = read_rows(PREPARED_FOLDER / f"{params.evaluate.split}.parquet", PREPARED)
    corpus = searched_corpus(read_rows(PREPARED_FOLDER / "corpus.parquet", CORPUS), rows, params.evaluate)
    sweep(READERS, params.readers)
    sweep(LABELS, params.sources)
    readers = [load_reader(READERS / reader) for reader in params.readers]
    controls = {**retrieved(rows, corpus, params), **dict.fromkeys(NOT_RETRIEVED)}
    with Journal(journal_folder() / "answers.sqlite") as journal:
        for name, rankings in track(controls.items(), "control"):
            predictions: list[Row] = []
            for reader in readers:
                shown = ranked(rows, rankings, params) if rankings else picked(name, rows, reader, params)
                for asked in shown:
                    predictions += predict(name, reader, *asked, corpus, params.evaluate.batch_tokens, journal)
            write_rows(PREDICTED / f"{name}.parquet", predictions, PREDICTIONS)


def retrieved(rows: list[Row], corpus: dict[str, str], params: Params) -> dict[str, list[Ranking]]:
    """What BM25 and the untrained encoder retrieve for each question."""
    queries, candidates = [row["query"] for row in rows], [[p["passage_id"] for p in row["passages"]] for row in rows]
    ids, texts, k = list(corpus), list(corpus.values()), params.evaluate.top_k
    encoder = ENCODERS / params.control.encoder
    known = Embeddings(encoder, params.evaluate.batch_tokens, journal_folder() / "embeddings")
    vectors = known.of(queries, "query"), known.of(texts, "passage")
    return {
        "bm25": rank_by_bm25(queries, texts, ids, candidates, k),
        "untrained": rank_by_vectors(*vectors, ids, candidates, k, known.device),
    }


Asked = tuple[int, int, list[Shown]]  # draw, entry of evaluate.shown, what is shown each question


def ranked(rows: list[Row], rankings: list[Ranking], params: Params) -> Iterator[Asked]:
    """The first passages of what a control retrieved."""
    for count in params.evaluate.shown:
        yield 0, count, top(rows, rankings, count)


def picked(name: str, rows: list[Row], reader: Reader, params: Params) -> Iterator[Asked]:
    """What a control without retrieval shows each question; several draws of the random one."""
    for draw, shown in enumerate(_picked(name, rows, reader, params)):
        yield draw, params.evaluate.shown[0], shown


def _picked(name: str, rows: list[Row], reader: Reader, params: Params) -> Iterator[list[Shown]]:
    if name == "no_passage":
        yield [Shown(row, []) for row in rows]
    elif name == "random":
        for seed in range(params.control.random_draws):
            rng = np.random.default_rng([params.control.seed, seed])
            yield [Shown(row, [row["passages"][rng.integers(len(row["passages"]))]["passage_id"]]) for row in rows]
    elif name == "annotated":
        chosen = _annotated(LABELS / params.control.human_source / f"{params.evaluate.split}.parquet")
        yield [Shown(row, [chosen[row["query_id"]]]) for row in rows if row["query_id"] in chosen]
    elif (source := params.losses_of(reader.name)) is not None:  # a reader without its own losses has no oracle
        chosen = _lowest_loss(LABELS / source / f"{params.evaluate.split}.parquet", source, rows)
        yield [Shown(row, [chosen[row["query_id"]]]) for row in rows]


def _annotated(path: Path) -> dict[str, str]:
    """The first relevant passage of each query that has one."""
    chosen: dict[str, str] = {}
    for label in read_rows(path, BINARY_LABELS):
        if label["relevant"]:
            chosen.setdefault(label["query_id"], label["passage_id"])
    return chosen


def _lowest_loss(path: Path, source: str, rows: list[Row]) -> dict[str, str]:
    losses = answer_losses(read_rows(path, SOFT_LABELS), "mean", "best", source)
    ids = {row["query_id"]: [passage["passage_id"] for passage in row["passages"]] for row in rows}
    return {query: min(own, key=lambda passage, query=query: losses[query, passage]) for query, own in ids.items()}


if __name__ == "__main__":
    run_stage(main)
