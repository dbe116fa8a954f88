"""Candidates by BM25, for questions that come with too few passages to tell apart."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from bitter_retrieval.bm25 import scores_of, words_of
from bitter_retrieval.data.division import digest
from bitter_retrieval.records import Row

WITHOUT_WORD = "questions_without_matching_word"  # their candidates are those that come first in the files


def add_negatives(rows: Sequence[Row], texts: Mapping[str, str], count: int, seed: int) -> dict[str, int]:
    """Give prepared rows that have fewer candidates others of the texts, up to `count`; each row's are then shuffled.

    texts: by passage_id. An added passage counts as not selected where people selected another. Returns counts:
    candidates added, those of them that contain a reference answer, rows that still have too few, and WITHOUT_WORD.
    """
    short = [row for row in rows if len(row["passages"]) < count]
    ids = list(texts)
    counts = dict.fromkeys(("mined_candidates", "mined_candidates_with_answer", "questions_with_fewer_candidates"), 0)
    counts[WITHOUT_WORD] = 0
    if not short:
        return counts
    for row, scores in zip(short, scores_of(list(texts.values()), [row["query"] for row in short]), strict=True):
        counts[WITHOUT_WORD] += not scores.any()
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


@lru_cache(2**16)  # a passage recurs among neighbouring questions; all of them would be the data once more
def _words(text: str) -> str:
    return f" {' '.join(words_of(text))} "
