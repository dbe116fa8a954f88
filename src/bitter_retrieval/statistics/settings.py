"""Section `compare`: which differences are tested, and how."""

from dataclasses import dataclass
from typing import Annotated

from bitter_retrieval.parameter_types import Name, Positive, Seed
from bitter_retrieval.typed_yaml import Rule

Contrast = Annotated[
    list[str], Rule(lambda runs: len(set(runs)) == len(runs) == 2, "a run and another as its baseline")
]


@dataclass(frozen=True)
class Compare:
    """Names of runs, label sources and a reader; draws of the bootstrap."""

    baseline: str
    primary: str  # the run whose difference to the baseline is the primary figure, which stands alone
    label_source: str  # soft labels for disagreement, oracle and regret
    human_source: str  # labels that retrieval is measured against
    reader: str  # of the primary figure
    draws: Annotated[int, Rule(lambda number: number >= 20, "at least 20")]
    seed: Seed
    equivalence: Positive  # half-width of the region called equivalent, as a share of questions
    contrasts: dict[Name, Contrast] | None = None  # further differences by name: a run and its own baseline
