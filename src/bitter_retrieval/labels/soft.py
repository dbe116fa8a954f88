"""Soft labels as numbers: the loss of each passage, which passages are best, and how much each of them helps.

A reader's losses of two reference answers, given passage p1 and given no passage:

    {"query_id": "q7", "passage_id": "p1", "answer_index": 0, "nll_sum": 2.1, "n_tokens": 3}    0.7 nats a token
    {"query_id": "q7", "passage_id": "p1", "answer_index": 1, "nll_sum": 0.8, "n_tokens": 2}    0.4
    {"query_id": "q7", "passage_id": "", "answer_index": 0, "nll_sum": 6.0, "n_tokens": 3}      2.0
    {"query_id": "q7", "passage_id": "", "answer_index": 1, "nll_sum": 3.8, "n_tokens": 2}      1.9

    passage_losses(rows)        {"q7": {"p1": 0.4, "": 1.9}}          u of p1 = (1.9 - 0.4) / g, at most 1

Of several references the best counts, in training and in every table (REFERENCES). Likewise an answer is right if it
matches any reference, and its loss (answer_nll of records.PREDICTIONS) is that of the best. So training, the oracle,
disagreement with annotators and regret all have the same best passages. A run may read its labels differently (params:
runs.<run>.references); tables do not.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from bitter_retrieval.records import NO_PASSAGE, Row

References = Literal["first", "best", "mean"]  # which reference answer's loss counts
Losses = Mapping[str, float]  # of one question's passages, by passage_id; nats a token
LossesByQuery = Mapping[str, Losses]

REFERENCES: References = "best"
TIE = 1e-6  # nats a token within which two passages are equally good
FARTHEST = 1e6  # nats of an answer, either side of 0: labels distilled from a cross-encoder may be below it
UTILITY_QUANTILE = 0.95  # of the positive gains: the gain that counts as full utility


class LabelError(ValueError):
    """Labels without a usable loss, or that do not fit the prepared data."""


# -- one loss a passage ----------------------------------------------------------------------------------------------


def passage_losses(
    labels: Sequence[Row],
    nll: Literal["mean", "sum"] = "mean",
    references: References = REFERENCES,
    gain: bool = False,
    source: str = "",
) -> dict[str, dict[str, float]]:
    """Losses of soft label rows (records.SOFT_LABELS) by query_id and passage_id, the empty passage among them.

    nll: mean or sum over an answer's tokens (a mean already where n_tokens is null). references: first, best or mean.
    gain: subtract the loss without a passage before reducing the references to one, so that `best` is the reference
    that the passage helps most, not the easiest to guess; with first and mean, all losses of a query shift alike.
    source: the name of the labels, for errors.

    A passage that `comparable` leaves out has no loss. With gain, a query without a loss of the empty passage has none.
    Raises LabelError for a loss that is not finite, or beyond FARTHEST.
    """
    _refuse_impossible(labels, source)
    reduce: dict[References, Callable[[list[float]], SupportsFloat]]
    reduce = {"first": lambda values: values[0], "best": min, "mean": np.mean}
    found: dict[str, dict[str, float]] = {}
    for query, passages in comparable(labels).items():
        values = {passage: [_loss(label, nll) for label in own.values()] for passage, own in passages.items()}
        if gain:
            if NO_PASSAGE not in values:
                continue
            without = values[NO_PASSAGE]
            values = {p: [loss - base for loss, base in zip(own, without, strict=True)] for p, own in values.items()}
        found[query] = {passage: float(reduce[references](own)) for passage, own in values.items()}
    return found


def comparable(labels: Iterable[Row]) -> dict[str, dict[str, dict[int, Row]]]:
    """Label rows by query_id, passage_id and answer_index (ascending), with the same references for all of a query.

    These are the references scored without a passage or, if there are none, all that any passage is scored by. A
    passage that lacks one of them is left out, as losses of different references cannot be compared.
    """
    scored: dict[str, dict[str, dict[int, Row]]] = {}
    for label in labels:
        if label["nll_sum"] is not None:
            of_query = scored.setdefault(label["query_id"], {})
            of_query.setdefault(label["passage_id"], {})[label["answer_index"]] = label
    return {query: _alike(passages) for query, passages in scored.items()}


def _alike(passages: dict[str, dict[int, Row]]) -> dict[str, dict[int, Row]]:
    wanted = sorted(passages[NO_PASSAGE] if NO_PASSAGE in passages else set().union(*passages.values()))
    return {
        passage: {index: own[index] for index in wanted}
        for passage, own in passages.items()
        if own.keys() >= set(wanted)
    }


def _loss(label: Row, nll: str) -> float:
    return label["nll_sum"] / (label["n_tokens"] or 1) if nll == "mean" else label["nll_sum"]


def _refuse_impossible(labels: Iterable[Row], source: str) -> None:
    for label in labels:
        if label["nll_sum"] is not None and not abs(label["nll_sum"]) <= FARTHEST:
            why = f"beyond {FARTHEST:,.0f} nats" if math.isfinite(label["nll_sum"]) else "not finite"
            raise LabelError(
                f"{f'labels {source}: ' if source else ''}query {label['query_id']!r}, passage "
                f"{label['passage_id']!r}, answer {label['answer_index']}: loss {label['nll_sum']} is {why}. "
                "Make these labels again. If it remains, their source is broken: remove this label source."
            )


# -- the best passages -----------------------------------------------------------------------------------------------


def candidate_losses(row: Row, losses: LossesByQuery) -> dict[str, float]:
    """Losses of a prepared row's candidates in their order, without the empty passage and those without a loss."""
    known = losses.get(row["query_id"], {})
    return {one["passage_id"]: known[one["passage_id"]] for one in row["passages"] if one["passage_id"] in known}


def best_passages(losses: Losses) -> frozenset[str]:
    """The passages of lowest loss: several if they tie, none if there are no losses."""
    lowest = min(losses.values(), default=math.inf)
    return frozenset(passage for passage, loss in losses.items() if loss <= lowest + TIE)


def share_outside(best: AbstractSet[str], wanted: AbstractSet[str]) -> float:
    """Share of the best passages that are not wanted; each of n tied ones counts 1/n."""
    return len(best - wanted) / len(best)


# -- utility ---------------------------------------------------------------------------------------------------------


def utility(nll: ArrayLike, without: ArrayLike, scale: float) -> np.ndarray:
    """How much each passage helps, u = clip((L0 - L) / g, 0, 1).

    nll: L [..., P] nats a token; without: L0 [...]; scale: g in nats a token, from utility_scale. Returns [..., P] in
    their precision, NaN where nll is NaN. Raises ValueError unless the scale is positive.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"utility scale is {scale}: it must be positive and finite, in nats a token.")
    return np.clip((np.asarray(without)[..., None] - np.asarray(nll)) / float(scale), 0, 1)


def utility_scale(gains: ArrayLike) -> float:
    """g: the 95th percentile of the positive gains L0 - L (nats a token) of a label source's training passages.

    gains: numbers of any shape. Linear interpolation between order statistics. Raises ValueError if one is not finite
    or none is positive.
    """
    values = np.asarray(gains, dtype=np.float64).ravel()
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"gain {first} of {values.size} is {values[first]}: leave out passages without an NLL.")
    positive = values[values > 0]
    if not positive.size:
        raise ValueError(
            f"none of {values.size} passages lowers the answer's NLL, so utilities have no scale. "
            "Check the reader: does it use its context?"
        )
    return float(np.quantile(positive, UTILITY_QUANTILE))
