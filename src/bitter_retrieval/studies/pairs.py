"""A run in several revisions, question by question: paired intervals of the differences, from stored predictions.

    answers = [stored_answers(one, "infonce_a", "em", folder) for one in revisions]
    found = paired(answers[0], answers[1:])
    found["more"].difference        Difference(mean=0.012, low=0.001, high=0.023, …): "more" minus the first
    found["more"].notes             ["3 questions of more are not in main: left out"]

Predictions, judgements and labels of a revision are read from DVC's cache, or from its remote. Questions are paired by
query_id, and must be the same there; seeds by number. Differences that are asked for together hold together, with the
draws, the seed and the margin of equivalence of the first revision.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bitter_retrieval.judging.judges import judgement_key, make_judge
from bitter_retrieval.params import parse_params
from bitter_retrieval.records import BINARY_LABELS, JUDGEMENTS, PREPARED, RecordError, Row, read_rows
from bitter_retrieval.statistics.metrics import METRICS
from bitter_retrieval.statistics.outcomes import NEEDED, JudgedAnswers, evaluated_questions, outcomes
from bitter_retrieval.statistics.statistics import Design, Difference
from bitter_retrieval.statistics.utility import Known
from bitter_retrieval.studies.experiments import ExperimentError
from bitter_retrieval.studies.revisions import WORKSPACE, Revision, changes

COMPARED = [row.name for row in METRICS.values() if row.compared]
CORPUS = "data/prepared/corpus.parquet"
ASKED = ("query", "answers", "group_id")  # of a question that is the same in two revisions
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Scores of one run of a revision on the questions of its split."""

    revision: Revision
    seeds: Sequence[int]
    questions: Sequence[Row]  # prepared
    scores: Scores  # [seeds, questions]; NaN: not measured
    others: Mapping[str, str | None]  # what else decides the scores: hashes by path, the judge


@dataclass(frozen=True)
class Pair:
    difference: Difference
    questions: int  # in both
    notes: Sequence[str]  # what is left out, and what else differs


def stored_answers(revision: Revision, run: str, metric: str, folder: Path) -> Answers:
    """Scores of a run with the primary reader. folder: where files of a commit are put.

    Raises ExperimentError if the revision has no such run, or its files are nowhere.
    """
    about = revision.figures["about"]
    runs = [name for name, system in revision.figures["systems"].items() if system["kind"] == "run"]
    if run not in runs:
        raise ExperimentError(
            f"{revision.name}: has no run {run!r}; it has {', '.join(runs)}. --run names another one."
        )
    stored = Stored(revision, folder)
    rows = stored.rows(f"data/prepared/{about['split']}.parquet", PREPARED)
    human = f"data/labels/{about['human_source']}/{about['split']}.parquet"
    labelled = metric == "retrieval"
    labels = stored.rows(human, BINARY_LABELS) if labelled else []
    verdicts, judge = _verdicts(stored) if metric == "accuracy" else (JudgedAnswers({}, lambda *_: ""), None)
    predicted = [
        row
        for row in stored.rows(f"data/predictions/runs/{run}.parquet", NEEDED)
        if row["reader"] == about["reader"] and row["shown"] == about["shown"][0] and not row["beyond"]
    ]
    found = outcomes(f"{run} of {revision.name}", predicted, evaluated_questions(rows, labels, Known()), verdicts)
    if about["reader"] not in found:
        raise ExperimentError(f"{revision.name}: {run} has no answers of {about['reader']}. Run `dvc repro` there.")
    ours = found[about["reader"]]
    others = {path: stored.hash(path) for path in (CORPUS, *[human] * labelled)}
    return Answers(revision, ours.seeds, rows, ours.scores[metric], others | {"the judge": judge})


def _verdicts(stored: "Stored") -> tuple[JudgedAnswers, str]:
    """Judgements of the revision's judge, and which judge that is."""
    judge = make_judge(parse_params(dict(stored.revision.params), f"params.yaml of {stored.revision.name}").judge)
    rows = stored.rows("data/judgements.parquet", JUDGEMENTS)
    found = {row["key"]: (row["verdict"], row["reason"]) for row in rows}

    def key(query: str, references: Sequence[str], answer: str) -> str:
        return judgement_key(query, references, answer, judge.name, judge.model)

    return JudgedAnswers(found, key), f"{judge.name} ({judge.model})"


class Stored:
    """Outputs of a revision's stages."""

    def __init__(self, revision: Revision, folder: Path) -> None:
        from dvc.api import DVCFileSystem  # slow to import

        self.revision, self._folder = revision, folder
        self._files = DVCFileSystem(".", rev=revision.rev)

    def rows(self, path: str, schema: pa.Schema) -> list[Row]:
        local = Path(path)
        if self.revision.rev is not None or not local.is_file():
            local = self._folder / (self.revision.rev or WORKSPACE) / path
            self._fetch(path, local)
        try:
            return read_rows(local, schema)
        except RecordError as error:
            raise ExperimentError(str(error).replace(str(local), f"{self.revision.name}: {path}")) from None

    def _fetch(self, path: str, local: Path) -> None:
        from dvc.exceptions import DvcException

        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._files.get_file(path, str(local))
        except (OSError, DvcException) as error:
            name = self.revision.name
            raise ExperimentError(
                f"{name}: {path} is neither in DVC's cache nor in the remote ({error}). `dvc exp pull <remote> {name}` "
                "fetches an experiment, `dvc pull` the commit that is checked out; otherwise run it again."
            ) from error

    def hash(self, path: str) -> str | None:
        """As in dvc.lock; None if the revision has no such file."""
        try:
            return self._files.info(path)["dvc_info"]["md5"]
        except (OSError, KeyError):
            return None


