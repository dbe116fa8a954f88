"""The one training loop: an encoder, labelled queries, a weighted sum of losses, one seed.

A step takes whole groups of queries, encodes each of their distinct passages once, and hands every loss the same
similarities: own candidates with their labels, all other passages of the batch as in-batch negatives. Methods differ
by their row of weights and by their label source, never by code here.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, isfinite, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.encoder import Encoder
from bitter_retrieval.losses import LOSSES, Calibration, LabelledBatch, LossSettings
from bitter_retrieval.records import Row, passage_texts
from bitter_retrieval.targets import Targets

CALIBRATION_RATE = 0.05  # learning rate of mse's two numbers: at an encoder's rate they would hardly move
Metrics = dict[str, float]


class TrainingError(RuntimeError):
    """A run that cannot go on: nothing to learn from, or a loss that is not finite."""


@dataclass(frozen=True)
class TrainingSet:
    """Tokenised queries and passages of one split, with their labels."""

    query_ids: list[str]
    queries: list[list[int]]
    passages: list[list[int]]  # distinct ones
    candidates: list[np.ndarray]  # [C] places in `passages`, per query
    groups: list[np.ndarray]  # places of the queries of each group
    targets: Targets


def training_set(rows: list[Row], targets: Targets, encoder: Encoder) -> TrainingSet:
    """Tokenise once what every epoch and seed uses."""
    texts = passage_texts(rows)
    places = {passage_id: place for place, passage_id in enumerate(texts)}
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row["group_id"], []).append(place)
    return TrainingSet(
        [row["query_id"] for row in rows],
        encoder.tokens([row["query"] for row in rows], "query"),
        encoder.tokens(list(texts.values()), "passage"),
        [np.array([places[p["passage_id"]] for p in row["passages"]]) for row in rows],
        [np.array(members) for members in groups.values()],
        targets,
    )


def train_encoder(
    encoder: Encoder,
    train: TrainingSet,
    validation: TrainingSet,
    run: Any,
    settings: Any,
    seed: int,
    on_step: Callable[[int, Metrics], None],
) -> Metrics:
    """Train in place and leave the selected checkpoint in `encoder`. Same input, same weights.

    run: params.runs[name]; settings: params.train. on_step gets step and metrics (every loss term, learning rate,
    gradient norm; validation figures at each epoch's end). Returns the selected checkpoint's validation figures.
    Raises TrainingError if no query can be used or a loss is not finite.
    """
    torch.manual_seed(seed)
    objective = Objective(run, settings.micro_batch_tokens)
    batches = [list(epoch_batches(train.groups, settings.queries_per_batch, seed, e)) for e in range(settings.epochs)]
    steps = sum(len(epoch) for epoch in batches)
    peak = run.learning_rate or settings.learning_rate
    optimiser = _optimiser(encoder, objective.calibration, peak, settings.weight_decay)
    best, kept, step, learnt_from = float("inf"), None, 0, 0.0
    figures: Metrics = {}
    for epoch in batches:
        encoder.train()
        for places in epoch:
            rate = schedule(step, steps, settings.warmup, settings.schedule)
            _set_rate(optimiser, rate)
            terms = _step(encoder, train, places, objective, optimiser, settings.clip, step)
            on_step(step, {"learning_rate": peak * rate, **terms})
            learnt_from += sum(len(places) - terms[f"{name}_skipped"] for name in objective.weights)
            step += 1
        if not learnt_from:
            raise TrainingError(
                f"none of {len(train.queries)} queries has labels that {', '.join(objective.weights)} can learn from "
                "(no candidate is relevant, or all are equal). Check the run's labels."
            )
        found = validate(encoder, validation, objective, settings.queries_per_batch)
        if not isfinite(found["validation_loss"]):
            raise TrainingError(f"step {step - 1}: {found} after it is not finite. Lower the learning rate.")
        on_step(step - 1, found)
        if settings.select == "last" or found["validation_loss"] < best:
            best, figures = found["validation_loss"], found
            kept = copy.deepcopy(encoder.state_dict())
    encoder.load_state_dict(kept)
    encoder.eval()
    return {**figures, "steps": float(steps)}


class Objective:
    """The weighted losses of a run over a batch of a training set."""

    def __init__(self, run: Any, budget: int) -> None:
        self.weights = {name: weight for name, weight in run.losses.items() if weight > 0}
        self.settings = LossSettings(run.temperature.student, run.temperature.teacher, run.margin, run.in_batch)
        self.calibration = Calibration()
        self.budget = budget

    def __call__(
        self, encoder: Encoder, data: TrainingSet, places: np.ndarray
    ) -> tuple[Tensor, Metrics, LabelledBatch]:
        """Total loss (scalar), its terms with the number of queries each could use, and the batch behind them."""
        batch = labelled_batch(encoder, data, places, self.budget)
        self.calibration.to(batch.similarity.device)
        total, metrics = batch.similarity.new_zeros(()), {}
        for name, weight in self.weights.items():
            value = LOSSES[name].function(batch, self.settings, self.calibration)
            total = total + weight * value.mean
            metrics[name] = value.mean.item()
            metrics[f"{name}_skipped"] = float((~value.used).sum())
        return total, {"loss": total.item(), **metrics}, batch


def labelled_batch(encoder: Encoder, data: TrainingSet, places: np.ndarray, budget: int) -> LabelledBatch:
    """Similarities of Q queries with the P distinct candidates of all of them, and their labels."""
    columns = np.unique(np.concatenate([data.candidates[place] for place in places]))
    queries = encoder([data.queries[place] for place in places], budget)
    passages = encoder([data.passages[column] for column in columns], budget)
    similarity = queries @ passages.T
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


def epoch_batches(groups: list[np.ndarray], queries: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Places of queries: groups in random order, packed whole until a batch has `queries` of them."""
    order = np.random.default_rng([seed, epoch]).permutation(len(groups))
    yield from _packed([groups[place] for place in order], queries)


def _packed(groups: list[np.ndarray], queries: int) -> Iterator[np.ndarray]:
    members = np.concatenate(groups)
    sizes = np.cumsum([len(group) for group in groups])
    start = 0
    while start < len(members):
        ends = sizes[(sizes > start) & (sizes <= start + queries)]
        end = int(ends[-1]) if len(ends) else min(start + queries, len(members))  # a group larger than a batch is cut
        yield members[start:end]
        start = end


def schedule(step: int, steps: int, warmup: float, kind: str) -> float:
    """Learning rate as a share of its peak: linear warm-up, then cosine, linear or constant."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return {"cosine": (1 + cos(pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[kind]


@torch.no_grad()
def validate(encoder: Encoder, data: TrainingSet, objective: Objective, queries: int) -> Metrics:
    """Loss on held-out labels, and how often the best own candidate by similarity is the best by label."""
    encoder.eval()
    total, hits, count = 0.0, 0.0, 0
    for places in _packed(data.groups, queries):
        loss, _, batch = objective(encoder, data, places)
        total += loss.item() * len(places)
        hits += float(_agreement(batch, data.targets.scale is None).sum())
        count += len(places)
    return {"validation_loss": total / count, "validation_top1": hits / count}


def _agreement(batch: LabelledBatch, binary: bool) -> Tensor:
    top = batch.similarity.masked_fill(~batch.own, -2).argmax(1, keepdim=True)
    if binary:
        return batch.relevant.gather(1, top)
    lowest = batch.nll.masked_fill(~batch.own, float("inf")).amin(1, keepdim=True)
    return batch.nll.gather(1, top) <= lowest


def _step(
    encoder: Encoder,
    data: TrainingSet,
    places: np.ndarray,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    clip: float,
    step: int,
) -> Metrics:
    loss, terms, _ = objective(encoder, data, places)
    if not torch.isfinite(loss):
        asked = [data.query_ids[place] for place in places[:5]]
        raise TrainingError(f"step {step}: loss {terms} is not finite; first queries {asked}. Lower the learning rate.")
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(encoder.parameters(), clip)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return {**terms, "gradient_norm": norm.item()}


def _optimiser(encoder: Encoder, calibration: Calibration, peak: float, decay: float) -> torch.optim.Optimizer:
    matrices = [p for p in encoder.parameters() if p.ndim > 1]
    vectors = [p for p in encoder.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "peak": peak, "weight_decay": decay},
        {"params": vectors, "peak": peak, "weight_decay": 0.0},
        {"params": list(calibration.parameters()), "peak": CALIBRATION_RATE, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak, fused=True)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate
