"""What is measured of a system: one row a metric, over which outcomes, report, tables, page and cards iterate.

    METRICS["ndcg_10"]    Metric(name="ndcg_10", head="nDCG@10", family="ranking", measure="nDCG@10", …)

A further ranking metric is a further row with the name that ir-measures gives it. Any other metric also needs the lines
that compute it, in outcomes.py or utility.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bitter_retrieval.records import PREDICTIONS

Family = Literal["answer", "passage", "ranking", "utility"]


@dataclass(frozen=True)
class Unit:
    """How figures are written: a score times `scale`, with so many digits."""

    name: str
    scale: float
    digits: int


PERCENT, NATS = Unit("%", 100, 1), Unit("nats a token", 1, 2)


@dataclass(frozen=True)
class Metric:
    """A metric of a system with one reader: a score for each seed and question."""

    name: str  # in report.json; a column of records.PREDICTIONS of that name holds the score
    head: str  # what it is called, also above a column
    meaning: str
    family: Family  # of the answer, of the passage that comes first, of the ranking, of what showing passages is worth
    unit: Unit = PERCENT
    lower_is_better: bool = False
    short: str = ""  # above a narrow column; "": the head
    measure: str = ""  # a ranking metric's name in ir-measures
    compared: bool = False  # whether runs are tested against the baseline
    beyond: bool = False  # whether it is told, and tested, in another domain
    published: bool = False  # whether a model card's metadata have it
    absent: str = "-"  # what is written where a system has no score

    @property
    def column(self) -> str:
        """Above a narrow column."""
        return self.short or self.head

    @property
    def title(self) -> str:
        """With the unit, unless that is %."""
        return self.head if self.unit is PERCENT else f"{self.head}, {self.unit.name}"

    @property
    def definition(self) -> str:
        """The meaning with unit and direction."""
        return f"{self.meaning} ({self.unit.name}{'; lower is better' if self.lower_is_better else ''})"

    @property
    def of_shown(self) -> bool:
        """Whether it depends on how many passages the reader sees; the others are of the ranking alone."""
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
        "loss of the best reference given what was shown",
        "answer",
        NATS,
        lower_is_better=True,
        short="NLL",
    ),
    Metric(
        "regret",
        "Regret",
        "answer NLL given what was shown less the lowest of the question's candidates, by the answering reader's own "
        "losses; below 0 where what was shown is better than each candidate alone",
        "utility",
        NATS,
        lower_is_better=True,
        short="regret",
    ),
    Metric(
        "regret_labeller",
        "Regret of the labeller",
        "regret by the losses of the reader that gave the labels, of what was shown to the one that answers",
        "utility",
        NATS,
        lower_is_better=True,
        short="labeller's",
    ),
    Metric(
        "harm",
        "Harm",
        "share of questions that the reader answers wrongly from what it was shown and rightly without a passage "
        "(exact match)",
        "utility",
        lower_is_better=True,
        short="harm",
    ),
    Metric(
        "empty",
        "Empty passage",
        "share of questions for which the empty passage is among those retrieved and shown; only where the corpus "
        "holds it",
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
        "share of questions whose top-ranked (or shown) passage truly supports the answer; known in the generated "
        "world alone",
        "passage",
        short="success",
        compared=True,
    ),
    Metric(
        "ndcg_10",
        "nDCG@10",
        "against the annotators' labels; 100 has every selected passage above all others",
        "ranking",
        measure="nDCG@10",
        published=True,
    ),
    Metric(
        "mrr_10",
        "MRR@10",
        "one over the rank of the first selected passage, 0 beyond the tenth",
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
PREDICTED = [name for name in METRICS if name in PREDICTIONS.names]  # whose scores the predictions hold


def of_family(*families: Family) -> list[Metric]:
    """Rows family by family, in the order of METRICS."""
    return [row for family in families for row in METRICS.values() if row.family == family]
