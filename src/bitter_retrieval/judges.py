"""Judges: whether an answer says what a reference answer says.

    case     query "Where was Ada Brenn born?", references ("Calder",), answer "The Calder."
    verdict  correct

An answer that could not be judged is `missing`, with its reason, and never wrong. A judgement row is found by the key
of its content, so that the same answer, given by any run, reader or seed, is judged once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from bitter_retrieval import params
from bitter_retrieval.journal import content_key
from bitter_retrieval.records import Row
from bitter_retrieval.scoring import exact_match

VERDICTS = ("correct", "incorrect", "missing")


@dataclass(frozen=True)
class Case:
    """One answer to judge. The references are never empty."""

    query: str
    references: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Verdict:
    verdict: Literal["correct", "incorrect", "missing"]
    reason: str | None = None  # why it is missing


class Judge(Protocol):
    """Name and model go into every key: another model's verdict is another judgement."""

    name: str
    model: str
    about: str  # what it is, for whoever reads the results

    def verdicts(self, cases: Sequence[Case]) -> list[Verdict]:
        """One verdict a case, in their order."""


class RuleJudge:
    """Correct if the answer equals a reference after SQuAD's normalisation. Offline, free, and blind to paraphrase."""

    name = "rule"
    model = "exact_match"
    about = "a rule, normalised equality with any reference answer; not a language model"

    def verdicts(self, cases: Sequence[Case]) -> list[Verdict]:
        return [Verdict("correct" if exact_match(case.answer, case.references) else "incorrect") for case in cases]


JUDGES: Mapping[str, Callable[[params.Judge], Judge]] = {"rule": lambda settings: RuleJudge()}


def make_judge(settings: params.Judge) -> Judge:
    """The judge that params.judge.kind names."""
    return JUDGES[settings.kind](settings)


def judgement_key(query: str, references: Sequence[str], answer: str, judge: str, model: str) -> str:
    """Content key of a judgement: 32 hex digits."""
    return content_key(query=query, references=list(references), answer=answer, judge=judge, model=model)


def judgements(judge: Judge, cases: Iterable[Case]) -> list[Row]:
    """Rows of records.JUDGEMENTS, one for each distinct case, sorted by key."""
    by_key = {
        judgement_key(case.query, case.references, case.answer, judge.name, judge.model): case for case in set(cases)
    }
    keys = sorted(by_key)
    found = judge.verdicts([by_key[key] for key in keys])
    return [
        {"key": key, "verdict": said.verdict, "reason": said.reason, "judge": judge.name, "model": judge.model}
        for key, said in zip(keys, found, strict=True)
    ]
