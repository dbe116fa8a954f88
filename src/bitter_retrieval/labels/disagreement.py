"""How often the passage with the lowest answer loss is not the one that the annotators selected, and who is wrong.

Candidates a (selected by the annotators), b and c have answer losses of 0.9, 0.1 and 2.3 nats a token: b is lowest, so
human and soft labels disagree. Two of three passages drawn at random would disagree too: chance is .67.

Where true support is known, a disagreement is one of four: both passages support the answer, the annotators' alone
does not, the lowest-loss passage alone does not, or neither does. Only questions with a selected passage count; the
empty passage is left out; ties count in fractions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bitter_retrieval.labels.soft import (
    LossesByQuery,
    best_passages,
    candidate_losses,
    passage_losses,
    share_outside,
)
from bitter_retrieval.records import Row, relevant_passages, supporting_passages


@dataclass(frozen=True)
class Labelled:
    """One question with both labels."""

    losses: dict[str, float]  # of each candidate
    selected: frozenset[str]  # candidates that the annotators chose
    supporting: frozenset[str] | None  # None: unknown

    @property
    def lowest(self) -> frozenset[str]:
        return best_passages(self.losses)


WithSupport = tuple[Labelled, frozenset[str]]  # and the passages that truly support the answer


def disagreement(rows: Sequence[Row], human: Iterable[Row], losses: LossesByQuery) -> dict:
    """Disagreement over prepared rows, in shares of the questions.

    human: binary label rows; losses: from soft.passage_losses. A share of no questions is None; so is `split` if
    true support is unknown.
    """
    labelled = _labelled(rows, relevant_passages(human), losses)
    return {
        "questions": len(labelled),
        "left_out": len(rows) - len(labelled),
        "ties": sum(len(one.lowest) > 1 for one in labelled),
        "disagreement": _mean(share_outside(one.lowest, one.selected) for one in labelled),
        "chance": _mean(1 - len(one.selected) / len(one.losses) for one in labelled),
        "split": _split([(one, one.supporting) for one in labelled if one.supporting is not None]),
    }


def _labelled(rows: Sequence[Row], selected: dict[str, frozenset[str]], losses: LossesByQuery) -> list[Labelled]:
    found = [
        Labelled(known, selected.get(row["query_id"], frozenset()) & known.keys(), supporting_passages(row))
        for row in rows
        for known in [candidate_losses(row, losses)]
    ]
    return [one for one in found if one.selected]


def _split(known: Sequence[WithSupport]) -> dict | None:
    """Disagreement by its four kinds, which add up to the disagreement of these questions."""
    if not known:
        return None
    right = [one for one, supporting in known if one.selected & supporting]
    return {
        "questions": len(known),
        "annotators_wrong": 1 - len(right) / len(known),
        "lowest_loss_wrong": _mean(share_outside(one.lowest, supporting) for one, supporting in known),
        "where_annotators_right": _mean(share_outside(one.lowest, one.selected) for one in right),
        "kinds": {
            "both_support": _share(known, annotators=True, lowest=True),
            "annotators_alone_wrong": _share(known, annotators=False, lowest=True),
            "lowest_loss_alone_wrong": _share(known, annotators=True, lowest=False),
            "neither_supports": _share(known, annotators=False, lowest=False),
        },
    }


def _share(known: Sequence[WithSupport], annotators: bool, lowest: bool) -> float | None:
    """Share of the questions with this disagreement; annotators, lowest: whether its passage supports the answer."""
    return _mean(
        sum((passage in supporting) == lowest for passage in one.lowest - one.selected)
        / len(one.lowest)
        * (bool(one.selected & supporting) == annotators)
        for one, supporting in known
    )


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None


def label_errors(rows: Sequence[Row], sources: Mapping[str, tuple[Sequence[Row], bool]]) -> dict[str, float | None]:
    """Share of the prepared rows about which each source is wrong; None if support is known of none that it labels.

    A source is wrong about a question if the passage that it prefers does not truly support the answer: the marked one
    of a binary source, the one of lowest loss of a soft source. Several count in fractions.
    sources: label rows by name, and whether they are soft (as records.read_labels returns them).
    """
    supporting = {row["query_id"]: supporting_passages(row) for row in rows}
    found = {}
    for name, (labels, is_soft) in sources.items():
        preferred = _lowest(rows, labels, name) if is_soft else relevant_passages(labels)
        wrong = [
            share_outside(passages, truth)
            for query, truth in supporting.items()
            if truth is not None and (passages := preferred.get(query))
        ]
        found[name] = float(np.mean(wrong)) if wrong else None
    return found


def _lowest(rows: Sequence[Row], labels: Sequence[Row], source: str) -> dict[str, frozenset[str]]:
    losses = passage_losses(labels, source=source)
    return {row["query_id"]: best_passages(candidate_losses(row, losses)) for row in rows}
