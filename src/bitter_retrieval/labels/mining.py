"""Passages that an encoder finds in a split: hard negatives for training, and candidates for a second round.

    mine(…)       {"query_id": "q7", "passage_id": "p31", "score": 0.71}, …    its positive has 0.82: 0.71 < 0.95 x 0.82
    retrieved(…)  rows with the passages found appended to their candidates

Same rows, labels and encoder, same result: equal scores keep the order of the split's passages.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.evaluation.retrieval import rank_by_vectors
from bitter_retrieval.labels.soft import best_passages, passage_losses
from bitter_retrieval.labels.targets import with_labelled
from bitter_retrieval.records import NO_PASSAGE, Row, passage_texts, relevant_passages


def mine(
    rows: list[Row],
    positives: Mapping[str, Iterable[str]],
    encoder: Encoder,
    per_query: int,
    depth: int,
    below: float,
    budget: int,
) -> list[Row]:
    """Rows of records.NEGATIVES: at most `per_query` hard negatives of each question, most similar first.

    They come from the encoder's first `depth` passages, without the question's own candidates and without those more
    similar than the share `below` of the positive's similarity, which may be unlabelled positives (NV-Retriever, arXiv
    2407.15831). positives: passage ids by query_id; of several, the least similar sets the bound. A question without a
    positive has no bound and gets no negatives. budget: tokens encoded at once.
    """
    queries, passages, ids = _vectors(rows, encoder, budget)
    places = {passage_id: place for place, passage_id in enumerate(ids)}
    mined: list[Row] = []
    rankings = rank_by_vectors(queries, passages, ids, [()] * len(rows), depth, encoder.model.device.type)
    for row, query, ranking in zip(rows, queries, rankings, strict=True):
        known = [places[passage_id] for passage_id in positives.get(row["query_id"], ())]
        if not known:
            continue
        bound = _bound(float((passages[known] @ query).min()), below)
        own = {passage["passage_id"] for passage in row["passages"]}
        found = [
            {"query_id": row["query_id"], "passage_id": passage_id, "score": score}
            for passage_id, score in zip(ranking.ids, ranking.scores, strict=True)
            if passage_id not in own and score <= bound
        ]
        mined += found[:per_query]
    return mined


def retrieved(rows: list[Row], encoder: Encoder, per_query: int, budget: int) -> list[Row]:
    """Rows whose candidates are their own and the encoder's first `per_query` passages."""
    queries, passages, ids = _vectors(rows, encoder, budget)
    rankings = rank_by_vectors(queries, passages, ids, [()] * len(rows), per_query, encoder.model.device.type)
    found = [
        {"query_id": row["query_id"], "passage_id": passage_id}
        for row, ranking in zip(rows, rankings, strict=True)
        for passage_id in ranking.ids
    ]
    return with_labelled(rows, found)


def positives(labels: list[Row], soft: bool, source: str) -> dict[str, frozenset[str]]:
    """By query_id: the relevant passages of a binary source, those of lowest loss of a soft source."""
    if not soft:
        return relevant_passages(labels)
    losses = passage_losses(labels, source=source)
    shown = {query: {p: loss for p, loss in own.items() if p != NO_PASSAGE} for query, own in losses.items()}
    return {query: best_passages(own) for query, own in shown.items() if own}


def first_checkpoint(folder: Path) -> Path:
    """`folder` itself if it is an encoder; of a run, the encoder of the lowest seed."""
    seeds = sorted(folder.glob("seed*"), key=lambda path: int(path.name.removeprefix("seed")))
    return seeds[0] if seeds else folder


def _bound(positive: float, below: float) -> float:
    """below x the positive's score; a negative score is lowered by as much as a positive one of its size."""
    return positive - (1 - below) * abs(positive)


def _vectors(rows: list[Row], encoder: Encoder, budget: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Unit vectors of the questions, of the split's distinct passages, and these passages' ids."""
    texts = passage_texts(rows)
    queries = encoder.embed([row["query"] for row in rows], "query", budget)
    return queries, encoder.embed(list(texts.values()), "passage", budget), list(texts)
