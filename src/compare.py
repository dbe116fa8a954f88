"""Stage compare: is a run's difference to the baseline more than chance? Writes tables, plots and one page.

Reads data/prepared and data/labels (the evaluated split, train for how labels agree, and questions from another domain
if there are any), data/predictions of every run and control, data/judgements.parquet and plots/curves; writes
metrics/summary.json, metrics/report.json, metrics/report.html and four pictures in plots/, and logs to MLflow. Nothing
here trains, answers or judges.

    dvc repro compare              # runs it
    python src/compare.py --show   # prints the tables of the last run again
    python src/compare.py --repeat # says whether its figures are those of the last commit
"""

import csv
import dataclasses
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitter_retrieval.command_line import Parser, run_stage, track

# isort: split
import pyarrow as pa

from bitter_retrieval import lineage
from bitter_retrieval.evaluation.corpus import Asked, asked_in
from bitter_retrieval.evaluation.retrieval import without_word
from bitter_retrieval.judging.judges import Named, judgement_key, make_judge
from bitter_retrieval.labels.binary import selected_labels
from bitter_retrieval.labels.disagreement import disagreement, label_errors
from bitter_retrieval.labels.soft import LossesByQuery, passage_losses
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.processor import processor_name
from bitter_retrieval.records import (
    BINARY_LABELS,
    JUDGEMENTS,
    PREPARED,
    SOFT_LABELS,
    RecordError,
    Row,
    read_labels,
    read_rows,
    sweep,
    write_text,
)
from bitter_retrieval.records import PREDICTIONS as RECORDED
from bitter_retrieval.reporting import plots, tables
from bitter_retrieval.reporting.repetition import changed, sentences
from bitter_retrieval.reporting.report import render
from bitter_retrieval.reporting.summary import summary
from bitter_retrieval.statistics.comparison import (
    AGAIN,
    BY_DEFINITION,
    CONTROLS,
    NEGATIVE,
    Settings,
    System,
    compare,
    plain,
)
from bitter_retrieval.statistics.differing import full_utility, most_differing, sampled
from bitter_retrieval.statistics.label_agreement import SourceAgreement, source_agreements
from bitter_retrieval.statistics.outcomes import (
    NEEDED,
    EvaluatedQuestions,
    JudgedAnswers,
    by_seed,
    evaluated_questions,
    outcomes,
    readings,
)
from bitter_retrieval.statistics.statistics import Design
from bitter_retrieval.statistics.utility import Known
from bitter_retrieval.tracking import LOCK, log_results
from bitter_retrieval.typed_yaml import elsewhere, parse_yaml, read_yaml

PREPARED_DIR, LABELS, PREDICTIONS = Path("data/prepared"), Path("data/labels"), Path("data/predictions")
JUDGED, CURVES, METRICS, PLOTS = Path("data/judgements.parquet"), Path("plots/curves"), Path("metrics"), Path("plots")
RUNS, PARAMS = Path("models/runs"), Path("params.yaml")
PICTURES = ("differences", "answer_accuracy", "answer_vs_retrieval", "training_curves")
ACCOUNT = Path("data/figures/prepare.json")


def command(arguments: Sequence[str] | None = None) -> str | None:
    parser = Parser(description=__doc__)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--show", action="store_true", help="only print the tables of the last run")
    instead.add_argument("--repeat", action="store_true", help="only say whether its figures are the committed ones")
    options = parser.parse_args(arguments)
    if options.show:
        show(last_report())
    elif options.repeat:
        repeat()
    else:
        main()
        return f"compare: {METRICS / 'report.html'}"
    return None


