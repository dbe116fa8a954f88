"""Fit a small BERT from scratch, without labels: two pieces of one passage become closer than pieces of two.

A pair, from a passage of three sentences:

    "Aldan Brenley works as a baker."      "Aldan Brenley keeps a goat as a pet. The birthplace of Aldan …"

Half of the pairs are one sentence against the rest (inverse cloze), half two random crops of words. InfoNCE in both
directions with the other pairs of the batch as negatives (SimCLR, arXiv 2002.05709; ICT, arXiv 1906.00300).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from bitter_retrieval.encoders.encoder import Encoder, Usage
from bitter_retrieval.encoders.settings import EncoderFit
from bitter_retrieval.models.schedules import schedule
from bitter_retrieval.models.vocabulary import fit_wordpiece_tokenizer
from bitter_retrieval.records import Row, passage_texts

WARM_UP = 0.1  # share of the steps with rising learning rate
SHORTEST_CROP = 0.3  # of a passage's words
MICRO_BATCH = 8192  # tokens encoded at once


def fit_encoder(rows: list[Row], usage: Usage, settings: EncoderFit, on_step: Callable[[int, float], None]) -> Encoder:
    """Fit an encoder on the passages of prepared rows. Same input, same weights."""
    torch.manual_seed(settings.seed)
    texts = list(passage_texts(rows).values())
    tokenizer = fit_wordpiece_tokenizer([*texts, *(row["query"] for row in rows)], settings.vocabulary)
    encoder = Encoder(build_bert(settings, tokenizer, usage.max_length), tokenizer, usage)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True)
    encoder.train()
    for step, (left, right) in enumerate(_pairs(texts, settings)):
        optimiser.param_groups[0]["lr"] = settings.learning_rate * schedule(step, settings.steps, WARM_UP, "linear")
        sequences = encoder.tokens([*left, *right], "passage")
        one, other = encoder(sequences, MICRO_BATCH).chunk(2)
        logits = one @ other.T / settings.temperature
        target = torch.arange(len(left), device=logits.device)
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        on_step(step, loss.item())
    return encoder.eval()


def build_bert(settings: EncoderFit, tokenizer: Any, max_length: int) -> Any:
    """An untrained BERT without dropout, of the size that `settings` names."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    return BertModel(config)  # with the pooler that nothing uses: AutoModel would add one with random weights


def _pairs(texts: list[str], settings: EncoderFit) -> Iterator[tuple[list[str], list[str]]]:
    """(left texts, right texts), `batch` of each, for every step."""
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.steps):
        chosen = rng.choice(len(texts), size=min(settings.batch, len(texts)), replace=False)
        pairs = [_pair(texts[place], rng) for place in chosen]
        yield [left for left, _ in pairs], [right for _, right in pairs]


def _pair(text: str, rng: np.random.Generator) -> tuple[str, str]:
    sentences = re.split(r"(?<=[.!?]) ", text)
    if len(sentences) > 1 and rng.random() < 0.5:
        taken = int(rng.integers(len(sentences)))
        return sentences[taken], " ".join(sentences[:taken] + sentences[taken + 1 :])
    return _crop(text, rng), _crop(text, rng)


def _crop(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    length = int(rng.integers(max(1, int(SHORTEST_CROP * len(words))), len(words) + 1))
    start = int(rng.integers(len(words) - length + 1))
    return " ".join(words[start : start + length])
