"""Readers: frozen causal language models with their tokenizer, prompt and limits.

`models/readers/<name>/` holds a fitted checkpoint, or a `source.json` that says where the weights are (checkpoints.py);
in both cases with a `reader.json` on how the reader is asked:

    {"prompt": "Question: {query}\nContext: {passage}\nAnswer:", "dtype": "bfloat16", "max_length": 1024, …}
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from bitter_retrieval.journal import content_key
from bitter_retrieval.models.attention import chosen
from bitter_retrieval.models.checkpoints import (
    CheckpointError,
    fingerprint,
    is_gguf,
    locate,
    read_stated,
    resolve_checkpoint,
)
from bitter_retrieval.models.pretrained import (
    WeightsError,
    load_model,
    load_tokenizer,
    positions,
    read_config,
    refuse_larger_tokenizer,
    usable_pad,
)
from bitter_retrieval.readers.chat import Turn, answer_turn, render, turns
from bitter_retrieval.readers.gguf import dequantised, find_gguf
from bitter_retrieval.readers.packing import HALF
from bitter_retrieval.readers.probes import can_pack, is_causal, pads_left, pads_right
from bitter_retrieval.readers.prompts import Context, Example, Prompt, answer_text, fair_shares
from bitter_retrieval.readers.special_tokens import beginning, special_ids, special_texts, token_places

SETTINGS = "reader.json"
END_TOKEN = "<eos>"


@dataclass(frozen=True)
class ReaderSettings:
    """How a reader is asked, and its precision: fields of params.readers[name]."""

    prompt: str
    dtype: str  # of the weights
    max_length: int  # tokens of prompt and answer
    max_new_tokens: int
    chat: bool = False  # put the prompt into the tokenizer's chat template, as the user's message
    answer_end: str = ""  # scored after every answer: "" nothing, <eos> the tokenizer's end token, else this text
    stop: Sequence[str] | None = None  # texts that end a generated answer, as a line break does
    attention: str | None = None  # flash, varlen or sdpa; None is auto, the fastest that there is
    examples: Sequence[Example] | None = None  # worked ones, shown before the question
    several: str | None = None  # how each of several passages is written

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", None if self.attention == "auto" else self.attention)

    @property
    def asked(self) -> Prompt:
        return Prompt(self.prompt, tuple(self.examples or ()), self.several or Prompt.several)

    def stated(self) -> dict[str, Any]:
        """The fields that are set, so that a new optional field leaves the identity of readers as it is."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class ReaderError(ValueError):
    """A question or answer that a reader cannot take."""


class BrokenReader(ReaderError):
    """A fault of the reader itself, for any question."""


