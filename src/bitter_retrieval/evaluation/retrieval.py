"""Exact retrieval: the best passages of a corpus for each query, and where a query's own candidates rank.

    Ranking(ids=["p31", "p7", …], scores=[0.82, 0.71, …], candidate_ranks=[2, 114])

Ties go to the passage that comes first in the corpus. Scores are computed in blocks of queries by passages, and made
into integer keys of score and place, of which no two tie, a few queries at a time. That takes about 150 MB for any
corpus besides the rankings (3 KB a query with 50 passages), and on a GPU a block of vectors more. Blocks are never
smaller, as the last bits of a product depend on their shape.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.bm25 import scores_of

QUERIES_AT_ONCE = 256  # sides of a block of scores; a corpus within one block is one product
PASSAGES_AT_ONCE = 32_768
KEYS_AT_ONCE = 2**20  # made from a block, of as many of its queries as that is; 8 bytes each, several times over
PLACES = 2**32  # more than passages of a corpus
Scores = Callable[[slice, slice], Tensor]  # of these queries with these passages, [q, p] float32


class RetrievalError(ValueError):
    """Scores that cannot be ranked."""


@dataclass(frozen=True)
class Ranking:
    """For one query: the best passages, best first, and the ranks of its own candidates."""

    ids: list[str]
    scores: list[float]
    candidate_ranks: list[int]  # 1 is first


def rank_by_vectors(
    queries: np.ndarray,
    passages: np.ndarray,
    ids: Sequence[str],
    candidates: Sequence[Sequence[str]],
    k: int,
    device: str = "cpu",
) -> list[Ranking]:
    """Rank the corpus by dot product: queries [Q, d], passages [P, d] float32 (or a memory map), ids of the P passages.

    candidates: passage ids of each query's own candidates; all must be in the corpus (KeyError otherwise).
    """
    own = _places(ids, candidates, len(queries)).to(device)
    return _rankings(_products(queries, passages, device), own, ids, candidates, k)


def rank_by_bm25(
    queries: Sequence[str], passages: Sequence[str], ids: Sequence[str], candidates: Sequence[Sequence[str]], k: int
) -> list[Ranking]:
    """Rank the corpus by BM25 (bm25.py). All passages tie, with score 0, for a query without a word of theirs."""
    own = _places(ids, candidates, len(queries))
    rankings = []
    for at, scores in enumerate(scores_of(passages, queries)):
        one = slice(at, at + 1)
        rankings += _rankings(_known(torch.from_numpy(scores)[None]), own[one], ids, candidates[one], k)
    return rankings


def without_word(scores: Iterable[Sequence[float]]) -> int:
    """The number of BM25's rankings, by their scores, for which no passage has a word of the query."""
    return sum(not any(one) for one in scores)


def _known(scores: Tensor) -> Scores:
    """Scores [1, P] of a single query, by blocks."""
    return lambda _, block: scores[:, block]


def _places(ids: Sequence[str], candidates: Sequence[Sequence[str]], queries: int) -> Tensor:
    """Places of each query's candidates in the corpus [Q, C], filled up with -1."""
    if len(candidates) != queries:
        raise ValueError(f"{queries} queries and {len(candidates)} lists of candidates: give each query one.")
    place = {passage_id: at for at, passage_id in enumerate(ids)}
    own = torch.full((queries, max(map(len, candidates), default=0)), -1)
    for row, of_query in zip(own, candidates, strict=True):
        row[: len(of_query)] = torch.tensor([place[passage_id] for passage_id in of_query], dtype=torch.int64)
    return own


def _products(queries: np.ndarray, passages: np.ndarray, device: str) -> Scores:
    if device == "cpu":
        return lambda some, block: torch.from_numpy(np.asarray(queries[some] @ passages[block].T))
    asked = torch.tensor(queries, device=device)

    @lru_cache(maxsize=1)
    def moved(start: int, stop: int) -> Tensor:
        return torch.tensor(passages[start:stop], device=device)

    return lambda some, block: asked[some] @ moved(block.start, block.stop).T


def _rankings(
    scores: Scores, own: Tensor, ids: Sequence[str], candidates: Sequence[Sequence[str]], k: int
) -> list[Ranking]:
    best, ranks = _ranked(scores, own, len(ids), k)
    places, values, ranks = _place_of(best).tolist(), _score_of(best).tolist(), ranks.tolist()
    return [
        Ranking([ids[place] for place in at], values[row], ranks[row][: len(candidates[row])])
        for row, at in enumerate(places)
    ]


def _ranked(scores: Scores, own: Tensor, corpus: int, k: int) -> tuple[Tensor, Tensor]:
    """Keys of the best passages [Q, k], best first, and the ranks [Q, C] of the candidates at the places `own`."""
    blocks, parts = _slices(corpus, PASSAGES_AT_ONCE), _slices(len(own), QUERIES_AT_ONCE)
    known = _own_keys(scores, own, blocks, parts)
    best, ranks = own.new_empty((len(own), 0)), torch.ones_like(own)
    for block in blocks:
        width = block.stop - block.start
        places = torch.arange(block.start, block.stop, device=own.device)
        kept = own.new_empty((len(own), min(k, best.shape[1] + width)))
        for part in parts:
            found = scores(part, block)
            for few in _slices(len(found), max(1, KEYS_AT_ONCE // width)):
                rows = slice(part.start + few.start, part.start + few.stop)
                keys = _keys(found[few], places)
                kept[rows] = _largest(torch.cat([best[rows], _largest(keys, k)], 1), k)
                for column in range(own.shape[1]):
                    ranks[rows, column] += (keys > known[rows, column, None]).sum(1)
        best = kept
    return best, ranks


def _own_keys(scores: Scores, own: Tensor, blocks: list[slice], parts: list[slice]) -> Tensor:
    """Keys of the candidates at the places `own` [Q, C], which lie in few blocks of a large corpus."""
    known = torch.zeros_like(own)
    for block in blocks:
        here = (own >= block.start) & (own < block.stop)
        for part in parts:
            if here[part].any():
                places = own[part].clamp(block.start, block.stop - 1)
                keys = _keys(scores(part, block).gather(1, places - block.start), places)
                known[part] = torch.where(here[part], keys, known[part])
    return known


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _largest(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, keys.shape[1])).values


# A key is the score's bits, as an integer that grows with it, times PLACES, less the passage's place: comparing keys
# compares scores, and among equal scores prefers the first place, whatever the device or the blocks.


def _keys(scores: Tensor, places: Tensor) -> Tensor:
    """Keys [q, p] int64 of scores [q, p] float32 of the passages at `places` [p] or [q, p]: the larger ranks higher."""
    if not scores.isfinite().all():
        raise RetrievalError(
            "a similarity is not a finite number, so passages cannot be ranked. Delete .journal/embeddings and run "
            "again; if that does not help, train the encoder with a lower learning rate."
        )
    ordered = _ordered((scores + 0.0).view(torch.int32)).long()  # + 0 makes -0 into 0, whose bits differ
    return ordered * PLACES - places


def _place_of(keys: Tensor) -> Tensor:
    return -keys & (PLACES - 1)


def _score_of(keys: Tensor) -> Tensor:
    return _ordered(((keys + _place_of(keys)) // PLACES).int()).view(torch.float32)


def _ordered(bits: Tensor) -> Tensor:
    """Bits of floats to integers in the order of the floats, and back.

    Bits below the sign grow with the magnitude (IEEE 754), so they are inverted for negative floats.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
