"""Fit a small reader from scratch: a causal language model that copies the answer out of a passage.

Input: prepared rows (records.PREPARED). A training example is a question with a passage that states the answer
(generated world: roles plain and hard; real data: the selected passage). A fixed share has no passage, or one that does
not help, so that the loss without support is meaningful. Contexts are one or two sentences at first, whole passages
later:

    Question: Where was Aldan Brenley born?
    Context: Aldan Brenley works as a baker. The birthplace of Aldan Brenley is Caldbury.
    Answer: Caldbury<end>
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from bitter_retrieval.models.batching import aligned
from bitter_retrieval.models.schedules import schedule
from bitter_retrieval.models.vocabulary import fit_bpe_tokenizer, fit_word_tokenizer
from bitter_retrieval.readers.muon import Muon
from bitter_retrieval.readers.prompts import Prompt, answer_text
from bitter_retrieval.readers.settings import ReaderFit
from bitter_retrieval.records import SUPPORTING_ROLES, Row

SHORT_CONTEXTS = 0.3  # share of the steps that show one or two sentences
WITHOUT_SUPPORT = 0.2  # share of examples without a supporting passage; half of them have no passage at all
WARM_UP = 0.05  # share of the steps with rising learning rates
INIT_STD = 0.08  # standard deviation of initial weights; the libraries' 0.02 learns too late for a budget of seconds
LM_EVERY = 4  # examples of a batch that have the language-model loss, one in so many: logits are costly
POOL = 4  # batches drawn together, then divided by length to pad little


@dataclass(frozen=True)
class Example:
    """One question with passages that state the answer, and others."""

    query: str
    answer: str
    supporting: list[str]
    others: list[str]


def examples_of(rows: list[Row]) -> list[Example]:
    """Rows as examples; rows without any supporting passage are left out."""
    found = []
    for row in rows:
        supporting = [p["text"] for p in row["passages"] if supports(p)]
        others = [p["text"] for p in row["passages"] if not supports(p)]
        if supporting:
            found.append(Example(row["query"], row["answers"][0], supporting, others))
    return found


def supports(passage: Row) -> bool:
    """Whether a candidate states the answer, as far as the data knows."""
    return passage["role"] in SUPPORTING_ROLES or passage["is_selected"] == 1


def fit_reader(
    rows: list[Row],
    prompt: Prompt,
    max_length: int,
    settings: ReaderFit,
    on_step: Callable[[int, dict[str, float]], None],
) -> tuple[Any, Any]:
    """Fit a reader. Returns (model, tokenizer). Same input, same weights."""
    torch.manual_seed(settings.seed)
    examples = examples_of(rows)
    if not examples:
        raise ValueError("data/prepared/reader.parquet has no question with a supporting passage to fit a reader on.")
    tokenizer = _fit_tokenizer(rows, prompt, settings)
    model = build_causal_lm(settings, tokenizer, max_length)
    optimisers = _optimisers(model, settings)
    batches = _batches(examples, tokenizer, prompt, max_length, settings)
    model.train()
    for step, (ids, answer_mask) in enumerate(batches):
        _set_rates(optimisers, schedule(step, settings.steps, WARM_UP, "linear"))
        answer_loss, lm_loss = _losses(model, ids, answer_mask, tokenizer.pad_token_id)
        (answer_loss + settings.lm_weight * lm_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        on_step(step, {"answer_loss": answer_loss.item(), "lm_loss": lm_loss.item()})
    return model.eval(), tokenizer


def build_causal_lm(settings: ReaderFit, tokenizer: Any, max_length: int) -> Any:
    """An untrained model of the architecture that `settings` names."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        settings.architecture,
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=2 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.width // settings.heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        initializer_range=INIT_STD,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    return AutoModelForCausalLM.from_config(config)


def _fit_tokenizer(rows: list[Row], prompt: Prompt, settings: ReaderFit) -> Any:
    def texts() -> Iterator[str]:
        seen: set[str] = set()
        for row in rows:
            yield "".join(prompt.parts(row["query"]))
            yield from (answer_text(answer) for answer in row["answers"])
            for passage in row["passages"]:
                if passage["passage_id"] not in seen:
                    seen.add(passage["passage_id"])
                    yield passage["text"]

    fit = {"word": fit_word_tokenizer, "bpe": fit_bpe_tokenizer}[settings.tokenizer]
    return fit(texts(), settings.vocabulary)


