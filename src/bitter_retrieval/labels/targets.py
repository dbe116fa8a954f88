"""Label rows as training reads them: arrays per query, aligned with its candidates.

    candidates p1, p2 with losses of 0.7 and 2.1 nats a token, 1.9 without a passage, and a scale of 1.5 nats:
    nll [.7, 2.1]   no_passage_nll 1.9   utility [.8, 0]   relevant [False, False]

Prepared rows list a query's candidates. with_labelled adds passages that a source has labelled beyond them, scored_rows
removes those that it could not label, with_empty adds the empty passage.
"""

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from bitter_retrieval.labels.draws import uniform
from bitter_retrieval.labels.soft import (
    REFERENCES,
    LabelError,
    References,
    comparable,
    passage_losses,
    utility,
    utility_scale,
)
from bitter_retrieval.records import NEGATIVES, NO_PASSAGE, Row, passage_texts, read_rows, relevant_passages

NEGATIVES_FILE = "negatives.parquet"  # next to the labels of a source that mines
HUMAN_FILE = "human-{}.parquet"  # by split, next to the labels of a source that has people's too
REPLACED_FILE = "replaced-{}.parquet"  # by split, next to soft labels: people's, that stand in place of soft ones
FAR = 10.0  # nats a token of what people did not select, among soft labels: far behind, at any temperature in use
LabelsByQuery = dict[str, dict[str, float]]  # a loss or a relevance by query_id and passage_id


@dataclass(frozen=True)
class Targets:
    """Labels of one split, by query, aligned with the query's candidates (C of them)."""

    nll: list[np.ndarray]  # [C] float32 each, nats; zeros for binary sources
    no_passage_nll: np.ndarray  # [queries] float32; zeros for binary sources
    utility: list[np.ndarray]  # [C] in [0, 1] each
    relevant: list[np.ndarray]  # [C] bool each; all False for soft sources without people's labels
    scale: float | None  # nats that count as full utility; None for binary sources


def with_labelled(rows: list[Row], labels: list[Row]) -> list[Row]:
    """Rows with the passages that a source has labelled beyond the prepared candidates appended to these.

    Their texts are found among the split's passages. Raises LabelError for a passage that is not.
    """
    texts = passage_texts(rows)
    own = {row["query_id"]: {NO_PASSAGE, *(p["passage_id"] for p in row["passages"])} for row in rows}
    beyond: dict[str, dict[str, Row]] = defaultdict(dict)
    for label in labels:
        query_id, passage_id = label["query_id"], label["passage_id"]
        if passage_id not in own.get(query_id, (passage_id,)):
            beyond[query_id][passage_id] = _passage(passage_id, texts, query_id)
    return [
        {**row, "passages": [*row["passages"], *beyond[row["query_id"]].values()]} if row["query_id"] in beyond else row
        for row in rows
    ]


def with_empty(rows: list[Row]) -> list[Row]:
    """Rows with the empty passage as a further candidate; its label is the loss without a passage."""
    return [{**row, "passages": [*row["passages"], {"passage_id": NO_PASSAGE, "text": ""}]} for row in rows]


def mined_negatives(source: Path, rows: list[Row]) -> dict[str, list[Row]]:
    """Passages by query_id that the label source in the folder `source` has mined; none if it does not mine."""
    path, texts = source / NEGATIVES_FILE, passage_texts(rows)
    mined: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(path, NEGATIVES) if path.exists() else ():
        mined[row["query_id"]].append(_passage(row["passage_id"], texts, row["query_id"]))
    return dict(mined)


def _passage(passage_id: str, texts: dict[str, str], query_id: str) -> Row:
    if passage_id not in texts:
        raise LabelError(
            f"query {query_id}: passage {passage_id!r} of its labels is in no row of the split; the labels belong to "
            "other data. Run `dvc repro`."
        )
    return {"passage_id": passage_id, "text": texts[passage_id], "is_selected": None, "role": None}


def scored_rows(rows: list[Row], labels: list[Row]) -> tuple[list[Row], int, int]:
    """Rows without what a reader could not score, and the numbers of queries and candidates left out.

    A candidate is left out if it lacks the loss of a reference by which its query's candidates are compared
    (soft.comparable); a query, if no candidate is left or the losses without a passage are absent.
    """
    scored = {(query, passage) for query, passages in comparable(labels).items() for passage in passages}
    null = {(label["query_id"], label["passage_id"]) for label in labels} - scored
    if not null:
        return rows, 0, 0
    kept = [
        {**row, "passages": [p for p in row["passages"] if (row["query_id"], p["passage_id"]) not in null]}
        for row in rows
        if (row["query_id"], NO_PASSAGE) not in null
    ]
    kept = [row for row in kept if row["passages"]]
    candidates = sum(len(row["passages"]) for row in rows) - sum(len(row["passages"]) for row in kept)
    return kept, len(rows) - len(kept), candidates


