"""Section `data` (and `beyond`): where questions come from. One class a kind of source."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from bitter_retrieval.files.settings import Hub
from bitter_retrieval.parameter_types import Count, CountOrZero, Seed, Share
from bitter_retrieval.typed_yaml import Rule

TITLED = "{title}. {text}"
TITLED_RULE = Rule(lambda text: text.count("{text}") == 1 >= text.count("{title}"), "text with {text} once")
TitledText = Annotated[str, TITLED_RULE]


@dataclass(frozen=True)
class WorldSizes:
    """The generated world: clusters (8 questions, 14 passages) by split, and its dials."""

    reader_clusters: Count
    train_clusters: Count
    validation_clusters: Count
    test_clusters: Count
    distractor_clusters: CountOrZero  # clusters that only add passages to the corpus
    hard: Share  # of the statements: in hard wording
    second_support: Share  # of the facts: stated in a second passage
    known: Share  # of the facts: follow from a word of the name, so that fitted readers know them
    misleading_mentions: Share  # of the mentions: they name the true answer without supporting it
    train_draw: CountOrZero = 0  # which clusters are training questions: the first train_clusters, the next ones, …


@dataclass(frozen=True)
class Articles:
    """Shares of the articles, or groups of questions, that each split gets; their sum is at most 1."""

    reader: Share
    train: Share
    validation: Share
    test: Share


@dataclass(frozen=True)
class Limits:
    """The most questions of each split; None: all."""

    reader: CountOrZero = 0  # taken from train
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Data:
    """Fields of all sources. `world` and `articles` may be given for other sources too, so that changing `source` alone
    switches between them."""

    cannot_give: ClassVar[frozenset[str]] = frozenset({"truth", "annotators"})  # kinds of label source
    path: str  # folder or file of your data; the generated world does not read it
    seed: Seed  # of the world; of the draws of articles and questions and the order of ties
    candidates: Count  # passages that come with a question
    world: WorldSizes | None = None
    articles: Articles | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratedData(Data):
    """The generated world."""

    cannot_give: ClassVar[frozenset[str]] = frozenset({"selected", "published"})
    source: Literal["synthetic"]
    world: WorldSizes = field()


@dataclass(frozen=True, kw_only=True)
class SquadData(Data):
    """SQuAD's layout: a question's paragraph and others by BM25, those of its article first, are its candidates."""

    source: Literal["squad"]
    articles: Articles = field()
    hub: Hub | None = None  # read instead of path
    num_titles: Count | None = None  # articles drawn; None: all
    questions_per_title: Count | None = None  # questions drawn of each article; None: all


@dataclass(frozen=True, kw_only=True)
class QuestionData(Data):
    """Questions with candidates: MS MARCO's layout, or your own questions."""

    source: Literal["msmarco", "jsonl"]
    hub: Hub | None = None  # read instead of path
    limits: Limits | None = None
    passage: TitledText = TITLED  # how a passage that has a title is written
    unanswered: Literal["leave_out", "train"] = "leave_out"  # questions without an answer; train: training ones stay
    negatives: Literal["given", "bm25"] = "given"  # bm25: questions with fewer candidates get others by BM25


AnyData = GeneratedData | SquadData | QuestionData