def refuse(error: ReaderError) -> None:
    """Accept no error: what on_bad is by default."""
    raise error


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and answer in one sequence; ids[answer_start:] is the answer."""

    ids: list[int]
    answer_start: int
    truncated: int  # passages that were cut to fit


@dataclass
class Reader:
    """A language model that is ready to score and to answer."""

    name: str
    model: Any  # transformers' PreTrainedModel for causal language modelling
    tokenizer: Any
    prompt: Prompt
    max_length: int  # tokens of prompt and answer
    max_new_tokens: int
    identity: str  # what decides its outputs: weights, precision, prompt, limits, what its chat template writes
    chat: bool = False
    answer_end: str = ""
    stop: Sequence[str] = ()  # texts that end a generated answer
    attention: str = "auto"
    weights: Mapping[str, str] | None = None  # where they come from, if not from a checkpoint
    pads_right: bool = True  # sequences may share a padded batch to be scored (probes.py)
    pads_left: bool = True  # prompts may share one to be answered

    @property
    def pad(self) -> int:
        """Token that fills up batches; nothing looks at it."""
        return usable_pad(self.tokenizer, self.model)

    @cached_property
    def kernel(self) -> str:
        """Attention of its packs (attention.py)."""
        return chosen(self.attention, self.model.dtype in HALF) if self.model.device.type == "cuda" else "sdpa"

    @cached_property
    def packs(self) -> bool:
        """Whether sequences may share a row without padding (packing.py)."""
        return can_pack(self.model, self.kernel)

    @cached_property
    def _beginning(self) -> list[int]:
        return beginning(self.tokenizer)

    @cached_property
    def _special(self) -> re.Pattern[str]:
        return special_texts(self.tokenizer)

    @cached_property
    def _special_ids(self) -> set[int]:
        return special_ids(self.tokenizer)

    def encode(
        self, queries: Sequence[str], contexts: Sequence[Context], answers: Sequence[str] | None
    ) -> list[Encoded | ReaderError]:
        """Prompt and answer of each item as one sequence; only passages are cut if it does not fit, the longest first.

        With `answers` None, room is left for max_new_tokens. An item gives a ReaderError if the rest does not fit, its
        answer is empty or has no tokens, a text holds a special token, or the prompt's tokens are not a prefix of the
        whole. Raises BrokenReader.
        """
        if answers is None:
            room, tails = self.max_length - self.max_new_tokens, [""] * len(queries)
        else:
            room, tails = self.max_length - len(self._end), [self._tail(answer) for answer in answers]
        shown = [self.prompt.join(context) for context in contexts]
        texts = [self._text(query, passage) for query, passage in zip(queries, shown, strict=True)]
        prompts = self._ids(texts)
        wholes = self._ids([text + tail for text, tail in zip(texts, tails, strict=True)])
        encoded: list[Encoded | ReaderError] = []
        for place, (prompt, whole) in enumerate(zip(prompts, wholes, strict=True)):
            query, passage, truncated = queries[place], shown[place], 0
            try:
                if len(whole) > room:
                    prompt, whole, truncated = self._cut(query, contexts[place], tails[place], room)
                self._refuse_special(query, passage, answers[place] if answers else "", whole)
                if answers is not None:
                    self._check(prompt, whole, query, passage, answers[place])
                    whole = whole + self._end
                encoded.append(Encoded(whole, len(prompt), truncated))
            except BrokenReader:
                raise
            except ReaderError as error:
                encoded.append(error)
        return encoded

    def _text(self, query: str, passage: str) -> str:
        if not self.chat:
            return self.prompt.worked + self.prompt.ask(query, passage)
        if not self.tokenizer.chat_template:
            raise BrokenReader(f"reader {self.name}: no chat template. Set readers.{self.name}.chat to false.")
        try:
            return render(self.tokenizer, turns(self.prompt, query, passage)).rstrip(" ") + self._turn.lead
        except TemplateError as error:
            raise BrokenReader(
                f"reader {self.name}: its chat template refuses question {query!r} ({error}). Set "
                f"readers.{self.name}.chat to false."
            ) from error

    def _tail(self, answer: str) -> str:
        """The answer as it continues the prompt: after one space, or as the chat template writes it."""
        end = "" if self.answer_end == END_TOKEN else self.answer_end
        return (self._turn.space + answer.strip() if self.chat else answer_text(answer)) + end

    @cached_property
    def _turn(self) -> Turn:
        if not self.chat or not self.tokenizer.chat_template:
            return Turn("", "", "")
        return answer_turn(self.tokenizer, turns(self.prompt, "?", ""), self._special)

    @property
    def ends(self) -> list[str]:
        """Texts that end a generated answer: the stop texts, and what the chat template writes after an answer."""
        return [*self.stop, *filter(None, [self._turn.end])]

    @cached_property
    def _end(self) -> list[int]:
        if self.answer_end != END_TOKEN:
            with_end, without = self._ids(["a" + self.answer_end, "a"])
            if self.answer_end and with_end == without:
                raise BrokenReader(
                    f"reader {self.name}: its tokenizer drops answer_end {self.answer_end!r}. Set "
                    f"readers.{self.name}.answer_end to <eos> or to another text."
                )
            return []
        if self.tokenizer.eos_token_id is None:
            raise BrokenReader(f"reader {self.name}: no end token. Set readers.{self.name}.answer_end to a text.")
        return [self.tokenizer.eos_token_id]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """A chat template spells out its special tokens; in any other text, what looks like one is text."""
        if not texts:
            return []
        chat = self.chat
        ids = self.tokenizer(
            texts, add_special_tokens=False, split_special_tokens=not chat, return_attention_mask=False
        ).input_ids
        return [self._beginning + own for own in ids] if self._beginning and not chat else ids

    def _refuse_special(self, query: str, passage: str, answer: str, whole: list[int]) -> None:
        """Raise ReaderError for text that would end the prompt, or begin another speaker's turn."""
        if self.chat:
            found = self._special.search("\0".join([query, passage, answer])) is not None
        else:  # some vocabularies hold special tokens as pieces of text too
            found = not self._special_ids.isdisjoint(whole[len(self._beginning) :])
        if found:
            raise ReaderError(
                f"reader {self.name}: question {query!r} with passage {passage[:80]!r} and answer {answer!r} holds "
                "text that its tokenizer takes for a special token. Leave the row out."
            )

    def _cut(self, query: str, context: Context, tail: str, room: int) -> tuple[list[int], list[int], int]:
        """Prompt and sequence, with passages cut by tokens from their ends until it fits, and the number of those cut.

        Several passages share what room there is (prompts.fair_shares).
        """
        passages = [context] if isinstance(context, str) else list(context) or [""]
        offsets = token_places(self.tokenizer, passages, split_special_tokens=not self.chat)
        lengths = [len(of_passage) for of_passage in offsets]
        keep = lengths
        while True:  # a cut text may have other tokens than the beginning of the whole one
            text = self._text(query, self.prompt.join(tuple(passages)))
            prompt, whole = self._ids([text, text + tail])
            excess = len(whole) - room
            if excess <= 0:
                return prompt, whole, sum(now < before for now, before in zip(keep, lengths, strict=True))
            if not any(keep):
                raise ReaderError(
                    f"reader {self.name}: question {query!r} with answer {tail!r} alone needs {len(whole)} tokens, "
                    f"{room} fit. Raise readers.{self.name}.max_length."
                )
            keep = fair_shares(lengths, max(0, sum(keep) - excess))
            passages = [
                passage[: places[count - 1][1]] if count else ""
                for passage, places, count in zip(passages, offsets, keep, strict=True)
            ]

    def _check(self, prompt: list[int], whole: list[int], query: str, passage: str, answer: str) -> None:
        asked = f"reader {self.name}: question {query!r} with passage {passage[:80]!r}: answer {answer!r}"
        if not answer.strip():
            raise ReaderError(f"{asked} is empty. Leave it out of the data.")
        if whole[: len(prompt)] != prompt:
            raise ReaderError(
                f"{asked}: the tokens of the prompt are not a prefix of prompt + answer. End "
                f"readers.{self.name}.prompt where a token ends (no trailing space)."
            )
        text_end = self.answer_end not in ("", END_TOKEN)  # else the end alone could be scored
        if len(whole) == len(prompt) or (text_end and not self._ids([answer.strip()])[0][len(self._beginning) :]):
            raise ReaderError(f"{asked} has no tokens in this reader's vocabulary. Leave it out of the data.")


