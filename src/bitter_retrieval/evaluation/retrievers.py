"""Retrievers for prepared questions: the encoder in a folder, or BM25.

    rank_by_encoder(Path("models/runs/kl/seed0"), rows, {"p7": "Warsaw lies on …", …}, 10, 8192)
    rank_by_bm25(rows, {"p7": "Warsaw lies on …", …}, 10)

Each returns a Ranking (retrieval.py) for every row: the `k` best passages of the corpus, and the ranks of the row's
candidates, all of which must be in the corpus.
"""

from pathlib import Path

from bitter_retrieval.evaluation import retrieval
from bitter_retrieval.evaluation.embeddings import Embeddings
from bitter_retrieval.evaluation.retrieval import Ranking
from bitter_retrieval.journal import journal_folder
from bitter_retrieval.records import Row


def rank_by_encoder(
    folder: Path, rows: list[Row], corpus: dict[str, str], k: int, budget: int, name: str | None = None
) -> list[Ranking]:
    """corpus: texts by passage_id; budget: tokens encoded at once; name: the encoder's in warnings, else the folder.

    Known embeddings come from the journal.
    """
    known = Embeddings(folder, budget, journal_folder() / "embeddings", name)
    queries, passages = known.of(_queries(rows), "query"), known.of(list(corpus.values()), "passage")
    return retrieval.rank_by_vectors(queries, passages, list(corpus), _candidates(rows), k, known.device)


def rank_by_bm25(rows: list[Row], corpus: dict[str, str], k: int) -> list[Ranking]:
    """corpus: texts by passage_id."""
    return retrieval.rank_by_bm25(_queries(rows), list(corpus.values()), list(corpus), _candidates(rows), k)


def _queries(rows: list[Row]) -> list[str]:
    return [row["query"] for row in rows]


def _candidates(rows: list[Row]) -> list[list[str]]:
    return [[passage["passage_id"] for passage in row["passages"]] for row in rows]
