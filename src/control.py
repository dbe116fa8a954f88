"""Stage control: the readers' answers without a trained retriever.

    python src/control.py

no_passage   nothing is shown                        random     a candidate at random, several draws
annotated    the candidate that humans marked        oracle     the candidate with the reader's own lowest answer loss
bm25         BM25 retrieves from the corpus          untrained  an encoder before training; untrained_<encoder>: others

Controls that retrieve are read once for each entry of evaluate.shown, the others only for the first. Questions from
another domain are answered too, except by `oracle`, as no reader labels them; `annotated` shows the passages that the
data select there. Writes data/predictions/controls/<control>.parquet (records.PREDICTIONS).
"""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser, bar, run_stage, warn

# isort: split
import numpy as np

from bitter_retrieval import lineage
from bitter_retrieval.evaluation.answering import Shown, predict, top, without_loss
from bitter_retrieval.evaluation.corpus import Asked, asked_in
from bitter_retrieval.evaluation.retrieval import Ranking, without_word
from bitter_retrieval.evaluation.retrievers import rank_by_bm25, rank_by_encoder
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.labels.binary import selected_labels
from bitter_retrieval.labels.soft import best_passages, candidate_losses, passage_losses
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.readers.language_model import Reader, load_reader
from bitter_retrieval.records import (
    BINARY_LABELS,
    PREDICTIONS,
    SOFT_LABELS,
    Row,
    read_rows,
    sweep,
    write_rows,
)

PREPARED_FOLDER = Path("data/prepared")
READERS = Path("models/readers")
ENCODERS = Path("models/encoders")
LABELS = Path("data/labels")
PREDICTED = Path("data/predictions/controls")
LEFT_OUT = {
    "annotated": "no passage of these questions is selected",
    "oracle": "no reader has labelled these questions",
}
NOT_RETRIEVED = ("no_passage", "random", "annotated", "oracle")


def main(arguments: Sequence[str] | None = None) -> str:
    Parser(description=__doc__).parse_args(arguments)
    keep_freed_memory()
    params = load_params()
    sweep(READERS, params.readers)
    sweep(ENCODERS, params.encoders)
    sweep(LABELS, params.sources)
    parts = asked_in(PREPARED_FOLDER, params.evaluate)
    rankings = [retrieved(part, params) for part in parts]
    answered: dict[str, list[Row]] = {name: [] for name in (*rankings[0], *NOT_RETRIEVED)}
    budget = params.evaluate.batch_tokens
    with Journal(journal_folder() / "answers.sqlite") as journal:
        for one in params.readers:
            reader = load_reader(READERS / one)
            for name, rows in answered.items():
                for part, ranked_by in zip(parts, rankings, strict=True):
                    for count, shown in shows(name, part, ranked_by, reader, params):
                        rows += predict(name, reader, count, shown, part.corpus, budget, journal, part.beyond, bar)
            del reader  # memory may not hold two readers
            gc.collect()
    for name, predictions in answered.items():
        write_rows(PREDICTED / f"{name}.parquet", predictions, PREDICTIONS)
        if lacking := without_loss(predictions) if predictions else f"left out, as {LEFT_OUT[name]}":
            warn(f"control {name}: {lacking}")
    answers = sum(map(len, answered.values()))
    return f"control: {answers:,} answers of {len(params.readers)} readers, {len(answered)} controls"


def retrieved(part: Asked, params: Params) -> dict[str, list[Ranking]]:
    """Rankings of BM25 and of encoders before training, by control."""
    k, budget = params.evaluate.top_k, params.evaluate.batch_tokens
    by_words = rank_by_bm25(part.rows, part.corpus, k)
    if lacking := without_word(ranking.scores for ranking in by_words):
        warn(
            f"control bm25: no passage has a word of {lacking} of {len(part.rows)} questions: their ranking is the "
            "order of the corpus"
        )
    return {"bm25": by_words} | {
        name: rank_by_encoder(ENCODERS / encoder, part.rows, part.corpus, k, budget)
        for name, encoder in params.untrained.items()
    }


def shows(
    name: str, part: Asked, ranked_by: dict[str, list[Ranking]], reader: Reader, params: Params
) -> Iterator[tuple[int, dict[int, list[Shown]]]]:
    """Entries of evaluate.shown, and the passages that the control shows for each of them, by draw."""
    if name in ranked_by:
        for count in part.shown:
            yield count, {0: top(part.rows, ranked_by[name], count)}
    else:
        yield part.shown[0], picked(name, part, reader, params)


def picked(name: str, part: Asked, reader: Reader, params: Params) -> dict[int, list[Shown]]:
    """The passages that a control without retrieval shows, by draw; only the random one has several."""
    rows = part.rows
    if name == "no_passage":
        return {0: [Shown(row, []) for row in rows]}
    if name == "random":
        return {draw: _random(rows, params.control.seed, draw) for draw in range(params.control.random_draws)}
    chosen = _annotated(part, params) if name == "annotated" else _lowest_loss(part, reader, params)
    return {0: [Shown(row, [chosen[row["query_id"]]]) for row in rows if row["query_id"] in chosen]}


def _random(rows: list[Row], seed: int, draw: int) -> list[Shown]:
    rng = np.random.default_rng([seed, draw])
    return [Shown(row, [row["passages"][rng.integers(len(row["passages"]))]["passage_id"]]) for row in rows]


def _annotated(part: Asked, params: Params) -> dict[str, str]:
    """The first relevant passage of each query that has one."""
    path = LABELS / params.control.human_source / f"{params.evaluate.split}.parquet"
    chosen: dict[str, str] = {}
    for label in selected_labels(part.rows) if part.beyond else read_rows(path, BINARY_LABELS):
        if label["relevant"]:
            chosen.setdefault(label["query_id"], label["passage_id"])
    return chosen


def _lowest_loss(part: Asked, reader: Reader, params: Params) -> dict[str, str]:
    """The best candidate of each query that this reader has labelled; of ties, the first."""
    source = lineage.losses_of(reader.name, params)
    if source is None or part.beyond:
        return {}
    labels = read_rows(LABELS / source / f"{params.evaluate.split}.parquet", SOFT_LABELS)
    losses = passage_losses(labels, source=source)
    known = {row["query_id"]: candidate_losses(row, losses) for row in part.rows}
    best = {query: best_passages(own) for query, own in known.items() if own}
    return {query: next(passage for passage in known[query] if passage in best[query]) for query in best}


if __name__ == "__main__":
    run_stage(main)
