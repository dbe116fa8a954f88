"""Exact retrieval: the best passages of a corpus for each query, and where a query's own candidates rank.

Ties go to the passage that stands first in the corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

QUERIES_AT_ONCE = 256  # rows of the score matrix that are in memory together


@dataclass(frozen=True)
class Ranking:
    """For one query: the best passages, best first, and the ranks of its own candidates."""

    ids: list[str]
    scores: list[float]
    candidate_ranks: list[int]  # 1 is first


def rank_by_vectors(
    queries: np.ndarray, passages: np.ndarray, ids: Sequence[str], candidates: Sequence[Sequence[str]], k: int
) -> list[Ranking]:
    """Rank the corpus by dot product. queries [Q, d], passages [P, d] float32, ids of the P passages.

    candidates: passage ids of each query's own candidates; all must be in the corpus (KeyError otherwise).
    """
    place = {passage_id: at for at, passage_id in enumerate(ids)}
    rankings = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        scores = queries[start : start + QUERIES_AT_ONCE] @ passages.T
        for row, own in zip(scores, candidates[start : start + QUERIES_AT_ONCE], strict=True):
            rankings.append(_ranking(row, ids, [place[passage_id] for passage_id in own], k))
    return rankings


def rank_by_bm25(
    queries: Sequence[str], passages: Sequence[str], ids: Sequence[str], candidates: Sequence[Sequence[str]], k: int
) -> list[Ranking]:
    """Rank the corpus by BM25 (Lucene's variant, k1 1.5, b 0.75), without stop words or stemming.

    Words are lower-cased and have two letters or more; a query without any finds nothing and ties all passages.
    """
    import bm25s

    tokens = bm25s.tokenize(list(passages), stopwords=None, show_progress=False)
    index = bm25s.BM25(method="lucene")
    index.index(tokens, show_progress=False)
    asked = bm25s.tokenize(list(queries), stopwords=None, return_ids=False, show_progress=False)
    place = {passage_id: at for at, passage_id in enumerate(ids)}
    nothing = np.zeros(len(ids), dtype=np.float32)  # bm25s fails on a query without words
    return [
        _ranking(index.get_scores(words) if words else nothing, ids, [place[passage_id] for passage_id in own], k)
        for words, own in zip(asked, candidates, strict=True)
    ]


def _ranking(scores: np.ndarray, ids: Sequence[str], own: list[int], k: int) -> Ranking:
    best = _best(scores, k)
    above = [np.count_nonzero(scores > scores[at]) + np.count_nonzero(scores[:at] == scores[at]) for at in own]
    return Ranking([ids[at] for at in best], [float(scores[at]) for at in best], [int(count) + 1 for count in above])


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """np.argsort(-scores, kind="stable")[:k], of which it sorts only what may be among them: a corpus has millions."""
    negated = -scores
    if k < len(scores):
        bound = np.partition(negated, k)[k]
        near = np.flatnonzero(~(negated > bound))  # with all that tie with it
    else:
        near = np.arange(len(scores))
    return near[np.argsort(negated[near], kind="stable")[:k]]
