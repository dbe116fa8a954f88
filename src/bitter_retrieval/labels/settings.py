"""Sections `labels`, `derived_labels`, `mixed_labels` and `label`: label sources by name, and how readers label."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bitter_retrieval.files.settings import Hub
from bitter_retrieval.parameter_types import Count, NotNegative, Positive, PromptText, Seed, Share

UTILITY_PROMPT = (
    "Passage: {passage}\nQuestion: {query}\nDoes the passage help to answer the question? Say YES or NO.\nAnswer:"
)
TRAIN = "data/prepared/train.parquet"  # `needs` of label sources that read only the prepared splits


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Fields of all kinds."""

    soft: ClassVar[bool] = False  # answer losses, else relevant or not
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
    """Passages that the data's annotators selected, or that contain the answer as words."""

    kind: Literal["selected", "has_answer"]


@dataclass(frozen=True, kw_only=True)
class TruthLabels(LabelSource):
    """Passages that truly support the answer, in the generated world."""

    kind: Literal["truth"]
    supports: Literal["all", "one"] = "all"  # one: a question's others count as not relevant
    seed: Seed = 0  # draw of the one


@dataclass(frozen=True, kw_only=True)
class ReaderLabels(LabelSource):
    """Answer losses of the reader in `needs`."""

    soft: ClassVar[bool] = True
    kind: Literal["reader"]


@dataclass(frozen=True, kw_only=True)
class UtilityLabels(LabelSource):
    """How likely the reader in `needs` says YES, not NO, that a passage helps: no answer is needed."""

    soft: ClassVar[bool] = True
    kind: Literal["utility"]
    prompt: PromptText | None = None  # None: UTILITY_PROMPT


@dataclass(frozen=True, kw_only=True)
class PublishedLabels(LabelSource):
    """Published answer losses."""

    soft: ClassVar[bool] = True
    kind: Literal["published"]
    hub: Hub | None = None  # read instead of needs
    reader: str | None = None  # whose losses these are, if it is one of `readers`


@dataclass(frozen=True, kw_only=True)
class AlteredLabels(LabelSource):
    """Another soft source, altered."""

    soft: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class PermutedLabels(AlteredLabels):
    """Shuffled within each question: a negative control that teaches wrong preferences."""

    kind: Literal["permuted"]
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class FlatLabels(AlteredLabels):
    """The same loss for all of a question's candidates: a negative control that teaches no preference."""

    kind: Literal["flat"]


@dataclass(frozen=True, kw_only=True)
class NoisyLabels(AlteredLabels):
    """With an error in every passage's loss: a labeller that errs."""

    kind: Literal["noisy"]
    noise: NotNegative  # standard deviation, nats a token
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class CorruptedLabels(LabelSource):
    """Another binary source, wrong for a share of the questions: annotators who err, on any data."""

    kind: Literal["corrupted"]
    share: Share  # of the questions
    towards: Literal["random", "overlap"]  # the wrong passage: any, or the one that shares most words with the question
    seed: Seed


AnyLabels = (
    Annotators
    | RuleLabels
    | TruthLabels
    | ReaderLabels
    | UtilityLabels
    | PublishedLabels
    | PermutedLabels
    | FlatLabels
    | NoisyLabels
    | CorruptedLabels
)


@dataclass(frozen=True)
class RerankerFit:
    """How each of the two cross-encoders learns from a soft source."""

    steps: Count
    batch: Count  # questions
    learning_rate: Positive
    temperature: Positive  # of the answer losses, nats a token
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class DerivedSource(LabelSource):
    """A label source that uses an encoder: models/encoders/<name> or models/runs/<run>."""

    encoder: str


@dataclass(frozen=True, kw_only=True)
class MinedNegatives(DerivedSource):
    """Another source's labels, and hard negatives that an encoder finds; as soft as that source."""

    kind: Literal["mined"]
    per_query: Count  # hard negatives of a question, at most
    depth: Count  # passages of the encoder's ranking to choose from, at least per_query
    below: Share  # of the positive's similarity: nearer passages may be unlabelled positives


@dataclass(frozen=True, kw_only=True)
class OnPolicyLabels(DerivedSource):
    """A reader's labels of the candidates and of the passages that an encoder ranks first."""

    soft: ClassVar[bool] = True
    kind: Literal["on_policy"]
    per_query: Count  # passages retrieved for a question


@dataclass(frozen=True, kw_only=True)
class RerankerLabels(DerivedSource):
    """Labels of cross-encoders that have learnt from a soft source."""

    soft: ClassVar[bool] = True
    kind: Literal["reranker"]
    fit: RerankerFit


AnyDerivedLabels = MinedNegatives | OnPolicyLabels | RerankerLabels


@dataclass(frozen=True, kw_only=True)
class MixedSource(LabelSource):
    """A soft source in `needs` and people's labels as one."""

    soft: ClassVar[bool] = True
    human: str  # data/labels/<binary source>


@dataclass(frozen=True, kw_only=True)
class BothLabels(MixedSource):
    """Both labels of every question: a run's losses on binary labels learn from people's, the others from the soft."""

    kind: Literal["both"]


@dataclass(frozen=True, kw_only=True)
class SharedLabels(MixedSource):
    """People's labels for a share of the questions, soft ones for the rest."""

    kind: Literal["mixed"]
    share: Share  # of the questions, with people's labels
    seed: Seed  # draw of these questions


AnyMixedLabels = BothLabels | SharedLabels


@dataclass(frozen=True)
class Label:
    """How readers label."""

    batch_tokens: Count  # tokens in a batch, which bound its memory
    unscorable: Literal["error", "skip"]  # skip leaves the label empty, and counts it
