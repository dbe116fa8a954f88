"""Section `data` (and `beyond`): where questions come from. One class a kind of source."""

from dataclasses import dataclass, field
from typing import Literal

from bitter_retrieval.files.settings import Hub
from bitter_retrieval.parameter_types import Count, CountOrZero, Seed, Share


@dataclass(frozen=True)
class WorldSizes:
    """The generated world in clusters (8 questions each) by split, and its two dials."""

    reader_clusters: Count
    train_clusters: Count
    validation_clusters: Count
    test_clusters: Count
    distractor_clusters: CountOrZero  # passages of the corpus that no question asks about
    hard_only: Share  # of the questions: those whose only support is in other words
    misleading_mentions: Share  # of the passages


@dataclass(frozen=True)
class Articles:
    """Shares of the articles, or groups, that each split gets; the sum is at most 1."""

    reader: Share
    train: Share
    validation: Share
    test: Share


@dataclass(frozen=True)
class Limits:
    """The most questions that a split gets; None is all."""

    reader: CountOrZero = 0  # taken from train
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Data:
    """What all sources have. `world` and `articles` may stand where another source is chosen, so that one parameter
    switches between sources."""

    path: str  # folder or file of what you bring
    seed: Seed  # of the world, or of the division into splits
    candidates: Count  # passages that come with a question
    world: WorldSizes | None = None
    articles: Articles | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratedData(Data):
    """The generated world."""

    source: Literal["synthetic"]
    world: WorldSizes = field()


@dataclass(frozen=True, kw_only=True)
class SquadData(Data):
    """SQuAD's layout: candidates are other paragraphs of the same article."""

    source: Literal["squad"]
    articles: Articles = field()
    hub: Hub | None = None  # read in place of path
    num_titles: Count | None = None  # None: all
    questions_per_title: Count | None = None


@dataclass(frozen=True, kw_only=True)
class QuestionData(Data):
    """Questions that bring their candidates along: MS MARCO's layout, or your own."""

    source: Literal["msmarco", "jsonl"]
    hub: Hub | None = None  # read in place of path
    limits: Limits | None = None


AnyData = GeneratedData | SquadData | QuestionData