def main() -> None:
    params = load_params()
    sweep(CURVES, params.runs)
    split, known = params.evaluate.split, read_known(params)
    (rows, corpus, *_), *others = asked_in(PREPARED_DIR, params.evaluate)
    asked, beyond = evaluated_questions(rows, human(split, params), known), from_elsewhere(others, known)
    judge = make_judge(params.judge)
    verdicts = read_verdicts(judge)
    systems = read_systems(params, asked, beyond, verdicts)
    report = compare(asked, systems, verdicts, settings(params), beyond, watch=lambda names: track(names, "resample"))
    account = read_account()
    report["about"] |= {"judge": judge.about, "corpus": len(corpus), "origin": origin(account, split)}
    report["about"]["processor"] = processor_name()
    if lacking := without_matching_word():
        report["about"]["without_matching_word"] = lacking
    if params.quantised:
        report["about"]["quantised"] = params.quantised
    if params.beyond and others:
        from_there = {"source": params.beyond.source, "origin": origin(account["beyond"], "test")}
        report["beyond"] |= from_there | {"corpus": len(others[0].corpus)}
    report["disagreement"] = plain({each: of_split(each, params) for each in ("train", split)})
    report["label_agreement"] = plain({each: sources_agree(each, params) for each in ("train", split)})
    report["label_errors"] = plain(
        {each: label_errors(prepared(each), label_sources(each, params)) for each in ("train", split)}
    )
    made = write(report, params, asked, systems, corpus)
    found = {name: by_seed(systems[name].outcomes, split) for name in params.runs}
    log_results(params.tracking.mlflow, found, summary(report), RUNS, [*made, PARAMS])
    show(report)


def read_account() -> dict[str, Any]:
    """The account that the stage prepare gives of its questions."""
    if not ACCOUNT.is_file():
        raise RecordError(f"{ACCOUNT}: no such file. Run `dvc repro prepare`.")
    return json.loads(ACCOUNT.read_text(encoding="utf-8"))


def origin(account: dict[str, Any], split: str) -> str:
    """Source and files of a split, as in "data/raw: validation.jsonl (500)"."""
    files = account["splits"][split].get("from", {})
    listed = ", ".join(f"{file} ({count})" for file, count in files.items())
    return account["source"]["name"] + (f": {listed}" if listed else "")


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    console = tables.console()
    for part in tables.everything(report, console.width):
        console.print(part)
    console.print(f"Everything on one page: {METRICS / 'report.html'}")


def last_report() -> dict[str, Any]:
    """The figures of the last run."""
    file = METRICS / "report.json"
    if not file.is_file():
        raise RecordError(f"{file}: no such file{elsewhere() or '. Run `dvc repro`.'}")
    return json.loads(file.read_text(encoding="utf-8"))


def repeat() -> None:
    """Print whether the last run's figures are those of the last commit."""
    file, report = METRICS / "report.json", last_report()
    if lacking := without_git():
        print(f"{lacking}: the committed figures are unknown here. A clone of the repo has them.")
        return
    known, lock = committed(file), committed(LOCK)
    if known is None:
        print(f"{file} is not in the last commit: there is nothing to compare with.")
        return
    other = changed(read_yaml(LOCK), parse_yaml(lock, f"HEAD:{LOCK}")) if lock and LOCK.is_file() else []
    if other:
        print(f"Parameters differ from those of the committed run: {', '.join(other)}.")
    for sentence in sentences(report, json.loads(known)):
        print(sentence)


def without_git() -> str | None:
    """What is missing for a look at the last commit, if anything."""
    if shutil.which("git") is None:
        return "git is not installed"
    found = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True)
    return f"{Path.cwd()} is in no git repository" if found.returncode else None


def committed(file: Path) -> str | None:
    """A file's text in the last commit; None if it is not in there."""
    found = subprocess.run(["git", "show", f"HEAD:./{file.as_posix()}"], capture_output=True, encoding="utf-8")
    return None if found.returncode else found.stdout


def settings(params: Params) -> Settings:
    return Settings(
        split=params.evaluate.split,
        readers=list(params.readers),
        seeds=len(params.train.seeds),
        shown=params.evaluate.shown,
        primary_metrics=["em"] if params.judge.kind == "rule" else ["em", "accuracy"],
        **dataclasses.asdict(params.compare) | {"contrasts": params.compare.contrasts or {}},
    )


def prepared(split: str) -> list[Row]:
    return read_rows(PREPARED_DIR / f"{split}.parquet", PREPARED)


def human(split: str, params: Params) -> list[Row]:
    return read_rows(LABELS / params.compare.human_source / f"{split}.parquet", BINARY_LABELS)


def read_losses(split: str, source: str) -> LossesByQuery:
    return passage_losses(read_rows(LABELS / source / f"{split}.parquet", SOFT_LABELS), source=source)


def of_split(split: str, params: Params) -> dict[str, Any]:
    """Disagreement of human and soft labels in one split."""
    return disagreement(prepared(split), human(split, params), read_losses(split, params.compare.label_source))


