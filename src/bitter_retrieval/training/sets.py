"""Training data of a run: tokens of queries and passages with their labels, and the batches of its epochs.

groups       [0, 1, 2], [3, 4], [5, 6, 7], …           places of the queries of a cluster, an article …
a batch      [5, 6, 7, 0, 1, 2]                        whole groups in random order, up to its size
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.labels.targets import Targets
from bitter_retrieval.records import Row, passage_texts


class TrainingError(RuntimeError):
    """A run that cannot go on: nothing to learn from, a loss that is not finite, vectors that are nearly equal."""


@dataclass(frozen=True)
class TrainingSet:
    """Tokenised queries and passages of one split, with their labels."""

    query_ids: list[str]
    queries: list[list[int]]
    passages: list[list[int]]  # distinct
    candidates: list[np.ndarray]  # [C] places in `passages`, per query
    negatives: list[np.ndarray]  # places of mined passages, which join as in-batch passages; often none
    groups: list[np.ndarray]  # places of the queries of each group
    targets: Targets
    passage_vectors: Tensor | None = None  # [passages, d] if they are not trained
    cut: int = 0  # queries and passages that lost their tail at the encoder's max_length


def training_set(
    rows: list[Row], targets: Targets, encoder: Encoder, mined: Mapping[str, list[Row]] | None = None
) -> TrainingSet:
    """Tokenise once what every epoch and seed uses. mined: negatives without a label, by query_id.

    Raises TrainingError for a passage without tokens, which has no embedding.
    """
    mined = mined or {}
    texts = passage_texts(rows)
    texts |= {p["passage_id"]: p["text"] for row in rows for p in mined.get(row["query_id"], ())}
    places = {passage_id: place for place, passage_id in enumerate(texts)}
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row["group_id"], []).append(place)
    asked, shown = [row["query"] for row in rows], list(texts.values())
    queries, passages = encoder.tokens(asked, "query"), encoder.tokens(shown, "passage")
    _refuse_empty(passages, texts)
    return TrainingSet(
        [row["query_id"] for row in rows],
        queries,
        passages,
        [np.array([places[p["passage_id"]] for p in row["passages"]]) for row in rows],
        [np.array([places[p["passage_id"]] for p in mined.get(row["query_id"], ())], dtype=int) for row in rows],
        [np.array(members) for members in groups.values()],
        targets,
        cut=encoder.count_cut(asked, queries, "query") + encoder.count_cut(shown, passages, "passage"),
    )


def _refuse_empty(passages: list[list[int]], texts: Mapping[str, str]) -> None:
    """Raise TrainingError for a passage without tokens: its mean vector would be NaN. Special tokens are tokens too."""
    for tokens, (passage_id, text) in zip(passages, texts.items(), strict=True):
        if not tokens:
            raise TrainingError(
                f"passage {passage_id!r}, text {text!r}: no tokens, so no embedding. This encoder's tokenizer adds "
                "no special tokens: give the encoder a passage_prefix, or leave empty_candidate out of the run."
            )


def epoch_batches(groups: list[np.ndarray], queries: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Places of queries: groups in random order, packed whole until a batch has `queries` of them."""
    order = np.random.default_rng([seed, epoch]).permutation(len(groups))
    yield from packed([groups[place] for place in order], queries)


def packed(groups: list[np.ndarray], queries: int) -> Iterator[np.ndarray]:
    """Places of queries in the order of the groups, in batches of as many whole groups as fit into `queries`."""
    members = np.concatenate(groups)
    sizes = np.cumsum([len(group) for group in groups])
    start = 0
    while start < len(members):
        ends = sizes[(sizes > start) & (sizes <= start + queries)]
        end = int(ends[-1]) if len(ends) else min(start + queries, len(members))  # a group larger than a batch is cut
        yield members[start:end]
        start = end


def columns_of(data: TrainingSet, places: np.ndarray) -> np.ndarray:
    """Places of the P distinct candidates and mined negatives of some queries."""
    return np.unique(np.concatenate([part[place] for part in (data.candidates, data.negatives) for place in places]))
