"""Outcomes of a system on every evaluated question, as arrays [seeds, questions].

Rows of data/predictions/runs/kl.parquet such as

    {"system": "kl", "reader": "reader_a", "seed": 1, "shown": 1, "query_id": "test-3-1",
     "beyond": False, "ranked_ids": ["test-3-p0", …], "shown_ids": ["test-3-p0"], "answer": "Calder",
     "answer_nll": 0.02, "em": 1.0, "f1": 1.0, "truncated": 0}

become, for each entry of evaluate.shown and each reader, `Outcomes` with scores["em"][1, 17] == 1.0, 17 being the
question's place in the split. NaN means not measured (a missing judgement) or not applicable (retrieval accuracy of a
question without a human label).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from bitter_retrieval.records import NO_PASSAGE, PREDICTIONS, Row, relevant_passages, supporting_passages
from bitter_retrieval.statistics.metrics import METRICS, PREDICTED
from bitter_retrieval.statistics.ranking_metrics import ranking_metrics
from bitter_retrieval.statistics.utility import Known, Utility, utilities

COLUMNS = ("reader", "seed", "shown", "query_id", "beyond", "ranked_ids", "shown_ids", "answer", "truncated")
# The columns of a prediction file that compare reads:
NEEDED = pa.schema([PREDICTIONS.field(name) for name in (*COLUMNS, *PREDICTED)])


class ComparisonError(ValueError):
    """Records that cannot be compared, with the file, the fault and the command to run."""


@dataclass(frozen=True)
class EvaluatedQuestions:
    """The evaluated split in the order of its file, with labels and roles of each question's candidates."""

    rows: Sequence[Row]  # prepared rows
    index: Mapping[str, int]  # place of a query_id
    relevant: Sequence[frozenset[str]]  # passage_ids that the annotators selected; empty: no human label
    supporting: Sequence[frozenset[str] | None]  # passage_ids that truly support the answer; None: unknown
    known: Known

    @property
    def groups(self) -> list[str]:
        return [row["group_id"] for row in self.rows]

    @property
    def without_label(self) -> int:
        return sum(not selected for selected in self.relevant)


def evaluated_questions(rows: Sequence[Row], human: Iterable[Row], known: Known) -> EvaluatedQuestions:
    """Join prepared rows with binary label rows (query_id, passage_id, relevant)."""
    selected = relevant_passages(human)
    return EvaluatedQuestions(
        rows=rows,
        index={row["query_id"]: place for place, row in enumerate(rows)},
        relevant=[selected.get(row["query_id"], frozenset()) for row in rows],
        supporting=[supporting_passages(row) for row in rows],
        known=known,
    )


@dataclass
class JudgedAnswers:
    """Judgements by content key. Looks up answers and counts those without a verdict, by reason."""

    verdicts: Mapping[str, tuple[str, str | None]]  # key: verdict, reason
    key: Callable[[str, Sequence[str], str], str]  # (query, references, answer) to key
    asked: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def score(self, row: Row, answer: str) -> float:
        """1 for a correct answer to the prepared row's question, 0 for an incorrect one, NaN for no verdict."""
        absent = ("missing", "not in the judgements file")
        verdict, reason = self.verdicts.get(self.key(row["query"], row["answers"], answer), absent)
        self.asked += 1
        if verdict == "missing":
            self.reasons[reason or "no reason given"] += 1
        return {"correct": 1.0, "incorrect": 0.0}.get(verdict, np.nan)


@dataclass(frozen=True)
class Outcomes:
    """One system read by one reader. Arrays are [seeds, questions]; texts are None where there is no prediction."""

    seeds: tuple[int, ...]
    scores: Mapping[str, np.ndarray]  # by name in metrics.METRICS
    answers: np.ndarray  # of str
    top: np.ndarray  # of str: the passage ranked first, or shown first if there is no ranking
    shown: np.ndarray  # of tuples: the passages that the reader saw, in order
    truncated: int  # passages that were cut to fit, over all predictions