def sources_agree(split: str, params: Params) -> list[SourceAgreement]:
    """Agreement of every two label sources in one split."""
    rows = prepared(split)
    design = Design(
        [row["group_id"] for row in rows], seeds=1, draws=20, seed=0
    )  # draws do not matter: estimates use none
    return source_agreements(rows, label_sources(split, params), design)


def label_sources(split: str, params: Params) -> dict[str, tuple[list[Row], bool]]:
    """Label rows of every source in one split, and whether they are soft."""
    return {name: read_labels(LABELS / name / f"{split}.parquet") for name in params.labels}


def read_known(params: Params) -> Known:
    """Answer losses of every reader that has labelled, and each reader's exact match without a passage."""
    split, source = params.evaluate.split, params.compare.label_source
    labeller = lineage.labeller(source, params) or f"labels {source}"  # not the name of any reader
    sources = {reader: lineage.losses_of(reader, params) for reader in params.readers} | {labeller: source}
    return Known(
        losses={name: read_losses(split, one) for name, one in sources.items() if one},
        labeller=labeller,
        unaided=read_unaided(beyond=False),
        empty_passage=params.evaluate.empty_passage,
    )


def read_unaided(beyond: bool) -> dict[str, dict[str, float]]:
    """Exact match without a passage, by reader and query_id, of the evaluated split or of another domain."""
    found: dict[str, dict[str, float]] = {}
    for row in read_predictions("controls", "no_passage", "control"):
        if row["beyond"] == beyond:
            found.setdefault(row["reader"], {})[row["query_id"]] = row["em"]
    return found


def from_elsewhere(others: list[Asked], known: Known) -> EvaluatedQuestions:
    """Questions from another domain, labelled by the passages that their data select; without answer losses."""
    rows = [row for other in others for row in other.rows]
    there = dataclasses.replace(known, losses={}, unaided=read_unaided(beyond=True))
    return evaluated_questions(rows, selected_labels(rows), there)


def read_verdicts(judge: Named) -> JudgedAnswers:
    """The verdicts of this judge; those of other judges have other keys."""
    found = {row["key"]: (row["verdict"], row["reason"]) for row in read_rows(JUDGED, JUDGEMENTS)}
    return JudgedAnswers(
        found, lambda query, references, answer: judgement_key(query, references, answer, judge.name, judge.model)
    )


def read_systems(
    params: Params, asked: EvaluatedQuestions, beyond: EvaluatedQuestions, verdicts: JudgedAnswers
) -> dict[str, System]:
    """The runs in params.yaml, then the controls, each with its outcomes by reader."""
    systems = {}
    for name, run in track(params.runs.items(), "read predictions", unit="runs"):
        losses = ", ".join(f"{loss} {weight:g}" for loss, weight in run.losses.items())
        rows = read_predictions("runs", name, f"evaluate@{name}")
        read = read_by(name, rows, params, asked, beyond, verdicts)
        systems[name] = System("run", losses, run.labels, role(name, params), **read, encoder=run.encoder)
    for name in params.controls:
        rows, encoder = read_predictions("controls", name, "control"), params.untrained.get(name)
        about = CONTROLS["untrained" if encoder else name]
        read = read_by(name, rows, params, asked, beyond, verdicts)
        known = BY_DEFINITION.get(name, {})
        systems[name] = System("control", about, None, None, **read, encoder=encoder, by_definition=known)
    return systems


def role(name: str, params: Params) -> str | None:
    """What a run is for, by its settings: a negative control, or the baseline again from other seeds."""
    run, baseline = params.runs[name], params.runs[params.compare.baseline]
    if lineage.is_negative_control(run.labels, params):
        return NEGATIVE
    alike = dataclasses.replace(run, seeds=baseline.seeds) == baseline
    return AGAIN if alike and (run.seeds or params.train.seeds) != (baseline.seeds or params.train.seeds) else None


def read_by(
    name: str,
    rows: list[Row],
    params: Params,
    asked: EvaluatedQuestions,
    beyond: EvaluatedQuestions,
    verdicts: JudgedAnswers,
) -> dict[str, Any]:
    """Outcomes by reader: with the first number of passages shown, with the others by number, in another domain."""
    parts = readings(row for row in rows if not row["beyond"])
    found = {shown: outcomes(name, parts[shown], asked, verdicts) for shown in params.evaluate.shown if shown in parts}
    return {
        "outcomes": found.pop(params.evaluate.shown[0], {}),
        "further": found,
        "beyond": outcomes(name, (row for row in rows if row["beyond"]), beyond, verdicts),
    }