# -- pairing ---------------------------------------------------------------------------------------------------------


def paired(first: Answers, others: Sequence[Answers]) -> dict[str, Pair]:
    """Every other revision minus the first, by name. Raises ExperimentError if their questions are not the same."""
    about = first.revision.figures["about"]
    told = {other.revision.name: aligned(first, other) for other in others}
    groups = [row["group_id"] for row in first.questions]
    design = Design(groups, len(first.seeds), about["draws"], about["seed"])
    both = {name: (cells, first.scores) for name, (cells, _, _) in told.items()}
    differences = design.differences(both, about["equivalence"])
    return {name: Pair(differences[name], count, notes) for name, (_, count, notes) in told.items()}


def aligned(first: Answers, other: Answers) -> tuple[Scores, int, list[str]]:
    """The other's scores at the places of the first's, how many questions both have, and what is left out."""
    _check_setting(first.revision, other.revision)
    place = {row["query_id"]: number for number, row in enumerate(other.questions)}
    both = [(here, place[row["query_id"]]) for here, row in enumerate(first.questions) if row["query_id"] in place]
    if not both:
        raise ExperimentError(f"{_names(first, other)}: no question is in both{_data(first, other)}.")
    for here, there in both:
        _check_question(first, other, first.questions[here], other.questions[there])
    seeds, cells = _seeds(first, other), np.full(first.scores.shape, np.nan)
    columns = np.array(both).T
    for row, theirs in seeds:
        cells[row, columns[0]] = other.scores[theirs, columns[1]]
    unknown = int(np.isnan(cells - first.scores).sum()) - (cells.size - len(seeds) * len(both))
    return cells, len(both), list(_notes(first, other, both, seeds, unknown))


def _check_setting(first: Revision, other: Revision) -> None:
    here, there = _setting(first), _setting(other)
    for name in here:
        if here[name] != there[name]:
            said = f"{name} is {here[name]} in {first.name} and {there[name]} in {other.name}"
            raise ExperimentError(
                f"{said}: they answer other questions, or otherwise. Compare revisions with the same."
            )


def _setting(revision: Revision) -> dict[str, Any]:
    """What answers that can be paired have in common."""
    about = revision.figures["about"]
    return {"split": about["split"], "reader": about["reader"], "passages shown": about["shown"][0]}


def _check_question(first: Answers, other: Answers, here: Row, there: Row) -> None:
    for field in ASKED:
        if here[field] != there[field]:
            said = f"{here[field]!r} in {first.revision.name} and {there[field]!r} in {other.revision.name}"
            raise ExperimentError(
                f"{_names(first, other)}: {field} of question {here['query_id']!r} is {said}. These are other data, "
                f"whose answers cannot be paired{_data(first, other)}."
            )


def _names(first: Answers, other: Answers) -> str:
    return f"{first.revision.name} and {other.revision.name}"


def _data(first: Answers, other: Answers) -> str:
    """Parameters of the data that differ."""
    found = [change for change in changes(other.revision, first.revision) if re.match(r"[+−]?data\.|profile ", change)]
    return f" (differs: {', '.join(found)})" if found else ""


def _seeds(first: Answers, other: Answers) -> list[tuple[int, int]]:
    """Places of the seeds that are paired: those that both have, else as many others in their order."""
    common = [(here, other.seeds.index(seed)) for here, seed in enumerate(first.seeds) if seed in other.seeds]
    if common:
        return common
    if len(first.seeds) == len(other.seeds):
        return [(number, number) for number in range(len(first.seeds))]
    said = f"seeds {_listed(first.seeds)} and {_listed(other.seeds)}"
    raise ExperimentError(f"{_names(first, other)}: {said}, none in both and not as many. Give train.seeds as many.")


def _notes(
    first: Answers, other: Answers, both: Sequence[tuple[int, int]], seeds: Sequence[tuple[int, int]], unknown: int
) -> Iterator[str]:
    for one, counterpart in ((first, other), (other, first)):
        if lacking := len(one.questions) - len(both):
            yield f"{lacking} questions of {one.revision.name} are not in {counterpart.revision.name}: left out"
        if lacking := len(one.seeds) - len(seeds):
            yield f"{lacking} seeds of {one.revision.name} are not in {counterpart.revision.name}: left out"
    if not set(first.seeds) & set(other.seeds):
        yield f"seeds {_listed(first.seeds)} and {_listed(other.seeds)} are paired in this order"
    if unknown:
        yield f"{unknown} pairs (question and seed) lack a score in one of them: left out"
    if moved := sum(first.questions[here]["passages"] != other.questions[there]["passages"] for here, there in both):
        yield f"{moved} of the questions have other candidates"
    for path, known in first.others.items():
        if other.others.get(path) != known:
            yield f"{path} differs"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
