"""Stage judge: every distinct answer of every run and control gets one verdict.

Reads the evaluated split of data/prepared and data/predictions/{runs,controls}/*.parquet, writes
data/judgements.parquet. First it sweeps data/predictions/runs of files whose run params.yaml no longer
declares: DVC leaves them there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from bitter_retrieval.judges import VERDICTS, Case, Judge, judgements, make_judge
from bitter_retrieval.params import load_params
from bitter_retrieval.records import (
    JUDGEMENTS,
    PREDICTIONS,
    PREPARED,
    RecordError,
    Row,
    read_rows,
    read_table,
    sweep,
    write_rows,
)
from bitter_retrieval.stage import run_stage

PREPARED_FOLDER = Path("data/prepared")
RUNS = Path("data/predictions/runs")
CONTROLS = Path("data/predictions/controls")
JUDGED = Path("data/judgements.parquet")
CONTROL_NAMES = ("no_passage", "random", "annotated", "oracle", "bm25", "untrained")

console = Console(highlight=False)


def main() -> None:
    params = load_params()
    for swept in sweep(RUNS, params.runs):
        console.print(f"Removed {swept}: params.yaml declares no such run.")
    asked = PREPARED_FOLDER / f"{params.evaluate.split}.parquet"
    questions = {row["query_id"]: row for row in read_rows(asked, PREPARED)}
    files = [RUNS / f"{run}.parquet" for run in params.runs] + [CONTROLS / f"{name}.parquet" for name in CONTROL_NAMES]
    judge = make_judge(params.judge)
    rows = judgements(judge, (case for file in files for case in cases(file, questions, asked)))
    write_rows(JUDGED, rows, JUDGEMENTS)
    report(judge, rows)


def cases(file: Path, questions: Mapping[str, Row], asked: Path) -> Iterator[Case]:
    """The distinct answers in a prediction file, with the question and references of prepared rows by query_id."""
    given = read_table(file, PREDICTIONS).select(["query_id", "answer"])
    for query_id, answer in dict.fromkeys(zip(*(column.to_pylist() for column in given.columns), strict=True)):
        if query_id not in questions:
            raise RecordError(f"{file}: query_id {query_id!r} is not in {asked}. Delete the file and run `dvc repro`.")
        if answer is None:
            raise RecordError(f"{file}: query_id {query_id!r} has no answer. Delete the file and run `dvc repro`.")
        yield Case(questions[query_id]["query"], tuple(questions[query_id]["answers"]), answer)


def report(judge: Judge, rows: list[Row]) -> None:
    counts = Counter(row["verdict"] for row in rows)
    said = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS)
    console.print(f"Judge {judge.name}: {judge.about}.\n{len(rows):,} distinct answers: {said}.", soft_wrap=True)


if __name__ == "__main__":
    run_stage(main)