def binary_targets(rows: list[Row], labels: list[Row], source: str) -> Targets:
    """Relevance of each candidate. Raises LabelError for a candidate without a label."""
    relevant: LabelsByQuery = defaultdict(dict)
    for label in labels:
        relevant[label["query_id"]][label["passage_id"]] = label["relevant"]
    by_query = [np.array([_find(relevant, row, p, source) for p in row["passages"]], dtype=bool) for row in rows]
    zeros = [np.zeros(len(r), dtype=np.float32) for r in by_query]
    return Targets(zeros, np.zeros(len(rows), dtype=np.float32), zeros, by_query, None)


def soft_targets(
    rows: list[Row],
    labels: list[Row],
    source: str,
    nll: Literal["mean", "sum"] = "mean",
    references: References = REFERENCES,
    scale: float | None = None,
    gain: bool = False,
    replaced: AbstractSet[str] = frozenset(),
) -> Targets:
    """Answer loss and utility of each candidate.

    nll, references, gain: as in soft.passage_losses. scale: nats that count as full utility; None computes it from
    these labels (soft.utility_scale). replaced: queries with people's labels, which have no scale.
    Raises LabelError for a candidate without a label or a loss that is not finite.
    """
    losses = passage_losses(labels, nll, references, gain, source)
    by_query = [np.array([_find(losses, row, p, source) for p in row["passages"]], dtype=np.float32) for row in rows]
    without = np.array([_find(losses, row, {"passage_id": NO_PASSAGE}, source) for row in rows], dtype=np.float32)
    if scale is None:
        gains = {row["query_id"]: base - own for row, own, base in zip(rows, by_query, without, strict=True)}
        soft = [of_query for query_id, of_query in gains.items() if query_id not in replaced]
        scale = utility_scale(np.concatenate(soft or list(gains.values())))
    helped = [utility(own, base, scale) for own, base in zip(by_query, without, strict=True)]
    return Targets(by_query, without, helped, [np.zeros(len(own), dtype=bool) for own in by_query], scale)


def with_relevant(targets: Targets, rows: list[Row], human: list[Row]) -> Targets:
    """Soft targets that hold people's labels too; a candidate that people did not see is not relevant."""
    selected = relevant_passages(human)
    found = [
        np.array([p["passage_id"] in selected.get(row["query_id"], ()) for p in row["passages"]], dtype=bool)
        for row in rows
    ]
    return replace(targets, relevant=found)


def with_people(labels: list[Row], human: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Soft labels of which a share of the questions has people's labels instead, and these labels of people.

    What people selected has a loss of 0, all else of the question FAR nats a token, no passage included: any loss on
    soft labels then learns what it would from one relevant passage. A question keeps its soft labels if people selected
    nothing that has one. Which questions these are is drawn for each by itself: those of a lower share are among them.
    """
    selected = relevant_passages(human)
    known = {label["query_id"] for label in labels if _selects(selected, label) and label["nll_sum"] is not None}
    chosen = {query_id for query_id in known if uniform(seed, query_id) < share}
    replaced = [
        {**label, "nll_sum": 0.0 if _selects(selected, label) else FAR * (label["n_tokens"] or 1)}
        if label["query_id"] in chosen and label["nll_sum"] is not None
        else label
        for label in labels
    ]
    return replaced, [label for label in human if label["query_id"] in chosen]


def _selects(selected: Mapping[str, AbstractSet[str]], label: Row) -> bool:
    return label["passage_id"] in selected.get(label["query_id"], ())


def _find(labels: LabelsByQuery, row: Row, passage: Row, source: str) -> float:
    query_id, passage_id = row["query_id"], passage["passage_id"]
    if passage_id not in labels.get(query_id, ()):
        raise LabelError(
            f"labels {source}: query {query_id}, passage {passage_id!r} has no label; the labels belong to other data. "
            f"Run `dvc repro label@{source}`."
        )
    return labels[query_id][passage_id]
