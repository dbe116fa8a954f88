"""Scores say what a reader would generate where that is a reference, and never anything else than generation gives."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import tiny
import tiny_tokenizers
import torch
from torch.nn.functional import cross_entropy

from bitter_retrieval.readers import generation
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import Answer, generate_answers, generate_tokens
from bitter_retrieval.readers.language_model import Encoded, Reader

BUDGET = 400  # tokens: several batches
ROWS = tiny.world(8)
ITEMS = [(row["query"], p["text"]) for row in ROWS for p in [*row["passages"][:2], {"text": ""}]]
TOWNS = [row["answers"][0] for row in ROWS for _ in range(3)]
ANSWERS = [f"{town} and {town} in Holt" if at % 4 == 0 else town for at, town in enumerate(TOWNS)]
REFERENCES = [list(dict.fromkeys([town, answer])) for town, answer in zip(TOWNS, ANSWERS, strict=True)]
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "bytes": ("bpe", {}),
    "words": ("word", {}),
    "begins": ("llama3", {}),  # with a token before every text
    "spaces": ("llama2", {}),  # "▁" begins words
    "chat": ("chat", {"chat": True}),
    "end": ("word", {"answer_end": "<eos>"}),
    "line": ("bpe", {"answer_end": "\n"}),
    "stop": ("word", {"stop": ["in"]}),
    "limit": ("word", {"max_new_tokens": 2}),
    "cut": ("word", {"max_length": 38}),  # so that a prompt loses more to generate than to score
}
CASES = [(one, way) for one in ("llama", "gpt2", "gemma3_text") for way in ("words",)]
CASES += [("qwen3", way) for way in WAYS] + [("bloom", "words")]


def reader_of(architecture: str, way: str) -> Reader:
    family, changes = WAYS[way]
    taught = {"chat": changes.get("chat", False), "answer_end": changes.get("answer_end", "").replace("<eos>", "")}
    return replace(fitted(architecture, family, **taught), **changes)


@cache
def fitted(architecture: str, family: str, **asked: Any) -> Reader:
    """A reader that was taught every other answer, and to end."""
    tokenizer = (tiny.tokenizer_of if family in ("bpe", "word") else tiny_tokenizers.tokenizer_of)(family)
    model = tiny.tiny_model(architecture, len(tokenizer), tie_word_embeddings=False)
    reader = tiny.tiny_reader(model=model, tokenizer_object=tokenizer, max_length=200, max_new_tokens=20, **asked)
    items = reader.encode(*zip(*ITEMS[::2], strict=True), ANSWERS[::2])
    teach(model, [item for item in items if isinstance(item, Encoded)], tokenizer.eos_token_id)
    return reader


def teach(model: Any, items: Sequence[Encoded], end: int) -> None:
    width = 1 + max(len(item.ids) for item in items)
    ids = torch.tensor([item.ids + [end] * (width - len(item.ids)) for item in items])
    wanted = torch.full_like(ids, -100)
    for row, item in zip(wanted, items, strict=True):
        row[item.answer_start : len(item.ids) + 1] = torch.tensor([*item.ids[item.answer_start :], end])
    optimizer = torch.optim.Adam(model.requires_grad_(True).parameters(), lr=0.01)
    for _ in range(30):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        optimizer.zero_grad()
        cross_entropy(logits[:, :-1].flatten(0, 1), wanted[:, 1:].flatten()).backward()
        optimizer.step()
    model.requires_grad_(False)


def said(reader: Reader) -> list[list[int] | None]:
    """What the scores of any of an item's references say."""
    scorer = Scorer(reader, BUDGET, saying=True)
    asked = [[Triple(*item, one) for one in own] for item, own in zip(ITEMS, REFERENCES, strict=True)]
    found = [[score.said for score in scorer.score(own) if score] for own in asked]
    assert all(len([one for one in own if one is not None]) <= 1 or reader.max_new_tokens == 2 for own in found)
    return [next((one for one in own if one is not None), None) for own in found]


@pytest.mark.parametrize(("architecture", "way"), CASES)
def test_answers_are_those_of_full_generation(architecture: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, asked = reader_of(architecture, way), []
    full, known = generate_answers(reader, ITEMS, BUDGET), said(reader)
    assert len(ITEMS) / 3 < sum(one is not None for one in known) < 3 * len(ITEMS) / 4 or way == "cut"

    def spied(reader: Reader, prompts: list[list[int]], *more: Any) -> list[list[int]]:
        asked.extend(prompts)
        return generate_tokens(reader, prompts, *more)

    monkeypatch.setattr(generation, "generate_tokens", spied)
    assert generate_answers(reader, ITEMS, BUDGET, known=known) == full
    prompts = [item.ids for item in reader.encode(*zip(*ITEMS, strict=True), None)]
    cut = [answer.truncated for answer in full]
    assert asked == [own for own, one, shorter in zip(prompts, known, cut, strict=True) if one is None or shorter]
    assert any(cut) == (way == "cut")


@pytest.mark.parametrize("way", ["words", "bytes"])
def test_tokens_said_are_those_generated(way: str) -> None:
    reader = reader_of("qwen3", way)
    prompts = [item.ids for item in reader.encode(*zip(*ITEMS, strict=True), None)]
    pairs = zip(said(reader), generate_tokens(reader, prompts, BUDGET), strict=True)
    assert all(one is None or one == generated for one, generated in pairs)


def test_half_precision_says_what_it_generates() -> None:
    reader = reader_of("qwen3", "words")
    reader = replace(reader, model=copy.deepcopy(reader.model).bfloat16())
    full, known = generate_answers(reader, ITEMS, BUDGET), said(reader)
    assert generate_answers(reader, ITEMS, BUDGET, known=known) == full and any(known)


def test_first_choice_that_rounding_could_change_is_generated() -> None:
    reader = reader_of("llama", "words")
    triple = Triple(*ITEMS[2], ANSWERS[2])
    assert ANSWERS[2] == "Ashby" and Scorer(reader, BUDGET, saying=True).score([triple])[0].said
    reader = replace(reader, model=copy.deepcopy(reader.model))
    first, other = reader.tokenizer.convert_tokens_to_ids(["ashby", "holt"])
    reader.model.lm_head.weight[other] = reader.model.lm_head.weight[first]
    score = Scorer(reader, BUDGET, saying=True).score([triple])[0]
    assert score.exact and score.said is None


def test_scorer_that_is_not_asked_says_nothing() -> None:
    reader = reader_of("qwen3", "words")
    scores = Scorer(reader, BUDGET).score([Triple(*item, one) for item, one in zip(ITEMS, ANSWERS, strict=True)])
    assert any(score.exact for score in scores) and not any(score.said for score in scores)


def test_answers_that_are_known_are_text_as_generated() -> None:
    reader = reader_of("llama", "words")
    assert generate_answers(reader, ITEMS[:1], BUDGET, known=[[]]) == [Answer("", False)]