def save_settings(folder: Path, settings: ReaderSettings, weights: Mapping[str, str] | None = None) -> None:
    """Write how the reader in `folder` is asked, so that loading it needs that folder alone.

    weights: where they come from, if not from a checkpoint (gguf.py).
    """
    folder.mkdir(parents=True, exist_ok=True)
    stated = settings.stated() | ({"weights": dict(weights)} if weights else {})
    (folder / SETTINGS).write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")


def read_settings(folder: Path) -> tuple[ReaderSettings, Mapping[str, str] | None]:
    """What save_settings wrote. Raises CheckpointError."""
    stated = read_stated(folder / SETTINGS)
    weights = stated.pop("weights", None)
    examples = stated.pop("examples", None)
    return ReaderSettings(**stated, examples=examples and [Example(**one) for one in examples]), weights


def load_reader(folder: Path, **changes: Any) -> Reader:
    """Load `models/readers/<name>/`; changes: of how it is asked, by field of ReaderSettings."""
    path, revision = resolve_checkpoint(folder)
    settings, weights = read_settings(folder)
    reader = open_reader(folder.name, path, revision, replace(settings, **changes))
    reader.weights = weights
    return reader


def open_reader(name: str, model: str, revision: str | None, settings: ReaderSettings) -> Reader:
    """Load a causal language model: frozen, in evaluation mode, on CUDA where there is one.

    model: path, pkg://package/folder or hub id, or a GGUF file (gguf.py). A hub id without a revision is identified by
    its current commit. Raises CheckpointError, with the remedy, if it is unavailable, does not fit, or is no such
    model; BrokenReader for a chat reader without a usable template.
    """
    from transformers import AutoModelForCausalLM

    path, dtype = locate(model), getattr(torch, settings.dtype)
    if is_gguf(model):
        path, revision = dequantised(find_gguf(model, revision)), None
    attention, kernel = settings.attention or "auto", chosen(settings.attention or "auto", dtype in HALF)
    config = read_config(path, revision)
    most = positions(config) or settings.max_length
    if most < settings.max_length:
        raise CheckpointError(
            f"model {model!r}: has {most} positions, max_length is {settings.max_length}. Lower it to {most}."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = load_tokenizer(path, config)
        loaded = load_model(AutoModelForCausalLM, path, config, dtype)
        if kernel == "flash" and (attention == "flash" or loaded._supports_flash_attn):
            loaded.set_attn_implementation("flash_attention_2")  # for padded batches; packs bring their own
    except CheckpointError:
        raise
    except Exception as error:  # a model or tokenizer may raise anything
        why = (str(error).strip() or repr(error)).splitlines()[0]
        raise CheckpointError(f"model {model!r}: no causal language model can be loaded from there ({why}).") from error
    reader = Reader(
        name,
        loaded.requires_grad_(False).to(device),
        tokenizer,
        settings.asked,
        settings.max_length,
        settings.max_new_tokens,
        "",
        settings.chat,
        settings.answer_end,
        settings.stop or (),
        attention,
    )
    weights = fingerprint(path, config._commit_hash)
    tried = _tried(reader, model)
    reader.identity = content_key(weights=weights, settings=settings.stated(), device=device, **tried)
    return reader


def _tried(reader: Reader, model: str) -> dict[str, Any]:
    """What a new reader shows when it is tried: part of its identity, where it is not what every reader does.

    Raises CheckpointError for what is no reader, BrokenReader for a chat reader without a usable template.
    """
    text, turn = reader._text("?", ""), reader._turn
    try:
        refuse_larger_tokenizer(reader.tokenizer, reader.model, reader._ids([text])[0])
    except WeightsError as error:
        raise CheckpointError(f"model {model!r}: {error}. Put the model's own tokenizer there.") from error
    if not is_causal(reader.model):
        raise CheckpointError(
            f"model {model!r}: a {type(reader.model).__name__} from there is no causal language model: its tokens see "
            "those after them. Name a decoder, such as the readers of profiles/presets.yaml."
        )
    reader.pads_right = reader.packs or pads_right(reader.model, reader.pad)
    reader.pads_left = pads_left(reader.model, reader.pad)
    tried: dict[str, Any] = {}
    if reader.chat:
        tried["rendered"] = text  # a template may write what no file says, such as the date of the day
    around = [turn.lead, turn.space, "" if turn.end == reader.tokenizer.eos_token else turn.end]
    if any(around):
        tried["turn"] = around
    alone = [name for name in ("pads_right", "pads_left") if not getattr(reader, name)]
    return {**tried, "alone": alone} if alone else tried
