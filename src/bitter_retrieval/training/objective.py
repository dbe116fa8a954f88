"""What training minimises in a batch, and what its curves tell about it.

Each distinct passage of the batch is encoded once. Every loss of the run gets the same similarities [Q, P] of queries
with passages: a query's own candidates with their labels, all others as in-batch negatives.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.training.distributed import ALONE, Processes
from bitter_retrieval.training.losses import FUNCTIONS, Calibration, LabelledBatch, LossSettings, best
from bitter_retrieval.training.sets import TrainingSet, columns_of

FEWEST = 8  # vectors from which on their cosine says something: a batch may end with two passages nearly the same


class Outcome(NamedTuple):
    """What an objective finds in a batch."""

    total: Tensor  # scalar
    terms: dict[str, Tensor]  # weighted; scalars whose sum is total
    metrics: dict[str, Tensor]  # scalars: loss, each term as it is, the queries that it could not use
    batch: LabelledBatch
    queries: Tensor  # [Q, d] float32
    passages: Tensor  # [P, d] float32


class Objective:
    """The weighted losses of a run over a batch of a training set."""

    def __init__(
        self,
        run: Any,
        budget: int,
        precision: str = "float32",
        recompute: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self.weights = {name: weight for name, weight in run.losses.items() if weight > 0}
        self.settings = LossSettings(run.temperature.student, run.temperature.teacher, run.margin, run.in_batch)
        self.calibration = Calibration()
        self.budget = budget
        self.precision = precision
        self.recompute = recompute
        self.processes = processes

    def __call__(self, encoder: Encoder, data: TrainingSet, places: np.ndarray) -> Outcome:
        columns = columns_of(data, places)
        queries, passages = self._encode(encoder, data, places, columns)
        batch = labelled_batch(queries @ passages.T, data, places, columns)
        self.calibration.to(batch.similarity.device)
        total, terms, metrics = batch.similarity.new_zeros(()), {}, {}
        for name, weight in self.weights.items():
            value = FUNCTIONS[name](batch, self.settings, self.calibration)
            terms[name] = weight * value.mean
            total = total + terms[name]
            metrics |= {name: value.mean, f"{name}_skipped": (~value.used).sum()}
        return Outcome(total, terms, {"loss": total, **metrics}, batch, queries, passages)

    def _encode(
        self, encoder: Encoder, data: TrainingSet, places: np.ndarray, columns: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Vectors of queries and passages; encoding alone is in reduced precision."""
        with torch.autocast(encoder.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            encode = partial(encoder, budget=self.budget, recompute=self.recompute)
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
    arrays = own, ~own, relevant, nll, data.targets.no_passage_nll[places], utility
    return LabelledBatch(similarity, *(torch.from_numpy(array).to(similarity.device) for array in arrays))


def gradient_norms(found: Outcome) -> dict[str, Tensor]:
    """Norm of each weighted term's gradient with respect to the batch's vectors, which costs no pass of the encoder."""
    trained = [vectors for vectors in (found.queries, found.passages) if vectors.requires_grad]
    return {
        f"gradient/{name}": torch.cat(
            [gradient.flatten() for gradient in torch.autograd.grad(term, trained, retain_graph=True)]
        ).norm()
        for name, term in found.terms.items()
    }


def measures(found: Outcome, data: TrainingSet) -> dict[str, Tensor]:
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
    """Over the pairs of different ones of n unit vectors [n, d]; NaN for fewer than FEWEST."""
    n = len(vectors)
    if n < FEWEST:
        return vectors.new_tensor(float("nan"))
    return (vectors.sum(0).square().sum() - n) / (n * (n - 1))  # |sum|^2 counts each with itself too


def best_by_label(batch: LabelledBatch, data: TrainingSet) -> Tensor:
    """[Q, P] bool: the own candidates that are relevant, or those of the lowest loss."""
    return batch.relevant if data.targets.scale is None else best(batch.own, batch.nll)
