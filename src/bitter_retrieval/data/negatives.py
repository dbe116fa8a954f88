"""Candidates by BM25, for questions that come with too few passages to tell apart.

    scores_of(["Warsaw lies on …", "Krakow is …"], ["which river is in warsaw"])    one array: [1.3, 0.0]

Lucene's BM25 over words of two letters or more; no stemming and no stop words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from bitter_retrieval.data.division import digest
from bitter_retrieval.records import Row


def scores_of(texts: Sequence[str], questions: Sequence[str]) -> Iterator[np.ndarray]:
    """Per question, the score of each text [texts]. bm25s.retrieve is not used, as it breaks ties arbitrarily."""
    import bm25s

    index = bm25s.BM25(method="lucene", backend="numpy")
    index.index(bm25s.tokenize(texts, stopwords=None, allow_empty=False, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(questions, stopwords=None, return_ids=False, show_progress=False)
    for words in tokens:
        yield index.get_scores_from_ids(index.get_tokens_ids(words))


def add_negatives(rows: Sequence[Row], texts: Mapping[str, str], count: int, seed: int) -> dict[str, int]:
    """Give prepared rows that have fewer candidates others of the texts, up to `count`; each row's are then shuffled.

    texts: by passage_id. An added passage counts as not selected where people selected another. Returns counts:
    candidates added, those of them that contain a reference answer, and rows that still have too few.
    """
    short = [row for row in rows if len(row["passages"]) < count]
    ids = list(texts)
    counts = dict.fromkeys(("mined_candidates", "mined_candidates_with_answer", "questions_with_fewer_candidates"), 0)
    if not short:
        return counts
    for row, scores in zip(short, scores_of(list(texts.values()), [row["query"] for row in short]), strict=True):
        own = {passage["passage_id"] for passage in row["passages"]}
        order = np.argsort(-scores, kind="stable")[: count + len(own)]
        added = [ids[place] for place in order if ids[place] not in own][: count - len(own)]
        selected = 0 if any(passage["is_selected"] is not None for passage in row["passages"]) else None
        found = [{"passage_id": one, "text": texts[one], "is_selected": selected, "role": None} for one in added]
        counts["mined_candidates"] += len(found)
        counts["mined_candidates_with_answer"] += with_answer(row["answers"], found)
        counts["questions_with_fewer_candidates"] += len(own) + len(found) < count
        passages = [*row["passages"], *found]
        row["passages"] = sorted(passages, key=lambda passage: digest(seed, row["query_id"], passage["text"]))
    return counts


def with_answer(answers: Sequence[str], passages: Sequence[Row]) -> int:
    """The number of passages that contain a reference answer as words."""
    said = [_words(answer) for answer in answers]
    return sum(any(answer in text for answer in said) for text in (_words(one["text"]) for one in passages))


@cache
def _words(text: str) -> str:
    return " " + " ".join(re.findall(r"\w+", text.casefold())) + " "
