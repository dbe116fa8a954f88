"""Readers: frozen causal language models with their tokenizer, prompt and limits.

`models/readers/<name>/` holds a fitted checkpoint, or `source.json` that names where the weights are (checkpoints.py);
in both cases `reader.json` says how the reader is asked.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bitter_retrieval.checkpoints import fingerprint, resolve_checkpoint
from bitter_retrieval.journal import content_key
from bitter_retrieval.prompts import Prompt, answer_text

SETTINGS = "reader.json"


@dataclass(frozen=True)
class ReaderSettings:
    """How a reader is asked, and the precision that it runs in: fields of params.readers[name]."""

    prompt: str
    dtype: str  # of the weights
    max_length: int  # tokens of prompt and answer
    max_new_tokens: int


class ReaderError(ValueError):
    """A question or answer that a reader cannot take."""


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

    @property
    def pad(self) -> int:
        """Token that fills batches up; never looked at."""
        pad = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if pad is None else pad

    def encode(self, queries: Sequence[str], passages: Sequence[str], answers: Sequence[str] | None) -> list[Encoded]:
        """Prompt and answer of each item as one sequence; the passage alone is cut when it does not fit.

        With `answers` None, room is left for max_new_tokens. Raises ReaderError when the rest does not fit, when an
        answer has no tokens, or when the prompt's tokens are not a prefix of the whole.
        """
        room = self.max_length - (self.max_new_tokens if answers is None else 0)
        tails = [answer_text(answer) for answer in answers] if answers is not None else [""] * len(queries)
        prompts = self._ids([self._text(query, passage) for query, passage in zip(queries, passages, strict=True)])
        whole = self._ids(
            [self._text(query, passage) + tail for query, passage, tail in zip(queries, passages, tails, strict=True)]
        )
        encoded = []
        for place, ids in enumerate(whole):
            prompt_ids, truncated = prompts[place], len(ids) > room
            if truncated:
                ids, prompt_ids = self._cut(queries[place], passages[place], tails[place], room)
            if answers is not None:
                self._check(ids, prompt_ids, queries[place], answers[place])
            encoded.append(Encoded(ids, len(prompt_ids), truncated))
        return encoded

    def _text(self, query: str, passage: str) -> str:
        before, after = self.prompt.parts(query)
        return before + passage + after

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts).input_ids if texts else []

    def _cut(self, query: str, passage: str, tail: str, room: int) -> tuple[list[int], list[int]]:
        """Sequence and prompt with the passage's last tokens taken away until the sequence fits."""
        offsets = self.tokenizer(passage, return_offsets_mapping=True, add_special_tokens=False).offset_mapping
        keep = len(offsets)
        while True:
            text = self._text(query, passage)
            ids, prompt_ids = self._ids([text + tail, text])
            excess = len(ids) - room
            if excess <= 0:
                return ids, prompt_ids
            if keep == 0:
                raise ReaderError(
                    f"reader {self.name}: question {query!r} with answer {tail!r} alone needs {len(ids)} tokens, "
                    f"{room} are there. Raise readers.{self.name}.max_length."
                )
            keep = max(0, keep - excess)
            passage = passage[: offsets[keep - 1][1]] if keep else ""

    def _check(self, ids: list[int], prompt_ids: list[int], query: str, answer: str) -> None:
        if ids[: len(prompt_ids)] != prompt_ids:
            raise ReaderError(
                f"reader {self.name}: the tokens of the prompt of {query!r} are not a prefix of prompt + {answer!r}. "
                "End readers.*.prompt where a token ends (no trailing space)."
            )
        if len(ids) == len(prompt_ids):
            raise ReaderError(f"reader {self.name}: answer {answer!r} of {query!r} has no tokens.")


def save_settings(folder: Path, settings: ReaderSettings) -> None:
    """Write how the reader in `folder` is asked, so that whatever loads it depends on that folder alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json.dumps(asdict(settings), indent=2) + "\n")


def load_reader(folder: Path) -> Reader:
    """Load `models/readers/<name>/`. The model is frozen and in evaluation mode, on CUDA where there is one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, revision = resolve_checkpoint(folder)
    settings = ReaderSettings(**json.loads((folder / SETTINGS).read_text()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype=getattr(torch, settings.dtype))
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    identity = content_key(weights=fingerprint(path, revision), settings=asdict(settings), device=device)
    return Reader(
        folder.name,
        model.eval().requires_grad_(False).to(device),
        tokenizer,
        Prompt(settings.prompt),
        settings.max_length,
        settings.max_new_tokens,
        identity,
    )
