"""The one training loop: an encoder, labelled queries, a weighted sum of losses, one seed.

A step takes whole groups of queries, encodes each of their distinct passages once, and hands every loss the same
similarities: own candidates with their labels, all other passages of the batch as in-batch negatives. Methods differ
by their row of weights and by their label source, never by code here. What on_step is told of a step:

    {"learning_rate": 0.001, "loss": 1.31, "kl": 1.31, "kl_skipped": 0.0, "gradient/kl": 0.42, "similarity_gap": 0.28,
     "passage_cosine": 0.11, "gradient_norm": 3.7}
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import cos, isfinite, isnan, pi
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bitter_retrieval.attention import unpadded_attention
from bitter_retrieval.distributed import ALONE, Processes
from bitter_retrieval.dropout import cheap_dropout
from bitter_retrieval.encoder import Encoder
from bitter_retrieval.losses import LOSSES, TIE, Calibration, LabelledBatch, LossSettings
from bitter_retrieval.records import Row, passage_texts
from bitter_retrieval.targets import Targets
from bitter_retrieval.training_state import Metrics, Progress, TrainingState

CALIBRATION_RATE = 0.05  # learning rate of mse's two numbers: at an encoder's rate they would hardly move
ALIKE = 0.999  # mean cosine of different passages above which nothing tells them apart any more
FEWEST = 8  # vectors from which on that says something: a batch may end with two passages that are nearly the same
UNSAVED = TrainingState()


class TrainingError(RuntimeError):
    """A run that cannot go on: nothing to learn from, a loss that is not finite, vectors that are all alike."""


@dataclass(frozen=True)
class TrainingSet:
    """Tokenised queries and passages of one split, with their labels."""

    query_ids: list[str]
    queries: list[list[int]]
    passages: list[list[int]]  # distinct ones
    candidates: list[np.ndarray]  # [C] places in `passages`, per query
    negatives: list[np.ndarray]  # places of those mined for it, which come along as in-batch passages; often none
    groups: list[np.ndarray]  # places of the queries of each group
    targets: Targets
    passage_vectors: Tensor | None = None  # [passages, d] where they are not trained


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
    passages = encoder.tokens(list(texts.values()), "passage")
    _refuse_empty(passages, texts)
    return TrainingSet(
        [row["query_id"] for row in rows],
        encoder.tokens([row["query"] for row in rows], "query"),
        passages,
        [np.array([places[p["passage_id"]] for p in row["passages"]]) for row in rows],
        [np.array([places[p["passage_id"]] for p in mined.get(row["query_id"], ())], dtype=int) for row in rows],
        [np.array(members) for members in groups.values()],
        targets,
    )


def _refuse_empty(passages: list[list[int]], texts: Mapping[str, str]) -> None:
    """A mean over no tokens would be NaN. The empty passage has tokens where the tokenizer puts marks around a text."""
    for tokens, (passage_id, text) in zip(passages, texts.items(), strict=True):
        if not tokens:
            raise TrainingError(
                f"passage {passage_id!r}, text {text!r}: no tokens, so no embedding. This encoder's tokenizer puts "
                "nothing around a text: give the encoder a passage_prefix, or leave empty_candidate out of the run."
            )


def train_encoder(
    encoder: Encoder,
    train: TrainingSet,
    validation: TrainingSet,
    run: Any,
    settings: Any,
    seed: int,
    on_step: Callable[[int, Metrics], None],
    state: TrainingState = UNSAVED,
    processes: Processes = ALONE,
) -> Metrics:
    """Train in place and leave the selected checkpoint in `encoder`. Same input, same weights.

    run: params.runs[name]; settings: params.train. on_step gets step and metrics (every loss term, learning rate,
    gradient norms; validation figures at each epoch's end). state: where a training that was killed left off; on_step
    is then told its curve again. processes: those that train together, each calling this with the same arguments.
    Returns the selected checkpoint's validation figures and step.
    Raises TrainingError if no query can be used, or for a loss or vectors that nothing can be learnt from any more.
    """
    torch.manual_seed(processes.seed(seed))
    if run.trains == "query":
        train, validation = (_with_vectors(data, encoder, settings.micro_batch_tokens) for data in (train, validation))
    objective = Objective(run, settings.micro_batch_tokens, settings.precision, settings.recompute, processes)
    objective.calibration.to(encoder.model.device)
    epochs = [list(epoch_batches(train.groups, settings.queries_per_batch, seed, e)) for e in range(settings.epochs)]
    batches = [places for epoch in epochs for places in epoch]
    ends = set(np.cumsum([len(epoch) for epoch in epochs]).tolist())
    _refuse_single_passages(train, batches)
    peak = run.learning_rate or settings.learning_rate
    optimiser = _optimiser(encoder, objective.calibration, peak, settings.weight_decay)
    parts = {"encoder": encoder, "calibration": objective.calibration, "optimiser": optimiser}
    progress = state.restore(parts)
    for told in progress.curve:
        on_step(*told)

    def tell(step: int, metrics: Metrics) -> None:
        progress.curve.append((step, metrics))
        on_step(step, metrics)

    half = settings.precision == "bfloat16"
    with cheap_dropout(encoder.model), unpadded_attention(encoder.model, settings.attention, half):
        for step in range(progress.step, len(batches)):
            encoder.train()
            rate = schedule(step, len(batches), settings.warmup, settings.schedule)
            _set_rate(optimiser, rate)
            terms = _step(encoder, train, batches[step], objective, optimiser, settings.clip, step)
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
    """The set with its passages encoded once for all steps, as training starts."""
    encoder.eval()
    return replace(data, passage_vectors=encoder(data.passages, budget))


def _refuse_single_passages(data: TrainingSet, batches: list[np.ndarray]) -> None:
    """A last batch of one query with one candidate is skipped by the losses; a run of such batches is a mistake."""
    if all(len(_columns(data, places)) < 2 for places in batches):
        raise TrainingError(
            f"no batch has negatives: each holds a single passage, as that of query {data.query_ids[batches[0][0]]!r}. "
            "Raise train.queries_per_batch, so that the passages of other queries are there, or label more candidates."
        )


def _end_epoch(
    encoder: Encoder,
    train: TrainingSet,
    validation: TrainingSet,
    objective: "Objective",
    settings: Any,
    progress: Progress,
) -> Metrics:
    """Validation figures; the weights are kept in `progress` if they are selected."""
    if not progress.learnt_from:
        raise TrainingError(
            f"none of {len(train.queries)} queries has labels that {', '.join(objective.weights)} can learn from "
            "(no candidate is relevant, or all are equal). Check the run's labels."
        )
    step = progress.step - 1
    found = validate(encoder, validation, objective, settings.queries_per_batch)
    if not isfinite(found["validation_loss"]):
        raise TrainingError(f"step {step}: {found} after it is not finite. Lower the learning rate.")
    if settings.select == "last" or found["validation_loss"] < progress.best:
        progress.best, progress.figures = found["validation_loss"], {**found, "step": float(step)}
        progress.kept = copy.deepcopy(encoder.state_dict())
    return found


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
        columns = _columns(data, places)
        queries, passages = self._encode(encoder, data, places, columns)
        batch = labelled_batch(queries @ passages.T, data, places, columns)
        self.calibration.to(batch.similarity.device)
        total, terms, metrics = batch.similarity.new_zeros(()), {}, {}
        for name, weight in self.weights.items():
            value = LOSSES[name].function(batch, self.settings, self.calibration)
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


def _columns(data: TrainingSet, places: np.ndarray) -> np.ndarray:
    """Places of the P distinct candidates and mined negatives of some queries."""
    return np.unique(np.concatenate([part[place] for part in (data.candidates, data.negatives) for place in places]))


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
    """Loss on held-out labels, and how often the best own candidate by similarity is the best by label.

    Raises TrainingError if no query can be used: a loss of 0 would be the best that there is.
    """
    encoder.eval()
    total, hits, count, used = 0.0, 0.0, 0, 0.0
    for places in _packed(data.groups, queries):
        found = objective(encoder, data, places)
        top = found.batch.similarity.masked_fill(~found.batch.own, -2).argmax(1, keepdim=True)
        total += found.total.item() * len(places)
        hits += float(_best_by_label(found.batch, data).gather(1, top).sum())
        count += len(places)
        used += sum(len(places) - found.metrics[f"{name}_skipped"].item() for name in objective.weights)
    if not used:
        raise TrainingError(
            f"none of {count} validation queries has labels that {', '.join(objective.weights)} can measure (no "
            "candidate is relevant, or all are equal): no checkpoint can be selected. Check the run's labels."
        )
    return {"validation_loss": total / count, "validation_top1": hits / count}


def _best_by_label(batch: LabelledBatch, data: TrainingSet) -> Tensor:
    """[Q, P] bool: the own candidates that are relevant, or those of the lowest loss."""
    if data.targets.scale is None:
        return batch.relevant
    lowest = batch.nll.masked_fill(~batch.own, float("inf")).amin(1, keepdim=True)
    return batch.own & (batch.nll <= lowest + TIE)


def _step(
    encoder: Encoder,
    data: TrainingSet,
    places: np.ndarray,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    clip: float,
    step: int,
) -> Metrics:
    found = objective(encoder, data, places)
    metrics = _numbers({**found.metrics, **gradient_norms(found), **_measures(found, data)})
    at = f"step {step}, first queries {[data.query_ids[place] for place in places[:5]]}"
    _refuse_infinite(metrics, ["loss", *objective.weights], at)
    _refuse_collapse(metrics, at)
    found.total.backward()
    objective.processes.sum_gradients(encoder.parameters())
    metrics["gradient_norm"] = torch.nn.utils.clip_grad_norm_(encoder.parameters(), clip).item()
    _refuse_infinite(metrics, ["gradient_norm"], at)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return {name: value for name, value in metrics.items() if not isnan(value)}  # a gap that no query has


def gradient_norms(found: Outcome) -> dict[str, Tensor]:
    """Norm of each weighted term's gradient with respect to the batch's vectors, which costs no pass of the encoder."""
    trained = [vectors for vectors in (found.queries, found.passages) if vectors.requires_grad]
    return {
        f"gradient/{name}": torch.cat(
            [gradient.flatten() for gradient in torch.autograd.grad(term, trained, retain_graph=True)]
        ).norm()
        for name, term in found.terms.items()
    }


def _measures(found: Outcome, data: TrainingSet) -> dict[str, Tensor]:
    side = "passage" if found.passages.requires_grad else "query"
    vectors = {"passage": found.passages, "query": found.queries}[side]
    gap = similarity_gap(found.batch, _best_by_label(found.batch, data))
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


def _numbers(scalars: dict[str, Tensor]) -> Metrics:
    """Fetched from the device at once."""
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
