"""The questions on which runs differ most, with passages and answers side by side, for a person to read.

    {"query": "Where was Ada Brenn born?", "answers": ["Calder"], "spread": 0.25,
     "passages": [{"mark": "A", "text": "Ada Brenn was born in Calder. …", "tags": ["annotators", "loss 0.02"]}, …],
     "runs": [{"name": "kl", "seeds": [{"seed": 0, "mark": "A", "answer": "Calder", "right": True}, …]}, …]}

They are chosen because the runs differ, so they show how runs differ, not how often.
"""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitter_retrieval.labels.soft import Losses, LossesByQuery, best_passages, candidate_losses
from bitter_retrieval.records import NO_PASSAGE, SUPPORTING_ROLES, Row
from bitter_retrieval.statistics.outcomes import EvaluatedQuestions, Outcomes

SHOWN = 20


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


def most_differing(
    asked: EvaluatedQuestions,
    runs: Mapping[str, Outcomes],
    losses: LossesByQuery,
    texts: Mapping[str, str],
    count: int = SHOWN,
) -> list[dict[str, Any]]:
    """Questions by variance over runs of exact match (mean of the seeds), then by place; only those that vary.

    Runs whose exact match on a question is unknown are left out of its variance.

    runs: outcomes by run for one reader; losses: by query_id and passage_id; texts: by passage_id.
    """
    if not runs:
        return []
    exact = [np.ma.masked_invalid(found.scores["em"]).mean(axis=0) for found in runs.values()]
    spread = np.ma.stack(exact).var(axis=0).filled(0.0)
    # Rounded, as equal variances may differ in the last digit: ties are in the order of the split.
    order = np.argsort(-np.round(spread, 9), kind="stable")[:count]
    chosen = [int(place) for place in order if spread[place] > 1e-9]
    known = [
        _Question(asked.rows[place], place, asked.relevant[place], candidate_losses(asked.rows[place], losses))
        for place in chosen
    ]
    return [_described(one, runs, texts) | {"spread": float(spread[one.place])} for one in known]


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
    """A letter for each passage to show: labelled ones, then those that the runs ranked first."""
    ranked = [passage for found in runs for passage in found.top[:, question.place] if passage is not None]
    passages = dict.fromkeys([*sorted(question.relevant), *sorted(question.lowest), *ranked])
    return {passage: _letter(number) for number, passage in enumerate(passages)}


def _letter(number: int) -> str:
    """A to Z, then A2, B2, …"""
    turn, letter = divmod(number, len(string.ascii_uppercase))
    return string.ascii_uppercase[letter] + (str(turn + 1) if turn else "")


def _tags(question: _Question, passage: str) -> list[str]:
    """Notes on a passage, such as ["annotators", "lowest loss", "supports (plain)", "loss 0.02"]."""
    roles = {one["passage_id"]: one["role"] for one in question.row["passages"]}
    tags = ["annotators"] * (passage in question.relevant) + ["lowest loss"] * (passage in question.lowest)
    if passage == NO_PASSAGE:
        return [*tags, "no passage at all"]
    if passage not in roles:
        return [*tags, "of another question"]
    if roles[passage] is not None:
        tags.append(f"{'supports' if roles[passage] in SUPPORTING_ROLES else 'no support'} ({roles[passage]})")
    return tags + [f"loss {question.losses[passage]:.2f}"] * (passage in question.losses)


def _run(name: str, found: Outcomes, marks: Mapping[str, str], place: int) -> dict[str, Any]:
    seeds = [
        {
            "seed": seed,
            "mark": marks.get(found.top[at, place], ""),
            "answer": found.answers[at, place],
            "right": bool(found.scores["em"][at, place] == 1),
        }
        for at, seed in enumerate(found.seeds)
    ]
    return {"name": name, "seeds": seeds}
