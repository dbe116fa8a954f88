"""Sections `evaluate` and `control`: the corpus, the passages that readers see, and systems without training."""

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
    corpus_size: Count | None  # passages searched, the questions' own first; None: all of corpus.parquet
    empty_passage: bool  # whether it is one more passage of the corpus
    top_k: Annotated[int, Rule(lambda number: number >= 10, TOP_K)]  # passages of a ranking that are recorded
    shown: Shown  # numbers of passages that a reader sees, the primary one first; it answers once for each
    batch_tokens: Count  # tokens in a reader's batch, which bound its memory


@dataclass(frozen=True)
class Control:
    """Systems without a trained retriever."""

    encoder: str  # its state before training is the control `untrained`
    human_source: str  # binary labels of the control `annotated`
    random_draws: Count  # of the control `random`: 1, or as many as train.seeds
    seed: Seed  # of these draws
