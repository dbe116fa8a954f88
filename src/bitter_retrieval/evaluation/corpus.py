"""The questions, and the corpus searched for them: the passages that an encoder or BM25 chooses from.

    questions of the evaluated split come with p1 p2 p3, corpus.parquet holds d1 p1 p2 d2 p3 d3

    corpus_size null    d1 p1 p2 d2 p3 d3
    corpus_size 4       d1 p1 p2 p3         the pooled passages, and the first distractors, in one order at every size
    corpus_size 2       refused: the questions' own passages are always searched

Questions from another domain (params: beyond) are searched for in a corpus of their own, all of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bitter_retrieval.evaluation.settings import Evaluate
from bitter_retrieval.records import CORPUS, NO_PASSAGE, PREPARED, Row, passage_texts, read_rows


class CorpusError(ValueError):
    """A corpus that cannot hold the questions' own passages."""


class Asked(NamedTuple):
    """Questions, the corpus searched for each of them, and the numbers of passages that a reader is shown."""

    rows: list[Row]  # prepared
    corpus: dict[str, str]  # texts by passage_id
    shown: Sequence[int]
    beyond: bool  # whether they are from another domain


def asked_in(folder: Path, settings: Evaluate) -> list[Asked]:
    """The evaluated split and, if there are any, the questions from another domain.

    The latter are answered with the first number of passages only. folder: of the stage prepare's files.
    """
    rows, beyond = (read_rows(folder / f"{name}.parquet", PREPARED) for name in (settings.split, "beyond"))
    corpora = [read_rows(folder / f"{name}.parquet", CORPUS) for name in ("corpus", "beyond_corpus")]
    parts = [Asked(rows, searched_corpus(corpora[0], rows, settings), settings.shown, beyond=False)]
    if beyond:
        all_of_it = searched_corpus(corpora[1], beyond, replace(settings, corpus_size=None))
        parts.append(Asked(beyond, all_of_it, settings.shown[:1], beyond=True))
    return parts


def searched_corpus(corpus: Iterable[Row], rows: Sequence[Row], settings: Evaluate) -> dict[str, str]:
    """Texts by passage_id, from rows of records.CORPUS and the prepared rows that are evaluated.

    If settings.empty_passage holds, the empty passage comes last, in addition to the size. Raises CorpusError.
    """
    pooled = passage_texts(rows)
    everything = {row["passage_id"]: row["text"] for row in corpus} | pooled
    size = len(everything) if settings.corpus_size is None else settings.corpus_size
    if size < len(pooled):
        raise CorpusError(
            f"params.yaml: evaluate.corpus_size: the {len(rows)} questions of {settings.split} come with "
            f"{len(pooled)} passages, all of which are searched, got {size}. Give {len(pooled)} or more; null is all "
            f"{len(everything)}."
        )
    distractors = (passage_id for passage_id in everything if passage_id not in pooled)
    kept = pooled.keys() | set(islice(distractors, size - len(pooled)))
    found = {passage_id: text for passage_id, text in everything.items() if passage_id in kept}
    return found | ({NO_PASSAGE: ""} if settings.empty_passage else {})
