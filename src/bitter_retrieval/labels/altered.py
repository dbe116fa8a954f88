"""Soft labels made from another source's: its order, its differences or its precision taken from it.

losses of p1, p2 and p3      0.1  2.0  4.2     and 3.5 without a passage, which always stays
permuted_labels              4.2  0.1  2.0     a negative control: the order is random
flat_labels                  2.1  2.1  2.1     a negative control: no passage helps more than another
noisy_labels                 0.4  1.3  4.3     a labeller that errs
"""

from collections import defaultdict
from statistics import NormalDist, fmean

import numpy as np

from bitter_retrieval.labels.draws import uniform
from bitter_retrieval.records import NO_PASSAGE, Row


def permuted_labels(labels: list[Row], seed: int) -> list[Row]:
    """Soft labels with the passages of each query permuted at random."""
    by_query: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for label in labels:
        by_query[label["query_id"]][label["passage_id"]].append(label)
    rng = np.random.default_rng(seed)
    return [
        {**label, "passage_id": passage_id}
        for by_passage in by_query.values()
        for passage_id, other in _exchange(list(by_passage), rng)
        for label in by_passage[other]
    ]


def _exchange(passage_ids: list[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs of a passage and the passage whose labels it gets."""
    real = [passage_id for passage_id in passage_ids if passage_id != NO_PASSAGE]
    shuffled = [real[place] for place in rng.permutation(len(real))]
    return [*zip(real, shuffled, strict=True), *((p, p) for p in passage_ids if p == NO_PASSAGE)]


def flat_labels(labels: list[Row]) -> list[Row]:
    """Soft labels in which every passage of a query has the mean loss of them all, by reference answer."""
    losses: dict[tuple[str, int], list[float]] = defaultdict(list)
    for label in labels:
        if _is_passage(label):
            losses[label["query_id"], label["answer_index"]].append(label["nll_sum"])
    means = {reference: fmean(of_passages) for reference, of_passages in losses.items()}
    return [
        {**label, "nll_sum": means[label["query_id"], label["answer_index"]]} if _is_passage(label) else label
        for label in labels
    ]


def noisy_labels(labels: list[Row], noise: float, seed: int) -> list[Row]:
    """Soft labels with an independent normal error a passage, of standard deviation `noise` nats a token.

    An error is the same draw at every noise, scaled. A loss that would be negative is reflected at 0, since one that is
    cut there would tie with others.
    """
    return [
        {**label, "nll_sum": abs(label["nll_sum"] + noise * _normal(seed, label) * (label["n_tokens"] or 1))}
        if _is_passage(label)
        else label
        for label in labels
    ]


def _normal(seed: int, label: Row) -> float:
    return NormalDist().inv_cdf(uniform(seed, label["query_id"], label["passage_id"]))


def _is_passage(label: Row) -> bool:
    """Whether the label is a passage's and known."""
    return label["passage_id"] != NO_PASSAGE and label["nll_sum"] is not None