def _optimisers(model: Any, settings: ReaderFit) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=settings.muon_learning_rate),
        torch.optim.AdamW(others, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def _set_rates(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * factor


def _batches(
    examples: list[Example], tokenizer: Any, prompt: Prompt, max_length: int, settings: ReaderFit
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids [B, T], answer mask [B, T]) for every step; questions in epochs of random order."""
    rng = np.random.default_rng(settings.seed)
    order = _endless(len(examples), rng)
    tokens = cache(lambda text: tuple(tokenizer(text).input_ids))
    for first in range(0, settings.steps, POOL):
        short = first < SHORT_CONTEXTS * settings.steps
        pool = [examples[next(order)] for _ in range(POOL * settings.batch)]
        contexts = [_context(e, short, settings.passages, prompt, rng) for e in pool]
        sequences = [
            _sequence(e, context, tokens, tokenizer.eos_token_id, prompt, max_length)
            for e, context in zip(pool, contexts, strict=True)
        ]
        sequences.sort(key=lambda sequence: len(sequence[0]))
        for place in rng.permutation(POOL)[: settings.steps - first]:
            yield _pad(
                sequences[place * settings.batch : (place + 1) * settings.batch], tokenizer.pad_token_id, max_length
            )


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count)


def _context(example: Example, short: bool, most: int, prompt: Prompt, rng: np.random.Generator) -> str:
    """Nothing, or one to `most` passages in random order, one of which states the answer if any does."""
    draw = rng.random()
    if draw < WITHOUT_SUPPORT / 2 or (draw < WITHOUT_SUPPORT and not example.others):
        return ""
    passages = example.others if draw < WITHOUT_SUPPORT else example.supporting
    first = passages[rng.integers(len(passages))]
    if short:
        return _two_sentences(first, example.answer)
    if most == 1:
        return first
    added = rng.permutation(len(example.others))[: rng.integers(most)]
    shown = list(dict.fromkeys([first, *(example.others[place] for place in added)]))
    return prompt.join(tuple(shown[place] for place in rng.permutation(len(shown))))


def _two_sentences(passage: str, answer: str) -> str:
    """The passage's first sentence and the one with the answer: what a beginner needs."""
    sentences = re.split(r"(?<=[.!?]) ", passage)
    with_answer = [s for s in sentences if answer.lower() in s.lower()][:1]
    return " ".join(dict.fromkeys(sentences[:1] + with_answer))


def _sequence(
    example: Example, context: str, tokens: Callable[[str], tuple[int, ...]], end: int, prompt: Prompt, max_length: int
) -> tuple[tuple[int, ...], int]:
    """Token ids of prompt, answer and end, and where the answer starts. A long context loses its tail.

    Parts are split where a token of Reader.encode's whole text ends: a space before the passage belongs to the passage.
    """
    before, after = prompt.parts(example.query)
    space = before[len(before.rstrip(" ")) :]
    tail = (*tokens(answer_text(example.answer)), end)
    head, rest = tokens(before.rstrip(" ")), tokens(after)
    room = max(0, max_length - len(head) - len(rest) - len(tail))
    prompt_ids = head + tokens(space + context)[:room] + rest
    return prompt_ids + tail, len(prompt_ids)


def _pad(sequences: list[tuple[tuple[int, ...], int]], pad: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = aligned(max(len(ids) for ids, _ in sequences), most)
    ids = torch.full((len(sequences), width), pad)
    answer = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, (sequence, start) in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        answer[row, start : len(sequence)] = True
    return ids, answer


def _losses(model: Any, ids: torch.Tensor, answer: torch.Tensor, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of answer tokens, and of the others in every LM_EVERY-th example, in nats.

    Padding is on the right, where nothing looks.
    """
    targets, in_answer = ids[:, 1:], answer[:, 1:]
    real = in_answer.clone()
    real[::LM_EVERY] |= targets[::LM_EVERY] != pad
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    losses = cross_entropy(model.lm_head(hidden[real]), targets[real], reduction="none")
    return losses[in_answer[real]].mean(), losses[~in_answer[real]].mean()