def without_matching_word() -> int:
    """The number of questions, from another domain too, for which BM25 found no passage with a word of theirs."""
    schema = pa.schema([RECORDED.field(name) for name in ("query_id", "beyond", "ranked_scores")])
    rows = read_rows(PREDICTIONS / "controls/bm25.parquet", schema)
    return without_word({(row["beyond"], row["query_id"]): row["ranked_scores"] for row in rows}.values())


def read_predictions(folder: str, name: str, stage: str) -> list[Row]:
    try:
        return read_rows(PREDICTIONS / folder / f"{name}.parquet", NEEDED)
    except RecordError as error:
        raise RecordError(f"{error} The stage is `dvc repro {stage}`.") from error


def read_curves(path: Path) -> dict[str, list[float | None]]:
    """Columns of a curves file; an empty cell is None."""
    if not path.is_file():
        raise RecordError(f"{path}: no such file. Run `dvc repro train@{path.stem}`.")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = rows[0] if rows else ("seed", "step")
    return {column: [float(row[column]) if row[column] else None for row in rows] for column in columns}


def write(
    report: dict[str, Any],
    params: Params,
    asked: EvaluatedQuestions,
    systems: dict[str, System],
    corpus: dict[str, str],
) -> list[Path]:
    """Write all files of the stage, which are returned."""
    pictures = {name: PLOTS / f"{name}.png" for name in PICTURES}
    plots.differences(report, pictures["differences"])
    plots.answer_accuracy(report, pictures["answer_accuracy"])
    plots.answer_vs_retrieval(report, pictures["answer_vs_retrieval"])
    plots.training_curves({run: read_curves(CURVES / f"{run}.csv") for run in params.runs}, pictures["training_curves"])
    found, told = to_read(params, asked, systems, corpus), {name: source(name, params) for name in params.sources}
    page = render(report, found, dataclasses.asdict(params), told, hashes(params), pictures)
    texts = {"report.html": page, "report.json": as_json(report), "summary.json": as_json(summary(report))}
    for name, text in texts.items():
        write_text(METRICS / name, text)
    return [*pictures.values(), *(METRICS / name for name in texts)]


def source(name: str, params: Params) -> str:
    """What the labels of this name are, in a phrase."""
    found = params.sources[name]
    return (type(found).__doc__ or "").replace("in `needs`", f"in {found.needs}")


def to_read(
    params: Params, asked: EvaluatedQuestions, systems: dict[str, System], corpus: dict[str, str]
) -> dict[str, Any]:
    """Questions for a person to read, with the primary reader's answers: where runs differ, and a sample."""
    compared, source = params.compare, params.compare.label_source
    runs = {name: systems[name].outcomes[compared.reader] for name in params.runs}
    primary, baseline = ((name, runs[name]) for name in (compared.primary, compared.baseline))
    losses = asked.known.losses[asked.known.labeller]
    differing, sides = most_differing(asked, primary, baseline, losses, corpus)
    scale = full_utility(prepared("train"), read_losses("train", source))
    sample = sampled(asked, runs, scale, corpus, compared.seed)
    return {"differing": differing, "sides": sides, "sample": sample, "scale": scale}


def hashes(params: Params) -> dict[str, str]:
    """MD5 of the files that the page is made from, as in dvc.lock."""
    splits = [f"{split}.parquet" for split in dict.fromkeys(("train", params.evaluate.split))]
    beyond = ["beyond.parquet", "beyond_corpus.parquet"] if params.beyond else []
    runs, controls = (
        [PREDICTIONS / folder / f"{name}.parquet" for name in names]
        for folder, names in {"runs": params.runs, "controls": params.controls}.items()
    )
    labels = [LABELS / name / split for name in params.labels for split in splits]
    read = [PREPARED_DIR / name for name in (*splits, "corpus.parquet", *beyond)]
    curves = [CURVES / f"{name}.csv" for name in params.runs]
    paths = [ACCOUNT, *read, *labels, *runs, *controls, JUDGED, *curves]
    return {path.as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in paths}


def as_json(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    run_stage(command)
