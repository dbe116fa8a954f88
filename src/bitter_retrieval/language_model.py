"""Readers: frozen causal language models with their tokenizer, prompt and limits.

`models/readers/<name>/` holds a fitted checkpoint, or `source.json` that names where the weights are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bitter_retrieval.checkpoints import fingerprint, resolve_checkpoint
from bitter_retrieval.prompts import Prompt, answer_text

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and answer in one sequence; ids[answer_start:] is the answer."""

    ids: list[int]
    answer_start: int
    truncated: bool


@dataclass
class Reader:
    """A language model that is ready to score and to answer."""

    name: str
    model: Any  # transformers' PreTrainedModel for causal language modelling
    tokenizer: Any
    prompt: Prompt
    max_length: int  # tokens of prompt and answer
    max_new_tokens: int
    identity: str  # what decides its outputs: weights, precision, prompt, limits

    def encode(self, query: str, passage: str, answer: str | None) -> Encoded:
        """Prompt and answer as one sequence; the passage alone is cut when it does not fit.

        With `answer` None, room is left for max_new_tokens. Raises ValueError when the rest does not fit, when the
        answer has no tokens, or when the prompt's tokens are not a prefix of the whole.
        """
        room = self.max_length - (self.max_new_tokens if answer is None else 0)
        tail = "" if answer is None else answer_text(answer)
        ids = self._ids(self._text(query, passage), tail)
        truncated = len(ids) > room
        if truncated:
            ids, passage = self._fit(query, passage, tail, room)
        start = len(self._ids(self._text(query, passage), ""))
        if answer is not None:
            self._check(ids, self._ids(self._text(query, passage), ""), query, answer)
        return Encoded(ids, start, truncated)

    def _text(self, query: str, passage: str) -> str:
        before, after = self.prompt.parts(query)
        return before + passage + after

    def _ids(self, text: str, tail: str) -> list[int]:
        return self.tokenizer(text + tail).input_ids

    def _fit(self, query: str, passage: str, tail: str, room: int) -> tuple[list[int], str]:
        """Cut the passage at the token, from its end, until the sequence fits."""
        offsets = self.tokenizer(passage, return_offsets_mapping=True, add_special_tokens=False).offset_mapping
        keep = len(offsets)
        excess = len(self._ids(self._text(query, passage), tail)) - room
        while excess > 0 and keep > 0:
            keep = max(0, keep - excess)
            passage = passage[: offsets[keep - 1][1]] if keep else ""
            ids = self._ids(self._text(query, passage), tail)
            excess = len(ids) - room
        if excess > 0:
            raise ValueError(
                f"reader {self.name}: question {query!r} and answer {tail!r} alone need {len(ids)} tokens, "
                f"{room} are allowed. Raise readers.{self.name}.max_length."
            )
        return ids, passage

    def _check(self, ids: list[int], prompt_ids: list[int], query: str, answer: str) -> None:
        if ids[: len(prompt_ids)] != prompt_ids:
            raise ValueError(
                f"reader {self.name}: the tokens of the prompt of {query!r} are not a prefix of prompt + {answer!r}. "
                "End the prompt where a token ends (no trailing space)."
            )
        if len(ids) == len(prompt_ids):
            raise ValueError(f"reader {self.name}: answer {answer!r} of {query!r} has no tokens.")


def load_reader(name: str, folder: Path, settings: Any) -> Reader:
    """Load `models/readers/<name>/`; `settings` is params.readers[name]. The model is frozen and in evaluation mode."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, revision = resolve_checkpoint(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype=DTYPES[settings.dtype])
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    identity = "|".join(
        [
            fingerprint(path, revision),
            settings.dtype,
            settings.prompt,
            str(settings.max_length),
            str(settings.max_new_tokens),
            device,
        ]
    )
    return Reader(
        name,
        model.eval().requires_grad_(False).to(device),
        tokenizer,
        Prompt(settings.prompt),
        settings.max_length,
        settings.max_new_tokens,
        identity,
    )
