"""The metrics of a system, one row each. Outcomes, report, tables, page and cards iterate over them.

    METRICS["ndcg_10"]    Metric(name="ndcg_10", head="nDCG@10", family="ranking", measure="nDCG@10", …)

Another ranking metric needs only another row, with its name in ir-measures. Any other metric also needs code that
computes it, in outcomes.py or utility.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bitter_retrieval.records import PREDICTIONS
from bitter_retrieval.statistics.statistics import UNBOUNDED, Bounds

Family = Literal["answer", "passage", "ranking", "utility"]


@dataclass(frozen=True)
class Unit:
    """A figure is written as score times `scale`, with so many decimals."""

    name: str
    scale: float
    digits: int
    bounds: Bounds  # of a score


PERCENT, NATS = Unit("%", 100, 1, (0.0, 1.0)), Unit("nats a token", 1, 2, UNBOUNDED)


@dataclass(frozen=True)
class Metric:
    """A metric of a system with one reader: a score for each seed and question."""

    name: str  # in report.json; a column of records.PREDICTIONS of that name holds the score
    head: str  # its name for readers, also above a column
    meaning: str
    family: Family  # about the answer, the first passage, the ranking, or the use of the shown passages
    unit: Unit = PERCENT
    lower_is_better: bool = False
    short: str = ""  # for a narrow column; "": the head
    measure: str = ""  # a ranking metric's name in ir-measures
    compared: bool = False  # whether runs are tested against the baseline
    beyond: bool = False  # whether it is reported and tested on questions from another domain
    published: bool = False  # whether it is in the metadata of model cards
    absent: str = "-"  # written if a system has no score

    @property
    def column(self) -> str:
        """The head of a narrow column."""
        return self.short or self.head

    @property
    def title(self) -> str:
        """The head with the unit, unless that is %."""
        return self.head if self.unit is PERCENT else f"{self.head}, {self.unit.name}"

    @property
    def definition(self) -> str:
        """The meaning with unit and direction."""
        return f"{self.meaning} ({self.unit.name}{'; lower is better' if self.lower_is_better else ''})"

    @property
    def of_shown(self) -> bool:
        """Whether it depends on how many passages the reader sees; other metrics depend on the ranking alone."""
        return self.family in ("answer", "utility")


ROWS = (
    Metric(
        "em",
        "Exact match",
        "share of questions whose normalised answer equals a normalised reference",
        "answer",
        short="EM",
        compared=True,
        beyond=True,
        published=True,
    ),
    Metric(
        "f1",
        "F1",
        "overlap of the words of answer and reference (SQuAD's F1, best reference)",
        "answer",
        published=True,
    ),
    Metric(
        "accuracy",
        "Answer accuracy",
        "share of answers that the judge calls correct",
        "answer",
        short="accuracy",
        compared=True,
        published=True,
        absent="not judged",
    ),
    Metric(
        "answer_nll",
        "Answer NLL",
        "loss of the best reference given the passages shown",
        "answer",
        NATS,
        lower_is_better=True,
        short="NLL",
    ),
    Metric(
        "regret",
        "Regret",
        "answer NLL given the passages shown minus the lowest of the question's candidates, by the answering reader's "
        "own losses; below 0 if the passages shown are better than each candidate alone",
        "utility",
        NATS,
        lower_is_better=True,
        short="regret",
    ),
    Metric(
        "regret_labeller",
        "Regret of the labeller",
        "regret of the same passages by the losses of the reader that gave the labels",
        "utility",
        NATS,
        lower_is_better=True,
        short="labeller's",
    ),
    Metric(
        "harm",
        "Harm",
        "share of questions that the reader answers wrongly with the passages shown and correctly without any "
        "(exact match)",
        "utility",
        lower_is_better=True,
        short="harm",
    ),
    Metric(
        "empty",
        "Empty passage",
        "share of questions for which the empty passage is among those retrieved and shown; only if the corpus has it",
        "utility",
        short="empty",
    ),
    Metric(
        "retrieval",
        "Retrieval accuracy",
        "share of questions whose top-ranked (or shown) passage the annotators selected; questions without a human "
        "label are left out",
        "passage",
        short="retrieval",
        compared=True,
        beyond=True,
        published=True,
    ),
    Metric(
        "success",
        "True support",
        "share of questions whose top-ranked (or shown) passage truly supports the answer; known only in the generated "
        "world",
        "passage",
        short="success",
        compared=True,
    ),
    Metric(
        "ndcg_10",
        "nDCG@10",
        "against the annotators' labels; 100 if every selected passage is ranked above all others",
        "ranking",
        measure="nDCG@10",
        published=True,
    ),
    Metric(
        "mrr_10",
        "MRR@10",
        "1 / rank of the first selected passage, 0 beyond the tenth",
        "ranking",
        measure="RR@10",
    ),
    Metric(
        "recall_1",
        "recall@1",
        "share of a question's selected passages that are ranked first",
        "ranking",
        measure="R@1",
    ),
    Metric("recall_5", "recall@5", "the same among the first five", "ranking", measure="R@5"),
    Metric("recall_10", "recall@10", "the same among the first ten", "ranking", measure="R@10"),
)
METRICS: Mapping[str, Metric] = {row.name: row for row in ROWS}
PREDICTED = [name for name in METRICS if name in PREDICTIONS.names]  # their scores are columns of the predictions


def of_family(*families: Family) -> list[Metric]:
    """The metrics of these families, family by family, in the order of METRICS."""
    return [row for family in families for row in METRICS.values() if row.family == family]
