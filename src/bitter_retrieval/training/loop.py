"""The one training loop: an encoder, labelled queries, a weighted sum of losses, one seed.

A step takes whole groups of queries, encodes each of their distinct passages once, and hands every loss the same
similarities: own candidates with their labels, all other passages of the batch as in-batch negatives. Methods differ
by their row of weights and by their label source, never by code here. on_step gets, for a step:

    {"learning_rate": 0.001, "loss": 1.31, "kl": 1.31, "kl_skipped": 0.0, "gradient/kl": 0.42, "similarity_gap": 0.28,
     "passage_cosine": 0.11, "gradient_norm": 3.7}
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import isfinite, isnan

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.models.attention import unpadded_attention
from bitter_retrieval.models.memory import is_out_of_memory
from bitter_retrieval.models.schedules import schedule
from bitter_retrieval.training.distributed import ALONE, Processes
from bitter_retrieval.training.losses import UtilityMap
from bitter_retrieval.training.objective import Objective, best_by_label, gradient_norms, measures
from bitter_retrieval.training.sets import TrainingError, TrainingSet, columns_of, epoch_batches, packed
from bitter_retrieval.training.settings import Run, Train
from bitter_retrieval.training.state import Metrics, Progress, TrainingState

UTILITY_MAP_RATE = 0.05  # learning rate of mse's two numbers: at an encoder's they would hardly move
ALIKE = 0.999  # mean cosine of different passages above which they can no longer be told apart
UNSAVED = TrainingState()


def train_encoder(
    encoder: Encoder,
    train: TrainingSet,
    validation: TrainingSet,
    run: Run,
    settings: Train,
    seed: int,
    on_step: Callable[[int, Metrics], None],
    state: TrainingState = UNSAVED,
    processes: Processes = ALONE,
) -> Metrics:
    """Train in place and leave the selected checkpoint in `encoder`. On a CPU: same input, same weights.

    run: params.runs[name]; settings: params.train. on_step gets step and metrics (every loss term, learning rate,
    gradient norms; validation figures at each epoch's end). state: where a killed training left off; on_step then gets
    its curve again. processes: those that train together, each calling this with the same arguments.
    Returns the selected checkpoint's validation figures and step.
    Raises TrainingError if no query can be used, if memory runs out, if a loss is not finite or if vectors collapse.
    """
    torch.manual_seed(processes.seed(seed))
    if run.trains == "query":
        train, validation = (_with_vectors(data, encoder, settings.micro_batch_tokens) for data in (train, validation))
    objective = Objective(run, settings.micro_batch_tokens, settings.precision, settings.recompute, processes, seed)
    objective.utility_map.to(encoder.model.device)
    epochs = [list(epoch_batches(train.groups, settings.queries_per_batch, seed, e)) for e in range(settings.epochs)]
    batches = [places for epoch in epochs for places in epoch]
    ends = set(np.cumsum([len(epoch) for epoch in epochs]).tolist())
    _refuse_single_passages(train, batches)
    peak = run.learning_rate or settings.learning_rate
    optimiser = _optimiser(encoder, objective.utility_map, peak, settings.weight_decay)
    parts = {"encoder": encoder, "utility_map": objective.utility_map, "optimiser": optimiser}
    progress = state.restore(parts)
    for step_and_metrics in progress.curve:
        on_step(*step_and_metrics)

    def tell(step: int, metrics: Metrics) -> None:
        progress.curve.append((step, metrics))
        on_step(step, metrics)

    half = settings.precision == "bfloat16"
    with unpadded_attention(encoder.model, settings.attention, half):
        for step in range(progress.step, len(batches)):
            encoder.train()
            rate = schedule(step, len(batches), settings.warmup, settings.schedule)
            _set_rate(optimiser, rate)
            try:
                terms = _step(encoder, train, batches[step], objective, optimiser, settings.clip, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise _too_large(train, batches[step], step, settings.recompute) from error
            tell(step, {"learning_rate": peak * rate, **terms})
            progress.learnt_from += sum(len(batches[step]) - terms[f"{name}_skipped"] for name in objective.weights)
            progress.step = step + 1
            if progress.step in ends:
                tell(step, _end_epoch(encoder, train, validation, objective, settings, progress))
            state.save(parts, progress)
    encoder.load_state_dict(progress.kept)
    encoder.eval()
    state.finish(progress)
    return progress.figures


@torch.no_grad()
def _with_vectors(data: TrainingSet, encoder: Encoder, budget: int) -> TrainingSet:
    """The set with its passages encoded once, before the first step."""
    encoder.eval()
    return replace(data, passage_vectors=encoder(data.passages, budget))


def _refuse_single_passages(data: TrainingSet, batches: list[np.ndarray]) -> None:
    """Raise TrainingError if every batch has a single passage. Losses skip such a batch, as the last one may be."""
    if all(len(columns_of(data, places)) < 2 for places in batches):
        raise TrainingError(
            f"no batch has negatives: each has a single passage, as query {data.query_ids[batches[0][0]]!r}'s. "
            "Raise train.queries_per_batch to have passages of other queries, or label more candidates."
        )


def _end_epoch(
    encoder: Encoder,
    train: TrainingSet,
    validation: TrainingSet,
    objective: Objective,
    settings: Train,
    progress: Progress,
) -> Metrics:
    """Validation figures; keeps the weights in `progress` if they are selected."""
    if not progress.learnt_from:
        raise TrainingError(
            f"none of {len(train.queries)} queries has labels that {', '.join(objective.weights)} can learn from "
            "(no candidate is relevant, or all are equal). Check the run's labels."
        )
    step = progress.step - 1
    found = validate(encoder, validation, objective, settings.queries_per_batch)
    if not isfinite(found["validation_loss"]):
        raise TrainingError(f"step {step}: the validation figures {found} are not finite. Lower the learning rate.")
    if settings.select == "last" or found["validation_loss"] < progress.best:
        progress.best, progress.figures = found["validation_loss"], {**found, "step": float(step)}
        progress.kept = {name: weights.to("cpu", copy=True) for name, weights in encoder.state_dict().items()}
    return found


@torch.no_grad()
def validate(encoder: Encoder, data: TrainingSet, objective: Objective, queries: int) -> Metrics:
    """Loss on held-out labels, and how often the best own candidate by similarity is the best by label.

    Each term is a mean over the queries that it can use, top1 over those that have a best candidate. Raises
    TrainingError if no query can be used: its loss of 0 would count as the best.
    """
    encoder.eval()
    totals, used = (dict.fromkeys(objective.weights, 0.0) for _ in range(2))
    hits, with_best = 0.0, 0.0
    for places in packed(data.groups, queries):
        found = objective(encoder, data, places)
        for name, term in found.terms.items():  # a mean over the queries that it could use
            count = len(places) - found.metrics[f"{name}_skipped"].item()
            totals[name] += term.item() * count
            used[name] += count
        best = best_by_label(found.batch, data)
        top = found.batch.similarity.masked_fill(~found.batch.own, -2).argmax(1, keepdim=True)  # -2: below any cosine
        hits += float(best.gather(1, top).sum())
        with_best += float(best.any(1).sum())
    if not any(used.values()):
        raise TrainingError(
            f"none of {len(data.queries)} validation queries has labels that {', '.join(objective.weights)} can "
            "measure (no candidate is relevant, or all are equal): no checkpoint can be selected. Check the run's "
            "labels."
        )
    loss = sum(totals[name] / count for name, count in used.items() if count)
    return {"validation_loss": loss, "validation_top1": hits / max(1.0, with_best)}


def _step(
    encoder: Encoder,
    data: TrainingSet,
    places: np.ndarray,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    clip: float,
    step: int,
) -> Metrics:
    found = objective(encoder, data, places, step)
    metrics = _numbers({**found.metrics, **gradient_norms(found), **measures(found, data)})
    at = f"step {step}, first queries {[data.query_ids[place] for place in places[:5]]}"
    _refuse_infinite(metrics, ["loss", *objective.weights], at)
    _refuse_collapse(metrics, at)
    found.total.backward()
    objective.processes.sum_gradients(encoder.parameters())
    metrics["gradient_norm"] = torch.nn.utils.clip_grad_norm_(encoder.parameters(), clip).item()
    _refuse_infinite(metrics, ["gradient_norm"], at)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return {name: value for name, value in metrics.items() if not isnan(value)}  # NaN: not defined here


def _too_large(data: TrainingSet, places: np.ndarray, step: int, recomputing: bool) -> TrainingError:
    wanted = "lower" if recomputing else "set train.recompute to true, or lower"
    return TrainingError(
        f"step {step}: out of memory for a batch of {len(places)} queries with "
        f"{len(columns_of(data, places)):,} passages. In params.yaml, {wanted} train.queries_per_batch or the "
        "encoder's max_length."
    )


def _numbers(scalars: dict[str, Tensor]) -> Metrics:
    """The values of scalars, fetched from the device in one transfer."""
    values = torch.stack([scalar.detach().float() for scalar in scalars.values()])
    return dict(zip(scalars, values.tolist(), strict=True))


def _refuse_infinite(metrics: Metrics, names: Iterable[str], at: str) -> None:
    broken = [name for name in names if not isfinite(metrics[name])]
    if broken:
        raise TrainingError(
            f"{at}: {', '.join(broken)} not finite in {metrics}. Lower the learning rate; at step 0 the weights that "
            "training starts from are broken."
        )


def _refuse_collapse(metrics: Metrics, at: str) -> None:
    for side in ("passage", "query"):
        if metrics.get(f"{side}_cosine", 0.0) > ALIKE:
            raise TrainingError(
                f"{at}: collapse: every {side} has nearly the same vector, see {side}_cosine in {metrics}. Lower the "
                "learning rate, or mix in a loss that sets passages apart (infonce, infonce_soft, kl); at step 0, "
                "start from an encoder that has been trained."
            )


def _optimiser(encoder: Encoder, utility_map: UtilityMap, peak: float, decay: float) -> torch.optim.Optimizer:
    matrices = [p for p in encoder.parameters() if p.ndim > 1]
    vectors = [p for p in encoder.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "peak": peak, "weight_decay": decay},
        {"params": vectors, "peak": peak, "weight_decay": 0.0},
        {"params": list(utility_map.parameters()), "peak": UTILITY_MAP_RATE, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak, fused=True)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate
