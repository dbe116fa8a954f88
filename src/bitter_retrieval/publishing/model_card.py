"""README.md of a trained encoder: its results with their intervals, how to use it, and where it comes from.

    ---
    license: unknown
    library_name: sentence-transformers
    model-index: [{name: owner/kl, results: [{dataset: {…}, metrics: [{type: em, value: 0.6896, name: …}]}]}]
    ---
    # owner/kl
    > Primary figure (reader_a answers): kl answers fewer questions exactly than infonce: −2.4 points [−4.7, −0.1], …

The verdict is the report's, favourable or not.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from bitter_retrieval.files.tables import of_split
from bitter_retrieval.models.settings import is_hub_id
from bitter_retrieval.publishing.cards import QUESTION, TAG, Origin, dataset_ids, label_kind, page, portable, weights
from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import markdown_table
from bitter_retrieval.statistics.metrics import METRICS, Metric, of_family

PASSAGES = "passage_encoder"  # folder of the passages' encoder, if only queries were trained
Report = Mapping[str, Any]  # metrics/report.json


def model_card(repo: str, run: str, seed: int, report: Report, origin: Origin, query_only: bool) -> str:
    """Card of a run's checkpoint. query_only: passages are encoded by another encoder, in the folder PASSAGES."""
    encoder = origin.settings[f"encoders.{origin.settings[f'runs.{run}']['encoder']}"]
    data = ModelCardData(
        license=origin.licence,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=[TAG, "sentence-transformers", "sentence-similarity", "feature-extraction"],
        base_model=encoder["model"] if is_hub_id(encoder["model"]) else None,
        datasets=dataset_ids(origin.settings) or None,
        model_name=repo,
        eval_results=list(_eval_results(run, report, origin.settings["data"])) or None,
    )
    parts = [*_about(run, seed, report, origin), *_results(run, report), *_use(repo, query_only)]
    return page(data, repo, parts, origin)


def _about(run: str, seed: int, report: Report, origin: Origin) -> Iterator[str]:
    settings = origin.settings[f"runs.{run}"]
    losses = ", ".join(
        f"{loss} {of:g}" if not isinstance(of, dict) else f"{loss} {of['weight']:g} on {of['labels']}"
        for loss, of in settings["losses"].items()
    )
    yield f"> {verdict(run, report)}"
    yield QUESTION
    yield (
        f"This is the encoder of run `{run}`, seed {seed}: trained on labels of `{settings['labels']}` "
        f"({label_kind(origin.settings, settings['labels'])}) with the loss {losses}, from `{settings['encoder']}` "
        f"({weights(origin.settings['encoders.' + settings['encoder']])})."
    )
    if run in report.get("negative_controls", {}):
        yield "**Its labels do not say which passage helps: it is a negative control, and not for use.**"


def verdict(run: str, report: Report) -> str:
    """The report's verdict on a run against the baseline, by the primary reader's answers."""
    if run not in report.get("systems", {}):
        return "No figures: this run has not been compared with others."
    about = report["about"]
    if run == about["baseline"]:
        return f"{run} is the baseline that the experiment's other runs are compared with."
    said = wording.sentence(run, about["baseline"], report["differences"][about["reader"]]["em"].get(run))
    rank = "Primary" if run == about["primary"] else "Secondary"
    return f"{rank} figure ({about['reader']} answers): {said}"


def _results(run: str, report: Report) -> Iterator[str]:
    if run not in report.get("systems", {}):
        return
    about = report["about"]
    yield "## Results"
    yield (
        f"{about['questions']} {about['split']} questions in {about['groups']} groups, {about['corpus']} passages "
        f"searched, {about['shown'][0]} shown to the reader that answers. The questions are from "
        f"{portable(about['origin'])}. "
        "Mean ±half a 95% interval over questions and seeds, or [both ends] where it is asymmetric. "
        f"**The figures are over the run's {about['seeds']} seeds together, not about this seed alone.** "
        f"Judge of the accuracy: {portable(about['judge'])}."
    )
    yield from (f"**{warning}**" for warning in wording.warnings(report))
    names = _compared_with(run, report)
    scores = {reader: _scores(names, reader, report) for reader in about["readers"]}
    for reader, by_metric in scores.items():
        yield f"Answers of `{reader}`:"
        yield markdown_table(["", *names], [[metric.head, *cells] for metric, cells in by_metric.items()])
    told = dict.fromkeys(metric for by_metric in scores.values() for metric in by_metric)
    yield "\n".join(f"- {metric.head}: {metric.definition}" for metric in told)
    if beyond := wording.beyond_metrics(report):
        yield f"{wording.beyond(report)}."
        rows = [[name, *chain(*wording.beyond_cells(report, name, beyond))] for name in names]
        heads = chain(*((metric.column, "against before training") for metric in beyond))
        yield markdown_table(["", *heads], rows)
    differences = list(_differences(run, report))
    if differences:
        yield (
            f"Differences to `{about['baseline']}`, paired by seed and question, in points. The experiment's primary "
            "difference stands alone; all other 95% intervals hold simultaneously for all runs of the experiment. MDE: "
            "the smallest difference that the test set detects with 80% power."
        )
        yield markdown_table(["reader", "shown", "metric", "difference", "p", "verdict", "MDE"], differences)


