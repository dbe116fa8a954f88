"""The objective that training minimises in a batch, and the measures for its curves.

Each distinct passage of the batch is encoded once. Every loss of the run gets the same similarities [Q, P] of queries
with passages: a query's own candidates with their labels, all others as in-batch negatives.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.training.distributed import ALONE, Processes
from bitter_retrieval.training.losses import FUNCTIONS, LabelledBatch, LossSettings, UtilityMap, best
from bitter_retrieval.training.sets import TrainingSet, columns_of
from bitter_retrieval.training.settings import Run

FEWEST = 8  # vectors below which their cosine says little: a last batch may have two nearly equal passages


class Outcome(NamedTuple):
    """An objective's result for a batch."""

    total: Tensor  # scalar
    terms: dict[str, Tensor]  # weighted; scalars whose sum is total
    metrics: dict[str, Tensor]  # scalars: loss, each term unweighted, the number of queries that it skipped
    batch: LabelledBatch
    queries: Tensor  # [Q, d] float32
    passages: Tensor  # [P, d] float32


class Objective:
    """The weighted losses of a run over a batch of a training set."""

    def __init__(
        self,
        run: Run,
        budget: int,
        precision: str = "float32",
        recompute: bool = False,
        processes: Processes = ALONE,
        seed: int = 0,
    ) -> None:
        """seed: of the draws that losses make; they depend on it and on the step alone, so all processes agree."""
        self.seed = seed
        self.weights = {name: weight for name, weight in run.losses.items() if weight > 0}
        dials = run.margin, run.in_batch, run.positives, run.pairs
        self.settings = LossSettings(run.temperature.student, run.temperature.teacher, *dials)
        self.utility_map = UtilityMap()
        self.budget = budget
        self.precision = precision
        self.recompute = recompute
        self.processes = processes

    def __call__(self, encoder: Encoder, data: TrainingSet, places: np.ndarray, step: int | None = None) -> Outcome:
        """step: of training; None for a measurement, in which nothing is drawn."""
        columns = columns_of(data, places)
        queries, passages = self._encode(encoder, data, places, columns)
        batch = labelled_batch(queries @ passages.T, data, places, columns)
        if step is not None and self.settings.positives == "one":
            lots = np.random.default_rng([self.seed, step, len(places)]).random(batch.own.shape, dtype=np.float32)
            batch = replace(batch, lots=torch.from_numpy(lots).to(batch.similarity.device))
        self.utility_map.to(batch.similarity.device)
        total = batch.similarity.new_zeros(())
        terms: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            value = FUNCTIONS[name](batch, self.settings, self.utility_map)
            terms[name] = weight * value.mean
            total = total + terms[name]
            metrics |= {name: value.mean, f"{name}_skipped": (~value.used).sum()}
        return Outcome(total, terms, {"loss": total, **metrics}, batch, queries, passages)

    def _encode(
        self, encoder: Encoder, data: TrainingSet, places: np.ndarray, columns: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Vectors of queries and passages. Only encoding is in reduced precision; losses need float32."""

        def encode(sequences: Sequence[Sequence[int]]) -> Tensor:
            return encoder(sequences, self.budget, self.recompute)

        with torch.autocast(encoder.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            queries = self.processes.encode(encode, [data.queries[place] for place in places])
            if data.passage_vectors is not None:
                return queries, data.passage_vectors[columns]
            return queries, self.processes.encode(encode, [data.passages[column] for column in columns])


def labelled_batch(similarity: Tensor, data: TrainingSet, places: np.ndarray, columns: np.ndarray) -> LabelledBatch:
    """Similarities [Q, P] of queries with the distinct passages of all of them, and their labels."""
    own = np.zeros(similarity.shape, dtype=bool)
    relevant = np.zeros_like(own)
    nll = np.zeros(similarity.shape, dtype=np.float32)
    utility = np.zeros_like(nll)
    for row, place in enumerate(places):
        where = np.searchsorted(columns, data.candidates[place])
        own[row, where] = True
        relevant[row, where] = data.targets.relevant[place]
        nll[row, where] = data.targets.nll[place]
        utility[row, where] = data.targets.utility[place]
    arrays = {"own": own, "others": ~own, "relevant": relevant, "nll": nll, "utility": utility}
    arrays["no_passage_nll"] = data.targets.no_passage_nll[places]
    tensors = {name: torch.from_numpy(array).to(similarity.device) for name, array in arrays.items()}
    return LabelledBatch(similarity, binary=data.targets.scale is None, **tensors)


def gradient_norms(found: Outcome) -> dict[str, Tensor]:
    """Norm of each weighted term's gradient with respect to the batch's vectors; needs no pass of the encoder."""
    trained = [vectors for vectors in (found.queries, found.passages) if vectors.requires_grad]
    return {
        f"gradient/{name}": torch.cat(
            [gradient.flatten() for gradient in torch.autograd.grad(term, trained, retain_graph=True)]
        ).norm()
        for name, term in found.terms.items()
    }


def measures(found: Outcome, data: TrainingSet) -> dict[str, Tensor]:
    """similarity_gap, and mean_cosine of the side that is trained, as signs of learning and of collapse."""
    side = "passage" if found.passages.requires_grad else "query"
    vectors = {"passage": found.passages, "query": found.queries}[side]
    gap = similarity_gap(found.batch, best_by_label(found.batch, data))
    return {"similarity_gap": gap, f"{side}_cosine": mean_cosine(vectors)}


def similarity_gap(batch: LabelledBatch, best: Tensor) -> Tensor:
    """Mean similarity of a query's best own candidates less that of its others; NaN if no query has both.

    best: [Q, P] bool, inside own. Averaged over the queries that have both.
    """
    others = batch.own & ~best
    both = best.any(1) & others.any(1)
    of_best, of_others = ((batch.similarity * kept).sum(1) / kept.sum(1).clamp(min=1) for kept in (best, others))
    return torch.where(both, of_best - of_others, 0).sum() / both.sum()


def mean_cosine(vectors: Tensor) -> Tensor:
    """Mean over the pairs of different rows of unit vectors [n, d]; NaN for fewer than FEWEST."""
    n = len(vectors)
    if n < FEWEST:
        return vectors.new_tensor(float("nan"))
    return (vectors.sum(0).square().sum() - n) / (n * (n - 1))  # |sum|^2 has each with itself too


def best_by_label(batch: LabelledBatch, data: TrainingSet) -> Tensor:
    """[Q, P] bool: the own candidates that are relevant, or those of the lowest loss."""
    return batch.relevant if data.targets.scale is None else best(batch.own, batch.nll)
