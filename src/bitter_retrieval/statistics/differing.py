"""Questions for a person to read: those on which two runs differ most, and a sample with its labels.

Where the answers differ, side by side:

    {"query": "Where was Ada Brenn born?", "answers": ["Calder"], "difference": -0.75,
     "passages": [{"mark": "A", "text": "Ada Brenn was born in Calder. …", "tags": ["annotators", "loss 0.02"]}, …],
     "runs": [{"name": "kl", "seeds": [{"seed": 0, "marks": ["A"], "answer": "Calder", "right": True}, …]}, …]}

They are chosen because the runs differ, so they show how runs differ, not how often. The sample is drawn whatever came
of it:

    {"query": "Where was Ada Brenn born?", "answers": ["Calder"], "left_out": 0,
     "passages": [{"text": "Ada Brenn was born in Calder. …", "tags": ["annotators"], "utility": 0.93,
                   "losses": {"reader_a": 0.02, "reader_b": 0.4}, "first": {"kl": 3}}, …]}
"""

import random
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitter_retrieval.labels.soft import Losses, LossesByQuery, best_passages, candidate_losses, utility, utility_scale
from bitter_retrieval.records import NO_PASSAGE, SUPPORTING_ROLES, Row
from bitter_retrieval.statistics.outcomes import EvaluatedQuestions, Outcomes

SHOWN = 10  # questions to each side
SAMPLED = 10  # questions
CANDIDATES = 20  # of a sampled question
MARKED = 5  # passages of one label, where answers differ


@dataclass(frozen=True)
class _Question:
    """One question with the labels of its passages."""

    row: Row
    place: int
    relevant: frozenset[str]
    losses: Losses  # of its candidates

    @property
    def lowest(self) -> frozenset[str]:
        return best_passages(self.losses)


def _question(asked: EvaluatedQuestions, place: int, losses: LossesByQuery) -> _Question:
    row = asked.rows[place]
    return _Question(row, place, asked.relevant[place], candidate_losses(row, losses))


