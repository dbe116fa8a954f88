"""Section `readers`: frozen language models, by name."""

from dataclasses import dataclass
from typing import Annotated, Literal

from bitter_retrieval.models.settings import Fit, Model
from bitter_retrieval.parameter_types import Attention, Count, Dtype, NotNegative, Positive, PromptText, Text
from bitter_retrieval.readers.prompts import Example
from bitter_retrieval.typed_yaml import Rule

Stops = Annotated[list[Text], Rule(lambda texts: len(texts) > 0, "texts, at least one")]


Examples = Annotated[list[Example], Rule(lambda examples: len(examples) > 0, "examples, at least one")]


def is_several(text: str) -> bool:
    return text.count("{passage}") == 1 >= text.count("{number}") and "{query}" not in text


SEVERAL = "text with {passage} once, and {number} at most once"


@dataclass(frozen=True, kw_only=True)
class ReaderFit(Fit):
    """A small causal language model, fitted on reader.parquet."""

    architecture: Literal["qwen3", "olmo2", "llama"]
    tokenizer: Literal["word", "bpe"]
    muon_learning_rate: Positive  # of matrices; learning_rate is that of the rest
    lm_weight: NotNegative  # of the other tokens' loss, added to the answer's
    held_out: Count  # groups of reader.parquet that measure the fit, at most a third
    passages: Count = 1  # most passages of an example's context


@dataclass(frozen=True)
class ReaderParams:
    """A reader: its weights and how it is asked."""

    model: Model
    revision: str | None  # commit of a hub id, 40 hex digits; else null
    prompt: PromptText
    dtype: Dtype
    max_length: Count  # tokens of prompt and answer; a longer context loses its tail
    max_new_tokens: Count
    fit: ReaderFit | None = None  # exactly when model is fit
    chat: bool = False  # the prompt is the user's message in the tokenizer's chat template
    answer_end: str = ""  # scored after every answer: nothing, <eos>, or this text
    stop: Stops | None = None  # texts that end a generated answer
    attention: Attention = "auto"
    examples: Examples | None = None  # worked ones before the question; not for a reader that is fitted here
    several: Annotated[str, Rule(is_several, SEVERAL)] | None = None  # how each of several passages is written
