"""Modelled annotators of the generated world: who marks one passage a question as relevant, and how they err.

skim     errs more often where only hard support exists (4.4 times, until it always does), and then takes the passage
         that shares most words with the question and stands early in the list: a systematic bias towards easy wording.
uniform  errs everywhere alike, and then takes any passage that does not support the answer.

Without an error, they mark a plain support if there is one, else a hard one. Every question has random numbers of its
own, whatever the noise: who errs at 0.1 errs at 0.2 too, and with the same passage (common random numbers).

    annotate(rows, "skim", noise=0.1, seed=0)      {"query_id": "train-0-q1", "passage_id": "train-0-p4", "relevant": 1}
"""

import hashlib
import re

import numpy as np

from bitter_retrieval.records import SUPPORTING_ROLES, Row

HARD_ONLY_ODDS = 4.4  # how much likelier skim errs on a question without plain support
POSITION_COST = 0.05  # share of shared words that one place further down is worth to skim


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
    return np.where(hard_only, 1.0, (noise - share) / (1 - share))  # all hard-only ones err, the others make up for it


def _choice(row: Row, annotator: str, probability: float, seed: int) -> int:
    """Place of the candidate that is marked."""
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


def _appeal(row: Row, place: int) -> float:
    asked = set(re.findall(r"\w+", row["query"].lower()))
    words = set(re.findall(r"\w+", row["passages"][place]["text"].lower()))
    return len(asked & words) / len(asked) - POSITION_COST * place