def most_differing(
    asked: EvaluatedQuestions,
    run: tuple[str, Outcomes],
    baseline: tuple[str, Outcomes],
    losses: LossesByQuery,
    texts: Mapping[str, str],
    count: int = SHOWN,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Questions by how much exact match of a run differs from the baseline's, and how many there are to each side.

    Exact match is the mean of the seeds. The `count` largest differences to each side are shown, largest first, ties in
    the order of the split. Questions where either is unknown are left out.

    run, baseline: name and outcomes with one reader; losses: by query_id and passage_id; texts: by passage_id.
    """
    exact = [np.ma.masked_invalid(found.scores["em"]).mean(axis=0) for _, found in (run, baseline)]
    # Rounded, as equal differences may differ in the last digit.
    differences = np.round(np.ma.filled(exact[0] - exact[1], 0.0), 9)
    order = [int(place) for place in np.argsort(-np.abs(differences), kind="stable") if differences[place]]
    sides = {1: [p for p in order if differences[p] > 0], -1: [p for p in order if differences[p] < 0]}
    chosen = {place for places in sides.values() for place in places[:count]}
    described = [
        _described(_question(asked, place, losses), dict((run, baseline)), texts)
        | {"difference": float(differences[place])}
        for place in order
        if place in chosen
    ]
    return described, {"better": len(sides[1]), "worse": len(sides[-1])}


def _described(question: _Question, runs: Mapping[str, Outcomes], texts: Mapping[str, str]) -> dict[str, Any]:
    marks = _marks(question, runs.values())
    return {
        "query_id": question.row["query_id"],
        "query": question.row["query"],
        "answers": question.row["answers"],
        "passages": [
            {"mark": mark, "text": texts.get(passage, passage), "tags": _tags(question, passage)}
            for passage, mark in marks.items()
        ],
        "runs": [_run(name, found, marks, question.place) for name, found in runs.items()],
    }


def _marks(question: _Question, runs: Iterable[Outcomes]) -> dict[str, str]:
    """A letter for each passage to show: labelled ones, MARKED of each label at most, then those that readers saw."""
    seen = [passage for found in runs for shown in found.shown[:, question.place] for passage in shown or ()]
    labelled = [passage for found in (question.relevant, question.lowest) for passage in sorted(found)[:MARKED]]
    passages = dict.fromkeys([*labelled, *seen])
    return {passage: _letter(number) for number, passage in enumerate(passages)}


def _letter(number: int) -> str:
    """A to Z, then A2, B2, …"""
    turn, letter = divmod(number, len(string.ascii_uppercase))
    return string.ascii_uppercase[letter] + (str(turn + 1) if turn else "")


def _tags(question: _Question, passage: str) -> list[str]:
    """Notes on a passage, such as ["annotators", "lowest loss", "supports (plain)", "loss 0.02"]."""
    loss = question.losses.get(passage)
    return _nature(question, passage) + ([] if loss is None else [f"loss {loss:.2f}"])


def _nature(question: _Question, passage: str) -> list[str]:
    roles = {one["passage_id"]: one["role"] for one in question.row["passages"]}
    tags = ["annotators"] * (passage in question.relevant) + ["lowest loss"] * (passage in question.lowest)
    if passage == NO_PASSAGE:
        return [*tags, "no passage at all"]
    if passage not in roles:
        return [*tags, "of another question"]
    if roles[passage] is not None:
        tags.append(f"{'supports' if roles[passage] in SUPPORTING_ROLES else 'no support'} ({roles[passage]})")
    return tags


def _run(name: str, found: Outcomes, marks: Mapping[str, str], place: int) -> dict[str, Any]:
    seeds = [
        {
            "seed": seed,
            "marks": [marks[passage] for passage in found.shown[at, place] or ()],
            "answer": found.answers[at, place],
            "right": bool(found.scores["em"][at, place] == 1),
        }
        for at, seed in enumerate(found.seeds)
    ]
    return {"name": name, "seeds": seeds}


# -- a sample of questions with their labels ----------------------------------------------------------------------


def full_utility(rows: Iterable[Row], losses: LossesByQuery) -> float | None:
    """Nats a token that count as full utility by these training questions, as in training; None if nothing helps."""
    gains = [
        losses[row["query_id"]][NO_PASSAGE] - loss
        for row in rows
        if NO_PASSAGE in losses.get(row["query_id"], {})
        for loss in candidate_losses(row, losses).values()
    ]
    return utility_scale(gains) if any(gain > 0 for gain in gains) else None


def sampled(
    asked: EvaluatedQuestions,
    runs: Mapping[str, Outcomes],
    scale: float | None,
    texts: Mapping[str, str],
    seed: int,
    count: int = SAMPLED,
) -> list[dict[str, Any]]:
    """Questions drawn at random, in the order of the split, with the labels and ranks of their candidates.

    runs: outcomes by run for one reader; scale: of utility, from full_utility; texts: by passage_id. A question has
    CANDIDATES passages at most, by the labeller's loss; those that people or runs put first are left out last.
    """
    places = random.Random(seed).sample(range(len(asked.rows)), min(count, len(asked.rows)))
    labels = asked.known.losses.get(asked.known.labeller, {})
    return [_labelled(_question(asked, place, labels), asked, runs, scale, texts) for place in sorted(places)]


def _labelled(
    question: _Question,
    asked: EvaluatedQuestions,
    runs: Mapping[str, Outcomes],
    scale: float | None,
    texts: Mapping[str, str],
) -> dict[str, Any]:
    query = question.row["query_id"]
    first: dict[str, Counter[str]] = {}
    for name, found in runs.items():
        for passage in found.top[:, question.place]:
            if passage is not None:
                first.setdefault(passage, Counter())[name] += 1
    own = {one["passage_id"]: one["text"] for one in question.row["passages"]}
    losses = {reader: of_reader.get(query, {}) for reader, of_reader in asked.known.losses.items()}

    def by_loss(passage: str) -> float:
        return question.losses.get(passage, np.inf)

    passages = sorted(dict.fromkeys([*own, *first]), key=by_loss)
    kept = sorted(passages, key=lambda one: one not in question.relevant and one not in first)[:CANDIDATES]
    return {
        "query_id": query,
        "query": question.row["query"],
        "answers": question.row["answers"],
        "left_out": len(passages) - len(kept),
        "unaided": {reader: found.get(NO_PASSAGE) for reader, found in losses.items()},
        "passages": [
            {
                "text": own.get(passage, texts.get(passage, passage)),
                "tags": _nature(question, passage),
                "losses": {reader: found.get(passage) for reader, found in losses.items()},
                "utility": _utility(losses.get(asked.known.labeller, {}), passage, scale),
                "first": dict(first.get(passage, {})),
            }
            for passage in sorted(kept, key=by_loss)
        ],
    }


def _utility(losses: Losses, passage: str, scale: float | None) -> float | None:
    if scale is None or not {passage, NO_PASSAGE} <= losses.keys():
        return None
    return float(utility([losses[passage]], losses[NO_PASSAGE], scale)[0])