def _compared_with(run: str, report: Report) -> list[str]:
    """The run, the baseline, and the run's encoder before training."""
    systems, encoder = report["systems"], report["systems"][run]["encoder"]
    start = [name for name, of in systems.items() if of["kind"] == "control" and of["encoder"] == encoder]
    return list(dict.fromkeys((run, report["about"]["baseline"], *start)))


def _scores(names: Sequence[str], reader: str, report: Report) -> dict[Metric, list[str]]:
    """A cell a system by metric; metrics that no system has are left out."""
    scores = [report["systems"][name]["scores"].get(reader, {}) for name in names]
    return {
        metric: [wording.figure(metric, of.get(metric.name)) for of in scores]
        for metric in of_family("answer", "passage", "ranking", "utility")
        if any(of.get(metric.name) for of in scores)
    }


def _differences(run: str, report: Report) -> Iterator[list[str]]:
    for shown, found in wording.readings(report).items():
        for reader, metrics in found["differences"].items():
            for metric, runs in metrics.items():
                if run in runs:
                    one = runs[run]
                    figures = [wording.points(one), wording.probability(one["p"]), one["verdict"]]
                    yield [reader, str(shown), METRICS[metric].head, *figures, wording.size(one["mde"])]


def _eval_results(run: str, report: Report, data: Mapping[str, Any]) -> Iterator[EvalResult]:
    """Results for the metadata: shares with their interval, for every reader."""
    name, hub = data["source"], data.get("hub") or {}
    for reader, scores in report.get("systems", {}).get(run, {}).get("scores", {}).items():
        for metric in (row for row in METRICS.values() if row.published):
            estimate = scores.get(metric.name)
            if estimate:
                told = f"{metric.head}, answers of {reader}, 95% interval in %"
                yield EvalResult(
                    task_type="text-retrieval",
                    task_name="Retrieval for question answering",
                    dataset_type=hub.get("id", name),
                    dataset_name=name,
                    dataset_config=hub.get("config"),
                    dataset_revision=hub.get("revision"),
                    dataset_split=report["about"]["split"] if _split_is_the_sources(report["about"]) else None,
                    metric_type=metric.name,
                    metric_value=estimate["mean"],
                    metric_name=f"{told} {wording.interval(estimate)}",
                )


def _split_is_the_sources(about: Mapping[str, Any]) -> bool:
    """Whether all files of the questions are named after the split; the generated world has no files."""
    files = about["origin"].partition(": ")[2]  # as in "data/raw: test-0.jsonl (8), test-1.jsonl (7)"
    return not files or all(of_split(Path(file), about["split"]) for file in files.split(", "))


def _use(repo: str, query_only: bool) -> Iterator[str]:
    passages = f'SentenceTransformer(snapshot_download("{repo}") + "/{PASSAGES}")' if query_only else "model"
    code = [
        *["from huggingface_hub import snapshot_download"] * query_only,
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{repo}")',
        f"passage_model = {passages}",
        'queries = model.encode_query(["who wrote it?"])',
        'passages = passage_model.encode_document(["Someone wrote it."])',
        "queries @ passages.T  # cosines: the vectors have length 1",
    ]
    yield "## Use"
    if query_only:
        yield (
            "**Only its queries were trained.** Passages keep the vectors of the encoder that training started from, "
            f"which is in `{PASSAGES}/`."
        )
    yield "\n".join(["```python", *code, "```"])
    yield "Pooling, prefixes and maximal length are in the checkpoint, and those two methods apply them."
