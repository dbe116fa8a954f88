"""What the shown passages cost a reader: regret against the best candidate, harm against no passage.

A question's candidates have answer losses of 0.2, 0.9 and 2.3 nats a token; the reader was shown others, with a loss
of 1.1, and answers wrongly, though without a passage it answers rightly:

    {"regret": 0.9, "regret_labeller": …, "harm": 1.0}

Regret is below 0 if the shown passages serve better than every candidate, as several passages, or one of another
question, may. It is measured twice, by the losses of the answering reader and by those of the reader that gave the
labels: a retriever trained on the latter need not suit the former. NaN means unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan

from bitter_retrieval.labels.soft import LossesByQuery, candidate_losses
from bitter_retrieval.records import NO_PASSAGE, Row

Read = tuple[str, tuple[str, ...]]  # a query and the passages that a reader saw with it


@dataclass(frozen=True)
class Known:
    """Facts about the evaluated split besides its labels."""

    losses: Mapping[str, LossesByQuery] = field(default_factory=dict)  # by reader, of those that have labelled
    labeller: str = ""  # the reader whose labels are compared; "": none
    unaided: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # reader, query_id: EM without a passage
    empty_passage: bool = False  # whether the corpus holds the empty passage


@dataclass(frozen=True)
class Utility:
    """What is needed to score the predictions of one reader."""

    lowest: Mapping[str, float]  # lowest loss of a question's candidates, by the reader's own losses
    labeller_lowest: Mapping[str, float]  # the same by the labeller's
    labeller_shown: Mapping[Read, float]  # the labeller's loss of what was shown
    unaided: Mapping[str, float]  # exact match without a passage

    def scores(self, row: Row) -> dict[str, float]:
        """Regret by both readers, and harm, of one prediction."""
        query = row["query_id"]
        loss = nan if row["answer_nll"] is None else row["answer_nll"]
        to_labeller = self.labeller_shown.get(_read(query, row["shown_ids"]), nan)
        unaided = self.unaided.get(query)
        return {
            "regret": loss - self.lowest.get(query, nan),
            "regret_labeller": to_labeller - self.labeller_lowest.get(query, nan),
            "harm": nan if unaided is None or row["em"] is None else float(row["em"] < unaided),
        }


def utilities(by_reader: Mapping[str, Sequence[Row]], rows: Sequence[Row], known: Known) -> dict[str, Utility]:
    """One system's Utility by reader, from its predictions by reader and the prepared rows."""
    lowest = {reader: _lowest(rows, losses) for reader, losses in known.losses.items()}
    labelled = known.losses.get(known.labeller, {})
    shown = _labelled(labelled) | _answered(by_reader.get(known.labeller, ()))
    return {
        reader: Utility(lowest.get(reader, {}), lowest.get(known.labeller, {}), shown, known.unaided.get(reader, {}))
        for reader in by_reader
    }


def _lowest(rows: Sequence[Row], losses: LossesByQuery) -> dict[str, float]:
    found = {row["query_id"]: candidate_losses(row, losses) for row in rows}
    return {query: min(of_query.values()) for query, of_query in found.items() if of_query}


def _read(query: str, shown: Iterable[str]) -> Read:
    """Without empty passages, as a reader sees no text of them."""
    return query, tuple(passage for passage in shown if passage != NO_PASSAGE)


def _labelled(losses: LossesByQuery) -> dict[Read, float]:
    """Losses of single candidates, and of no passage, from the labels."""
    return {_read(query, [passage]): loss for query, found in losses.items() for passage, loss in found.items()}


def _answered(rows: Iterable[Row]) -> dict[Read, float]:
    return {
        _read(row["query_id"], row["shown_ids"]): row["answer_nll"] for row in rows if row["answer_nll"] is not None
    }
