"""Sections `evaluate` and `control`: what is searched, what readers are shown, what answers without training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from bitter_retrieval.parameter_types import Count, Seed
from bitter_retrieval.typed_yaml import Rule

TOP_K = "at least 10, which nDCG@10 and recall@10 look at"
Shown = Annotated[list[Count], Rule(lambda ks: 0 < len(ks) == len(set(ks)), "distinct numbers, at least one")]


@dataclass(frozen=True)
class Evaluate:
    """How runs and controls are evaluated."""

    split: Literal["test", "validation"]
    corpus_size: Count | None  # passages; None: all of corpus.parquet
    empty_passage: bool  # whether the corpus holds it
    top_k: Annotated[int, Rule(lambda number: number >= 10, TOP_K)]  # passages of a ranking that are kept
    shown: Shown  # passages that a reader sees; it answers once for each number
    batch_tokens: Count  # bound on a batch's memory


@dataclass(frozen=True)
class Control:
    """What answers without a trained retriever."""

    encoder: str  # the one called `untrained`
    human_source: str  # the labels of `annotated`
    random_draws: Count  # 1, or as many as train.seeds
    seed: Seed
