"""A cross-encoder between reader and encoder: it learns the reader's answer losses, and its own scores then teach.

    question "Where was Ada Brenn born?"    reader, softmax(-L / temperature)    cross-encoder, softmax(score)
    "Ada Brenn was born in Calder. …"                  .81                              .74
    "Ada Brenn owns a goat. …"                         .07                              .14
    no passage at all                                  .12                              .12

It reads question and passage together, so it can learn what helps a reader, and it averages out the reader's noise on
single passages. It must not label what it has learnt from: two are fitted, each on half of the groups, and each labels
the other half. Other splits get the mean of the two.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitter_retrieval.encoders.encoder import load_usage
from bitter_retrieval.labels.settings import RerankerFit
from bitter_retrieval.models.batching import length_batches
from bitter_retrieval.models.checkpoints import resolve_checkpoint
from bitter_retrieval.models.pretrained import HEADS, TRAINED, load_model, load_tokenizer, positions, read_config
from bitter_retrieval.models.schedules import schedule
from bitter_retrieval.records import Row
from bitter_retrieval.training.losses import LabelledBatch, LossSettings, UtilityMap, kl

WARM_UP = 0.1  # share of the steps with rising learning rate
HALVES = (0, 1)
Pair = dict[str, list[int]]  # token ids and masks of a question with a passage


class RerankerError(RuntimeError):
    """Labels that no cross-encoder can be fitted on."""


class CrossEncoder(nn.Module):
    """A transformer with one output for a question and a passage that it reads as a pair."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length

    def pairs(self, rows: Sequence[Row]) -> list[list[Pair]]:
        """Each question with each of its candidates; of a pair that is too long, the longer text loses its tail."""
        limit = {"truncation": "longest_first", "max_length": self.max_length}
        tokenised = []
        for row in rows:
            texts = [passage["text"] for passage in row["passages"]]
            found = self.tokenizer([row["query"]] * len(texts), texts, **limit)
            tokenised.append([{name: found[name][place] for name in found} for place in range(len(texts))])
        return tokenised

    def forward(self, pairs: Sequence[Pair], budget: int) -> Tensor:
        """Scores [n] of pairs, computed in micro-batches of at most `budget` tokens."""
        batches = length_batches([len(pair["input_ids"]) for pair in pairs], budget)
        scores = torch.cat([self._score([pairs[place] for place in batch]) for batch in batches])
        places = torch.tensor([place for batch in batches for place in batch], device=scores.device)
        return scores[torch.argsort(places)]

    def _score(self, pairs: list[Pair]) -> Tensor:
        padded = self.tokenizer.pad(pairs, return_tensors="pt").to(self.model.device)
        return self.model(**padded).logits[:, 0].float()

    @torch.no_grad()
    def scores(self, rows: Sequence[Row], budget: int) -> list[np.ndarray]:
        """[C] float32 of each row's candidates."""
        if not rows:
            return []
        self.eval()
        tokenised = self.pairs(rows)
        found = self.forward([pair for of_row in tokenised for pair in of_row], budget).cpu().numpy()
        return np.split(found, np.cumsum([len(of_row) for of_row in tokenised])[:-1])


def cross_fitted(
    folder: Path,
    train: tuple[list[Row], list[np.ndarray]],
    asked: dict[str, list[Row]],
    settings: RerankerFit,
    budget: int,
    on_step: Callable[[int], object],
) -> dict[str, list[np.ndarray]]:
    """Scores of the candidates of all rows asked, by split, from cross-encoders fitted without the row's group.

    folder: where the weights start from. train: rows and the answer losses [C] of their candidates. settings:
    params.derived_labels[name].fit. The groups of `train` belong to the halves in turn; if a row's group is in
    neither, the two scores are averaged. Raises RerankerError if there are fewer than two groups.
    """
    rows, losses = train
    groups = {group: place % 2 for place, group in enumerate(dict.fromkeys(row["group_id"] for row in rows))}
    if len(groups) < 2:
        raise RerankerError(f"{len(groups)} groups have labels: cross-fitting needs two. Label more questions.")
    found: dict[str, list[list[np.ndarray]]] = {split: [[] for _ in of_split] for split, of_split in asked.items()}
    for half in HALVES:
        kept = [place for place, row in enumerate(rows) if groups[row["group_id"]] != half]
        taught = [rows[place] for place in kept], [losses[place] for place in kept]
        encoder = fit_cross_encoder(folder, *taught, settings, budget, on_step)
        for split, of_split in asked.items():
            places = [place for place, row in enumerate(of_split) if groups.get(row["group_id"], half) == half]
            for place, scores in zip(places, encoder.scores([of_split[p] for p in places], budget), strict=True):
                found[split][place].append(scores)
    return {split: [np.mean(scores, 0) for scores in of_split] for split, of_split in found.items()}


def fit_cross_encoder(
    folder: Path,
    rows: list[Row],
    losses: list[np.ndarray],
    settings: RerankerFit,
    budget: int,
    on_step: Callable[[int], object],
) -> CrossEncoder:
    """Fit on rows and the answer losses [C] of their candidates. Same input, same weights.

    The loss is losses.kl over a question's candidates, p = softmax(-L / settings.temperature), q = softmax(score).
    """
    torch.manual_seed(settings.seed)
    encoder = start(folder)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True)
    pairs = encoder.pairs(rows)
    rng = np.random.default_rng(settings.seed)
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = settings.learning_rate * schedule(step, settings.steps, WARM_UP, "linear")
        chosen = rng.choice(len(rows), size=min(settings.batch, len(rows)), replace=False)
        encoder.train()
        scores = encoder([pair for place in chosen for pair in pairs[place]], budget)
        listwise(scores, [losses[place] for place in chosen], settings.temperature).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        on_step(1)
    return encoder


def start(folder: Path) -> CrossEncoder:
    """The encoder in `folder` with a head that gives one number; the head's weights are random."""
    from transformers import AutoModelForSequenceClassification

    path, revision = resolve_checkpoint(folder)
    config = read_config(path, revision)
    config.num_labels = 1
    model = load_model(AutoModelForSequenceClassification, path, config, torch.float32, HEADS, TRAINED)
    tokenizer = load_tokenizer(path, config)
    most = positions(model.config) or tokenizer.model_max_length
    # A pair has two texts, so twice the length of one, as far as model and tokenizer allow.
    length = min(2 * load_usage(folder).max_length, most, tokenizer.model_max_length)
    return CrossEncoder(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, length)


def listwise(scores: Tensor, losses: Sequence[np.ndarray], temperature: float) -> Tensor:
    """losses.kl of scores [sum of C], one question after the other, with a student's temperature of 1."""
    counts = [len(of_question) for of_question in losses]
    width = max(counts)

    def padded(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([nn.functional.pad(part, (0, width - len(part))) for part in parts]).to(scores.device)

    own = padded([torch.ones(count, dtype=torch.bool) for count in counts])
    nothing, zeros = torch.zeros_like(own), torch.zeros(own.shape, device=scores.device)
    nll = padded([torch.from_numpy(of_question) for of_question in losses])
    batch = LabelledBatch(padded(scores.split(counts)), own, nothing, nothing, nll, zeros[:, 0], zeros)
    return kl(batch, LossSettings(1.0, temperature, 0.0, "none"), UtilityMap()).mean
