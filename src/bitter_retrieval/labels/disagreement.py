"""How often the passage with the lowest answer loss is not the one that the annotators selected, and who is wrong.

Candidates a (selected by the annotators), b and c have answer losses of 0.9, 0.1 and 2.3 nats a token: b is lowest, so
human and soft labels disagree. Two of three passages drawn at random would disagree too: chance is .67.

Where true support is known, a disagreement is one of four: both passages support the answer, the annotators' alone
does not, the lowest-loss passage alone does not, or neither does. Only questions with a selected passage count; the
empty passage is left out; ties count in fractions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bitter_retrieval.records import Row, relevant_passages, supporting_passages

TIE = 1e-6  # nats


@dataclass(frozen=True)
class Labelled:
    """One question with both labels."""

    losses: dict[str, float]  # of each candidate
    selected: frozenset[str]  # candidates that the annotators chose
    supporting: frozenset[str] | None  # None: not known

    @property
    def marks(self) -> list[int]:
        return [int(passage in self.selected) for passage in self.losses]

    @property
    def lowest(self) -> frozenset[str]:
        return lowest_loss(self.losses)


def disagreement(rows: Sequence[Row], human: Iterable[Row], soft: Iterable[Row]) -> dict:
    """Disagreement over prepared rows, from binary label rows and soft label rows, in shares of the questions.

    A share of no questions is None; `split` is None where true support is not known.
    """
    labelled = _labelled(rows, relevant_passages(human), passage_losses(soft))
    losses, marks = [list(one.losses.values()) for one in labelled], [one.marks for one in labelled]
    return {
        "questions": len(labelled),
        "left_out": len(rows) - len(labelled),
        "ties": sum(len(one.lowest) > 1 for one in labelled),
        "disagreement": share_differing(losses, marks)[0],
        "chance": share_by_chance(marks)[0],
        "split": _split([one for one in labelled if one.supporting is not None]),
    }


def share_differing(soft: Sequence[ArrayLike], human: Sequence[ArrayLike]) -> tuple[float | None, int]:
    """Share of queries whose lowest-loss candidate people did not mark relevant, and the number of queries.

    soft: NLL of each candidate, an array a query; human: 0 or 1 of the same. Leave "no passage" out of both. A query
    without a relevant candidate does not count. Where n tie for the lowest loss (within 1e-6), each counts 1/n.
    (None, 0) if none counts. Raises ValueError on unequal lengths or a NaN loss.
    """
    shares = []
    for number, (losses, marks) in enumerate(zip(soft, human, strict=True)):
        nll, relevant = np.asarray(losses, dtype=np.float64), np.asarray(marks) > 0
        if nll.shape != relevant.shape or np.isnan(nll).any():
            raise ValueError(f"query {number}: losses {losses}, marks {marks}. Give each candidate one of both.")
        if relevant.any():
            shares.append(1 - relevant[nll <= nll.min() + TIE].mean())
    return _mean(shares), len(shares)


def share_by_chance(human: Sequence[ArrayLike]) -> tuple[float | None, int]:
    """What losses that know nothing would give, all tied: mean of 1 - relevant / candidates over the same queries."""
    return share_differing([np.zeros(len(marks)) for marks in human], human)


def passage_losses(soft: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Mean nats a token of the best reference answer, by query_id and passage_id.

    Where n_tokens is null, nll_sum is a mean already; where nll_sum is null, the reader could not score the answer.
    """
    losses: dict[str, dict[str, float]] = {}
    for row in soft:
        if row["nll_sum"] is None:
            continue
        loss = row["nll_sum"] / (row["n_tokens"] or 1)
        of_query = losses.setdefault(row["query_id"], {})
        of_query[row["passage_id"]] = min(loss, of_query.get(row["passage_id"], np.inf))
    return losses


def candidate_losses(row: Row, losses: dict[str, dict[str, float]]) -> dict[str, float]:
    """Losses of a prepared row's candidates in their order; the empty passage and those without a loss are left out."""
    known = losses.get(row["query_id"], {})
    return {one["passage_id"]: known[one["passage_id"]] for one in row["passages"] if one["passage_id"] in known}


def lowest_loss(losses: dict[str, float]) -> frozenset[str]:
    """The passages whose loss is the lowest, several in a tie."""
    return frozenset(passage for passage, loss in losses.items() if loss <= min(losses.values()) + TIE)


def _labelled(rows: Sequence[Row], selected: dict[str, frozenset[str]], losses: dict) -> list[Labelled]:
    found = [
        Labelled(known, selected.get(row["query_id"], frozenset()) & known.keys(), supporting_passages(row))
        for row in rows
        for known in [candidate_losses(row, losses)]
    ]
    return [one for one in found if one.selected]


def _split(known: Sequence[Labelled]) -> dict | None:
    """What disagreements are made of; the four kinds add up to the disagreement of these questions."""
    if not known:
        return None
    right = [one for one in known if one.selected & one.supporting]
    return {
        "questions": len(known),
        "annotators_wrong": 1 - len(right) / len(known),
        "lowest_loss_wrong": _mean(len(one.lowest - one.supporting) / len(one.lowest) for one in known),
        "where_annotators_right": _mean(_differ(one) for one in right),
        "kinds": {
            "both_support": _share(known, annotators=True, lowest=True),
            "annotators_alone_wrong": _share(known, annotators=False, lowest=True),
            "lowest_loss_alone_wrong": _share(known, annotators=True, lowest=False),
            "neither_supports": _share(known, annotators=False, lowest=False),
        },
    }


def _differ(one: Labelled) -> float:
    return len(one.lowest - one.selected) / len(one.lowest)


def _share(known: Sequence[Labelled], annotators: bool, lowest: bool) -> float:
    """Share of questions that disagree in this way: whether the annotators', and the lowest-loss passage, supports."""
    return _mean(
        sum((passage in one.supporting) == lowest for passage in one.lowest - one.selected)
        / len(one.lowest)
        * (bool(one.selected & one.supporting) == annotators)
        for one in known
    )


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None
