"""Rankings and labels in TREC's formats: a run file a seed, and a file of relevance judgements.

    python src/trec.py kl --output trec/

    trec/kl-seed0.run     test-3-1 Q0 test-3-p7 1 0.815402091 kl-seed0       question, passage, rank, score
    trec/human.qrels      test-3-1 0 test-3-p7 1                             question, passage, relevant or not

for trec_eval, ir_measures and similar tools: `ir_measures trec/human.qrels trec/kl-seed0.run nDCG@10`. They order by
score and break ties by name. To keep our order, the later of tied passages gets the next smaller float32 as score.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bitter_retrieval.command_line import Parser, check_output, run_stage

# isort: split
import numpy as np
import pyarrow as pa

from bitter_retrieval.params import Params, load_params
from bitter_retrieval.records import (
    BINARY_LABELS,
    NO_PASSAGE,
    PREDICTIONS,
    RecordError,
    Row,
    read_rows,
    relevant_passages,
    write_text,
)
from bitter_retrieval.typed_yaml import ParamsError, one_of

LABELS, PREDICTED = Path("data/labels"), Path("data/predictions")
RANKED = pa.schema([PREDICTIONS.field(name) for name in ("seed", "query_id", "beyond", "ranked_ids", "ranked_scores")])
EMPTY = "no-passage"  # name of the empty passage, as names cannot be empty


def main(given: Sequence[str] | None = None) -> None:
    arguments = parse(given)
    params = load_params()
    binary = [name for name, labels in params.labels.items() if not labels.soft]
    source = one_of(arguments.labels or params.compare.human_source, binary, "params.yaml: labels")
    inputs = predictions(arguments.name, params), LABELS / source / f"{params.evaluate.split}.parquet"
    rows = [row for row in read_rows(inputs[0], RANKED) if not row["beyond"]]
    files = {f"{source}.qrels": qrels(read_rows(inputs[1], BINARY_LABELS))}
    for seed in sorted({row["seed"] for row in rows}):
        run = f"{arguments.name}-seed{seed}"
        files[f"{run}.run"] = run_lines(run, [row for row in rows if row["seed"] == seed])
    check_output([arguments.output / name for name in files], inputs)
    for name, lines in files.items():
        write_text(arguments.output / name, "".join(f"{line}\n" for line in lines))
        print(arguments.output / name)


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("name", help="a run of params.yaml, or a control that ranks: bm25 or untrained")
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--labels", help="binary label source; compare.human_source by default")
    return parser.parse_args(given)


def predictions(name: str, params: Params) -> Path:
    ranking = [*params.runs, "bm25", *params.untrained]
    if name not in ranking:
        raise ParamsError(f"params.yaml: runs: {name!r} is none of {', '.join(ranking)}.")
    return PREDICTED / ("runs" if name in params.runs else "controls") / f"{name}.parquet"


def run_lines(run: str, rows: Iterable[Row]) -> Iterator[str]:
    """Lines of a run file; a question answered by several readers has one ranking."""
    for query_id, row in {row["query_id"]: row for row in rows}.items():
        ranked = zip(row["ranked_ids"], falling(row["ranked_scores"]), strict=True)
        for rank, (passage_id, score) in enumerate(ranked, start=1):
            yield f"{name_of(query_id)} Q0 {name_of(passage_id)} {rank} {score:.9g} {run}"


def qrels(labels: Sequence[Row]) -> Iterator[str]:
    """Lines of a judgements file. Questions without a relevant passage are left out, as in the report."""
    labelled = relevant_passages(labels)
    for label in labels:
        if label["query_id"] in labelled:
            yield f"{name_of(label['query_id'])} 0 {name_of(label['passage_id'])} {label['relevant']}"


def falling(scores: Sequence[float]) -> list[float]:
    """Scores, best first, made strictly decreasing in float32, of which nine digits distinguish any two."""
    found: list[np.float32] = []
    for score in np.asarray(scores, dtype=np.float32):
        found.append(min(score, np.nextafter(found[-1], np.float32(-np.inf))) if found else score)
    return [float(score) for score in found]


def name_of(identifier: str) -> str:
    if " " in identifier or not identifier.isprintable():
        raise RecordError(
            f"id {identifier!r} has white space, which separates the columns of TREC's files, or control characters: "
            "give the data other ids and run `dvc repro`."
        )
    if identifier == EMPTY:
        raise RecordError(f"id {identifier!r} is the empty passage's in TREC's files: give the data another one.")
    return EMPTY if identifier == NO_PASSAGE else identifier


if __name__ == "__main__":
    run_stage(main)
