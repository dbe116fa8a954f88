"""Parameters that `readers` and `encoders` share: where a model's weights are, or how a small one is fitted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from bitter_retrieval.parameter_types import Count, Positive, Seed
from bitter_retrieval.typed_yaml import Rule

FIT = "fit"  # model: fitted here
Model = Annotated[str, Rule(lambda text: text.strip() != "", "fit, a path, pkg://package/folder or a hub id")]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Size and fit of a small model that the pipeline makes."""

    vocabulary: Count  # of the tokenizer, at most
    layers: Count
    width: Count  # a multiple of heads
    heads: Count
    steps: Count
    batch: Count
    learning_rate: Positive
    seed: Seed


def is_hub_id(model: str) -> bool:
    """Whether `model` is fetched from a hub: neither fit, nor pkg://…, nor there, nor an explicit path."""
    return model != FIT and not model.startswith(("pkg://", "/", "./", "../")) and not Path(model).exists()
