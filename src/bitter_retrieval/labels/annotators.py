"""Modelled annotators of the generated world: each marks one passage per question as relevant, and errs in its way.

skim     errs 4.4 times as often, at most always, where only hard support exists. It then marks the passage that shares
         most words with the question and is early in the list: a systematic bias towards easy wording.
uniform  errs equally often everywhere, and then marks any passage that does not support the answer.

Without an error, both mark a plain support if there is one, else a hard one. A question's random numbers do not depend
on the noise: an error at 0.1 is an error at 0.2 too, with the same passage (common random numbers).

    annotate(rows, "skim", noise=0.1, seed=0)      {"query_id": "train-0-q1", "passage_id": "train-0-p4", "relevant": 1}

On other data, where true support is unknown, people's labels are made wrong instead, in the same two ways:

    corrupt(rows, labels, share=0.2, towards="overlap", seed=0)
"""

import hashlib
import re
from typing import Literal

import numpy as np

from bitter_retrieval.labels.draws import uniform
from bitter_retrieval.records import SUPPORTING_ROLES, Row, relevant_passages

HARD_ONLY_ODDS = 4.4  # factor of skim's errors on a question without plain support
POSITION_COST = 0.05  # share of the question's words that each place further down costs a passage


def annotate(rows: list[Row], annotator: str, noise: float, seed: int) -> list[Row]:
    """Binary labels of every candidate: exactly one is relevant. `noise` is the mean probability of an error."""
    probabilities = _error_probabilities(rows, annotator, noise)
    return [
        {"query_id": row["query_id"], "passage_id": passage["passage_id"], "relevant": int(place == chosen)}
        for row, probability in zip(rows, probabilities, strict=True)
        for chosen in [_choice(row, annotator, probability, seed)]
        for place, passage in enumerate(row["passages"])
    ]


def _error_probabilities(rows: list[Row], annotator: str, noise: float) -> np.ndarray:
    """[queries] each question's probability of an error; their mean is `noise`."""
    hard_only = np.array([all(passage["role"] != "plain" for passage in row["passages"]) for row in rows])
    odds = np.where(hard_only, HARD_ONLY_ODDS, 1.0) if annotator == "skim" else np.ones(len(rows))
    wanted = noise * (odds / odds.mean())
    share = hard_only.mean()
    if wanted.max() <= 1 or share == 1:
        return wanted
    # All hard-only questions err; the others get the rest, so that the mean is still the noise.
    return np.where(hard_only, 1.0, (noise - share) / (1 - share))


def _choice(row: Row, annotator: str, probability: float, seed: int) -> int:
    """The place of the candidate to mark."""
    digest = hashlib.sha256(f"{seed}:{row['query_id']}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    errs, right, wrong = rng.random(3)
    supporting = [place for place, passage in enumerate(row["passages"]) if passage["role"] in SUPPORTING_ROLES]
    plain = [place for place in supporting if row["passages"][place]["role"] == "plain"]
    if errs >= probability:
        options = plain or supporting
        return options[int(right * len(options))]
    options = [place for place in range(len(row["passages"])) if place not in supporting]
    if annotator == "uniform":
        return options[int(wrong * len(options))]
    return max(options, key=lambda place: _appeal(row, place))


def corrupt(
    rows: list[Row], labels: list[Row], share: float, towards: Literal["random", "overlap"], seed: int
) -> list[Row]:
    """Binary label rows, wrong for a share of the questions: another candidate than the relevant ones is relevant.

    towards: any other candidate, or the one that shares most words with the question. A question without a relevant
    candidate, or with no other one, stays as it is.
    """
    relevant, wrong = relevant_passages(labels), {}
    for row in rows:
        query_id, own = row["query_id"], relevant.get(row["query_id"], frozenset())
        others = [passage for passage in row["passages"] if passage["passage_id"] not in own]
        if not own or not others or uniform(seed, query_id) >= share:
            continue
        if towards == "random":
            chosen = others[int(uniform(seed, query_id, "passage") * len(others))]
        else:
            chosen = max(others, key=lambda passage: _overlap(row["query"], passage["text"]))
        wrong[query_id] = chosen["passage_id"]
    return [
        {**label, "relevant": int(label["passage_id"] == wrong[label["query_id"]])}
        if label["query_id"] in wrong
        else label
        for label in labels
    ]


def _appeal(row: Row, place: int) -> float:
    return _overlap(row["query"], row["passages"][place]["text"]) - POSITION_COST * place


def _overlap(query: str, text: str) -> float:
    """Share of the question's distinct words that the text has; 0 for a question without words."""
    asked = set(re.findall(r"\w+", query.lower()))
    words = set(re.findall(r"\w+", text.lower()))
    return len(asked & words) / len(asked) if asked else 0.0
