"""A batch of queries with every oddity that losses meet, and the settings that its losses read."""

import math
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.labels.soft import utility
from bitter_retrieval.training.losses import LabelledBatch, LossSettings

SETTINGS = LossSettings(student=0.4, teacher=0.5, margin=0.7)
SCALE = 1.5
NO_PASSAGE = 2.0
# One list of NLLs a query, and the positions of its positives.
QUERIES: dict[str, tuple[list[float], list[int]]] = {
    "plain": ([0.4, 1.1, 2.3, 1.9], [0]),
    "two positives": ([1.2, 0.7, 1.0], [1, 2]),
    "single candidate": ([0.6], [0]),
    "single, no positive": ([1.6], []),
    "no positive": ([0.9, 1.3], []),
    "tie for best, then a tie": ([0.8, 0.3, 0.3 + 5e-7, 1.4, 1.4, 0.33], [3]),
    "all tie": ([1.1, 1.1, 1.1 + 5e-7], [0, 1, 2]),
    "nearly tied": ([0.52, 0.5, 0.54], [1]),
    "none helps": ([2.5, 2.1, 3.0], [2]),
    "all help fully": ([0.1, 0.2, 0.4], [0]),
    "no candidate": ([], []),
}
PADDING = 2  # columns of no query, which hold NaN


def make_batch(with_others: bool = True, names: list[str] | None = None, binary: bool = False) -> LabelledBatch:
    """Each query's candidates in separate columns, shuffled, with NaN wherever losses must not read."""
    queries = [QUERIES[name] for name in names or QUERIES]
    starts = np.cumsum([0] + [len(nlls) for nlls, _ in queries])
    rows, columns = len(queries), int(starts[-1]) + PADDING
    own, relevant = torch.zeros(2, rows, columns, dtype=torch.bool)
    nll = torch.full((rows, columns), math.nan, dtype=torch.float64)
    for row, (nlls, positives) in enumerate(queries):
        own[row, starts[row] : starts[row + 1]] = True
        relevant[row, [starts[row] + position for position in positives]] = True
        nll[row, starts[row] : starts[row + 1]] = torch.tensor(nlls, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    others = ~own & (torch.rand(own.shape, generator=generator) < 0.8) & with_others  # some are masked duplicates
    others[:, columns - PADDING :] = False
    similarity = 2 * torch.rand(own.shape, generator=generator, dtype=torch.float64) - 1
    no_passage = torch.full((rows,), NO_PASSAGE, dtype=torch.float64)
    helped = torch.from_numpy(utility(nll.numpy(), no_passage.numpy(), SCALE))
    similarity = torch.where(own | others, similarity, math.nan)
    batch = LabelledBatch(similarity, own, others, relevant, nll, no_passage, torch.where(own, helped, 0), binary)
    return permute(batch, torch.arange(rows), torch.randperm(columns, generator=generator))


def permute(batch: LabelledBatch, rows: Tensor, columns: Tensor) -> LabelledBatch:
    given = {field.name: getattr(batch, field.name) for field in fields(batch)}
    tensors = {name: value[rows] for name, value in given.items() if isinstance(value, Tensor)}
    return LabelledBatch(**given | {name: x[:, columns] if x.dim() == 2 else x for name, x in tensors.items()})
