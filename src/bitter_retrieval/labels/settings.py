"""Sections `labels`, `derived_labels` and `label`: label sources by name, one class a kind, and how readers label."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bitter_retrieval.files.settings import Hub
from bitter_retrieval.parameter_types import Count, Positive, Seed, Share

TRAIN = "data/prepared/train.parquet"  # what label sources need that need nothing else


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """What all kinds have."""

    soft: ClassVar[bool] = False  # answer losses; else relevant or not
    needs: str  # path that DVC waits for


@dataclass(frozen=True, kw_only=True)
class Annotators(LabelSource):
    """Modelled annotators of the generated world."""

    kind: Literal["annotators"]
    annotator: Literal["skim", "uniform"]
    noise: Share  # mean probability of an error
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class RuleLabels(LabelSource):
    """What the data's annotators selected, what truly supports the answer, or what contains it as text."""

    kind: Literal["selected", "truth", "has_answer"]


@dataclass(frozen=True, kw_only=True)
class ReaderLabels(LabelSource):
    """The answer losses of a reader, the one that it needs."""

    soft: ClassVar[bool] = True
    kind: Literal["reader"]


@dataclass(frozen=True, kw_only=True)
class PublishedLabels(LabelSource):
    """Answer losses that somebody has published."""

    soft: ClassVar[bool] = True
    kind: Literal["published"]
    hub: Hub | None = None  # read in place of needs
    reader: str | None = None  # the one whose losses these are, if it is in readers


@dataclass(frozen=True, kw_only=True)
class PermutedLabels(LabelSource):
    """Another source's labels, exchanged at random between a question's candidates: a negative control."""

    soft: ClassVar[bool] = True
    kind: Literal["permuted"]
    seed: Seed


AnyLabels = Annotators | RuleLabels | ReaderLabels | PublishedLabels | PermutedLabels


@dataclass(frozen=True)
class RerankerFit:
    """How a cross-encoder learns from a soft source."""

    steps: Count
    batch: Count
    learning_rate: Positive
    temperature: Positive
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class DerivedSource(LabelSource):
    """A label source in which an encoder takes part: models/encoders/<name> or models/runs/<run>."""

    encoder: str


@dataclass(frozen=True, kw_only=True)
class MinedNegatives(DerivedSource):
    """Another source's labels, and hard negatives that an encoder finds; as soft as what it needs."""

    kind: Literal["mined"]
    per_query: Count
    depth: Count  # places of the encoder's ranking that are looked at, at least per_query
    below: Share  # of the positive's similarity: what is nearer may be an unlabelled positive


@dataclass(frozen=True, kw_only=True)
class OnPolicyLabels(DerivedSource):
    """A reader's labels of the candidates and of what an encoder puts first."""

    soft: ClassVar[bool] = True
    kind: Literal["on_policy"]
    per_query: Count


@dataclass(frozen=True, kw_only=True)
class RerankerLabels(DerivedSource):
    """A cross-encoder's labels, which it has learnt from a soft source."""

    soft: ClassVar[bool] = True
    kind: Literal["reranker"]
    fit: RerankerFit


AnyDerivedLabels = MinedNegatives | OnPolicyLabels | RerankerLabels


@dataclass(frozen=True)
class Label:
    """How readers label."""

    batch_tokens: Count  # bound on a batch's memory
    unscorable: Literal["error", "skip"]  # skip leaves the label empty and counts it
    mlflow: bool  # log rates