def by_seed(found: Mapping[str, Outcomes], split: str) -> dict[int, dict[str, float]]:
    """Means by seed and name, as in test/reader_a/em, of outcomes by reader. What was not measured has none."""
    means: dict[int, dict[str, float]] = {}
    for reader, one in found.items():
        for metric, scores in one.scores.items():
            for seed, values in zip(one.seeds, scores, strict=True):
                if not np.isnan(values).all():
                    means.setdefault(seed, {})[f"{split}/{reader}/{metric}"] = float(np.nanmean(values))
    return means


def readings(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """A system's prediction rows by entry of evaluate.shown."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["shown"], []).append(row)
    return found


def outcomes(
    system: str, rows: Iterable[Row], asked: EvaluatedQuestions, verdicts: JudgedAnswers
) -> dict[str, Outcomes]:
    """Outcomes by reader, from prediction rows of one entry of evaluate.shown.

    Raises ComparisonError for a question that is not in the evaluated split, or that a seed answers twice.
    """
    by_reader: dict[str, list[Row]] = {}
    for row in rows:
        by_reader.setdefault(row["reader"], []).append(row)
    utility = utilities(by_reader, asked.rows, asked.known)
    return {
        reader: _one_reader(f"{system} × {reader}", found, asked, verdicts, utility[reader])
        for reader, found in by_reader.items()
    }


def _one_reader(
    name: str, rows: Sequence[Row], asked: EvaluatedQuestions, verdicts: JudgedAnswers, utility: Utility
) -> Outcomes:
    seeds = tuple(sorted({row["seed"] for row in rows}))
    shape = (len(seeds), len(asked.rows))
    scores = {metric: np.full(shape, np.nan) for metric in METRICS}
    answers, top, shown = (np.full(shape, None, dtype=object) for _ in range(3))
    for row in rows:
        at = seeds.index(row["seed"]), _place(name, row, asked)
        if answers[at] is not None:
            raise ComparisonError(
                f"predictions of {name}: query {row['query_id']!r} occurs twice for seed {row['seed']}. "
                "Delete the file and run `dvc repro`."
            )
        answers[at], top[at], shown[at] = row["answer"], _top(row), tuple(row["shown_ids"])
        found = _scores(row, top[at], at[1], asked, verdicts) | utility.scores(row)
        for metric, value in found.items():
            scores[metric][at] = value
    for number, seed in enumerate(seeds):
        for query_id, found in _ranked([row for row in rows if row["seed"] == seed], asked).items():
            for metric, value in found.items():
                scores[metric][number, asked.index[query_id]] = value
    return Outcomes(seeds, scores, answers, top, shown, sum(row["truncated"] for row in rows))


def _ranked(rows: Iterable[Row], asked: EvaluatedQuestions) -> dict[str, dict[str, float]]:
    """Ranking metrics by query_id, for questions with a ranking and a human label."""
    rankings = {row["query_id"]: row["ranked_ids"] for row in rows if row["ranked_ids"]}
    relevant = {query_id: asked.relevant[asked.index[query_id]] for query_id in rankings}
    return ranking_metrics(rankings, relevant)


def _place(name: str, row: Row, asked: EvaluatedQuestions) -> int:
    if row["query_id"] not in asked.index:
        raise ComparisonError(
            f"predictions of {name}: query {row['query_id']!r} is not in the evaluated split of data/prepared. "
            "They belong to other data: run `dvc repro`."
        )
    return asked.index[row["query_id"]]


def _top(row: Row) -> str | None:
    ranked = row["ranked_ids"] or row["shown_ids"]
    return ranked[0] if ranked else None


def _scores(
    row: Row, top: str | None, place: int, asked: EvaluatedQuestions, verdicts: JudgedAnswers
) -> dict[str, float]:
    could_be_empty = asked.known.empty_passage and row["ranked_ids"]
    return {name: _number(row[name]) for name in PREDICTED} | {
        "accuracy": verdicts.score(asked.rows[place], row["answer"]),
        "retrieval": _hit(top, asked.relevant[place] or None),
        "success": _hit(top, asked.supporting[place]),
        "empty": _hit(NO_PASSAGE, frozenset(row["shown_ids"]) if could_be_empty else None),
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _hit(passage: str | None, wanted: frozenset[str] | None) -> float:
    """1 if the passage is among the wanted ones, else 0; NaN if either is unknown."""
    return np.nan if passage is None or wanted is None else float(passage in wanted)
