"""Section `encoders`: bi-encoders as they are before training, by name."""

from dataclasses import dataclass
from typing import Literal

from bitter_retrieval.models.settings import Fit, Model
from bitter_retrieval.parameter_types import Count, Positive


@dataclass(frozen=True, kw_only=True)
class EncoderFit(Fit):
    """A small BERT and its unsupervised start."""

    feed_forward: Count  # inner size
    temperature: Positive  # of InfoNCE


@dataclass(frozen=True)
class EncoderParams:
    """An encoder: its weights and how it reads texts."""

    model: Model
    revision: str | None  # commit of a hub id, 40 hex digits; else null
    pooling: Literal["mean", "cls"]
    query_prefix: str
    passage_prefix: str
    max_length: Count  # tokens; a longer text loses its tail
    fit: EncoderFit | None = None  # exactly when model is fit
