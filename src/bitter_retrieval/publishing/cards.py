"""README.md of what is published: metadata for the Hub, results with their intervals, and where it all comes from.

    ---
    license: unknown
    library_name: sentence-transformers
    model-index: [{name: owner/kl, results: [{dataset: {…}, metrics: [{type: em, value: 0.6896, name: …}]}]}]
    ---
    # owner/kl
    > Primary figure (reader_a answers): kl answers fewer questions exactly than infonce: −2.4 points [−4.7, −0.1], …

The verdict is what the report says, whichever it is. Paths of the machine are left out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CardData, DatasetCardData, EvalResult, ModelCardData

from bitter_retrieval.files.tables import of_split
from bitter_retrieval.models.settings import is_hub_id
from bitter_retrieval.reporting import wording
from bitter_retrieval.statistics.metrics import METRICS, Metric, of_family

PASSAGES = "passage_encoder"  # folder of the encoder of passages, where queries alone were trained
TAG = "bitter-retrieval"  # by which the Hub finds what this project has published
QUESTION = (
    "Does a retriever trained on what helps a frozen language model answer (the loss of the answer given each passage, "
    "a soft label) beat one trained on human relevance labels, judged by the answers that the model then gives?"
)
CREDIT = (
    "Made with bitter-retrieval, after the idea and first implementation by Nick Ryan "
    "(https://github.com/nickcdryan/bitter-retrieval)."
)
PLACE = re.compile(r"""(?<![^\s'"(])(~\w*|\.\.)?/(?=\S)(.*/(?=[^\s:]))?""")  # on this machine; may hold spaces
Report = Mapping[str, Any]  # metrics/report.json


@dataclass(frozen=True)
class Origin:
    """Where something comes from."""

    commit: str
    settings: Mapping[str, Any]  # entries of params.yaml by dotted key, `data` among them
    hashes: Mapping[str, str]  # MD5 by path
    doubts: Sequence[str]  # why its figures may be another one's
    licence: str


# -- a trained encoder -----------------------------------------------------------------------------------------------


def model_card(repo: str, run: str, seed: int, report: Report, origin: Origin, query_only: bool) -> str:
    """Card of a run's checkpoint. query_only: its passages are encoded by another encoder, which lies beside it."""
    encoder = origin.settings[f"encoders.{origin.settings[f'runs.{run}']['encoder']}"]
    data = ModelCardData(
        license=origin.licence,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=[TAG, "sentence-transformers", "sentence-similarity", "feature-extraction"],
        base_model=encoder["model"] if is_hub_id(encoder["model"]) else None,
        datasets=_dataset_ids(origin.settings) or None,
        model_name=repo,
        eval_results=list(_eval_results(run, report, origin.settings["data"])) or None,
    )
    parts = [*_about(run, seed, report, origin), *_results(run, report), *_use(repo, query_only)]
    return _page(data, repo, parts, origin)


def _about(run: str, seed: int, report: Report, origin: Origin) -> Iterator[str]:
    settings = origin.settings[f"runs.{run}"]
    losses = ", ".join(f"{loss} {weight:g}" for loss, weight in settings["losses"].items())
    yield f"> {verdict(run, report)}"
    yield QUESTION
    yield (
        f"This is the encoder of run `{run}`, seed {seed}: trained on labels of `{settings['labels']}` "
        f"({_kind(origin.settings, settings['labels'])}) with the loss {losses}, from `{settings['encoder']}` "
        f"({_weights(origin.settings['encoders.' + settings['encoder']])})."
    )
    if run in report.get("negative_controls", {}):
        yield "**Its labels are in random order: it is a negative control of the experiment, and not for use.**"


def verdict(run: str, report: Report) -> str:
    """What the report says of a run against the baseline, in the primary reader's answers."""
    if run not in report.get("systems", {}):
        return "No figures: this run has not been compared with others."
    about = report["about"]
    if run == about["baseline"]:
        return f"{run} is the baseline, with which the experiment's other runs are compared."
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
        "Mean ±half a 95% interval over questions and seeds, or with [both its ends] where it is lopsided. "
        f"**They are figures of the run's {about['seeds']} seeds together, not of this seed alone.** "
        f"Judge of the accuracy: {portable(about['judge'])}."
    )
    yield from (f"**{warning}**" for warning in wording.warnings(report))
    names = _beside(run, report)
    scores = {reader: _scores(names, reader, report) for reader in about["readers"]}
    for reader, rows in scores.items():
        yield f"Answers of `{reader}`:"
        yield _table(["", *names], [[metric.head, *cells] for metric, cells in rows.items()])
    told = dict.fromkeys(metric for rows in scores.values() for metric in rows)
    yield "\n".join(f"- {metric.head}: {metric.definition}" for metric in told)
    if beyond := wording.beyond_metrics(report):
        yield f"{wording.beyond(report)}."
        rows = [[name, *chain(*wording.beyond_cells(report, name, beyond))] for name in names]
        heads = chain(*((metric.column, "against before training") for metric in beyond))
        yield _table(["", *heads], rows)
    compared = list(_compared(run, report))
    if compared:
        yield (
            f"Differences to `{about['baseline']}`, paired by seed and question, in points; 95% intervals for all runs "
            "of the experiment at once. MDE: the smallest difference that the test set shows with 80% power."
        )
        yield _table(["reader", "shown", "metric", "difference", "adjusted p", "verdict", "MDE"], compared)


def _beside(run: str, report: Report) -> list[str]:
    """The run, the baseline and the run's encoder before training."""
    systems, encoder = report["systems"], report["systems"][run]["encoder"]
    start = [name for name, of in systems.items() if of["kind"] == "control" and of["encoder"] == encoder]
    return list(dict.fromkeys((run, report["about"]["baseline"], *start)))


def _scores(names: Sequence[str], reader: str, report: Report) -> dict[Metric, list[str]]:
    """By metric, what there is to say of each of these systems; no metric of which there is nothing."""
    scores = [report["systems"][name]["scores"].get(reader, {}) for name in names]
    return {
        metric: [wording.figure(metric, of.get(metric.name)) for of in scores]
        for metric in of_family("answer", "passage", "ranking", "utility")
        if any(of.get(metric.name) for of in scores)
    }


def _compared(run: str, report: Report) -> Iterator[list[str]]:
    for shown, found in wording.readings(report).items():
        for reader, metrics in found["differences"].items():
            for metric, runs in metrics.items():
                if run in runs:
                    one = runs[run]
                    figures = [wording.points(one), wording.probability(one["p_adjusted"]), one["verdict"]]
                    yield [reader, str(shown), METRICS[metric].head, *figures, wording.size(one["mde"])]


def _eval_results(run: str, report: Report, data: Mapping[str, Any]) -> Iterator[EvalResult]:
    """The metadata's results: shares with their interval, of every reader."""
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
    """Whether all files that the questions are from are of the split's name; the generated world has no files."""
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
            "**Its queries alone were trained.** Passages keep the vectors of the encoder that training started from, "
            f"which lies in `{PASSAGES}/`."
        )
    yield "\n".join(["```python", *code, "```"])
    yield "Pooling, prefixes and maximal length are in the checkpoint, and those two methods apply them."


# -- a dataset of soft labels ----------------------------------------------------------------------------------------


def dataset_card(
    repo: str, source: str, files: Mapping[str, Mapping[str, str]], counted: Mapping[str, Any], origin: Origin
) -> str:
    """Card of a label source. files: path by split, of each configuration, the first being the default."""
    data = DatasetCardData(
        license=origin.licence,
        pretty_name=f"Soft labels of {source}",
        tags=[TAG, "soft-labels", "retrieval"],
        task_categories=["text-retrieval", "question-answering"],
        annotations_creators=["machine-generated"],
        source_datasets=_dataset_ids(origin.settings) or ["original"],
        configs=[
            {
                "config_name": name,
                "data_files": [{"split": split, "path": path} for split, path in paths.items()],
                **({"default": True} if name == next(iter(files)) else {}),
            }
            for name, paths in files.items()
        ],
    )
    return _page(data, repo, _described(repo, source, files, counted, origin), origin)


def _described(
    repo: str, source: str, files: Mapping[str, Mapping[str, str]], counted: Mapping[str, Any], origin: Origin
) -> Iterator[str]:
    published, records = files
    yield (
        "Questions with candidate passages, and for each passage how hard a frozen language model finds the answer "
        "when it is shown that passage: the loss of the answer's tokens, in nats a token. Lower is better. "
        f"Label source `{source}`: {_kind(origin.settings, source)}."
    )
    yield f"It was made to answer a question: {QUESTION[0].lower()}{QUESTION[1:]}"
    yield "\n".join(
        [
            "```python",
            "from datasets import load_dataset",
            "",
            f'load_dataset("{repo}")  # {published}: a row a question, MS MARCO\'s columns and passages.soft_labels',
            f'load_dataset("{repo}", "{records}")  # a row a (question, passage, reference answer)',
            "```",
        ]
    )
    yield (
        f"- `{published}`: `passages.soft_labels` is parallel to `passage_text` and refers to the first of `answers`. "
        "The last passage of every question is empty: its label is the loss without a passage. `is_selected` is the "
        "annotators' mark, null where nobody has annotated. `url`, `query_type` and `wellFormedAnswers` are empty.\n"
        f"- `{records}`: `nll_sum` over the `n_tokens` tokens of reference answer `answer_index`; `passage_index` is "
        "the passage's place in the row of the same `query_id`, `passage_id` is empty for no passage at all; "
        "`group_id` is what questions should be resampled by.\n"
        "- A null label is one that could not be computed."
    )
    yield "## Counts"
    yield _table(["", *counted], list(_counts(counted)))


def _counts(counted: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row a figure of the labels' account (metrics/label), a column a split."""
    splits = [dict(_leaves(split)) for split in counted.values()]
    for name in dict.fromkeys(name for split in splits for name in split):
        yield [name, *(f"{split[name]:,}" if name in split else wording.NOTHING for split in splits)]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by name, such as "gain mean"; lists, which are tables of their own, stay in the account."""
    for name, value in tree.items():
        words = above + name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{words} ")
        elif isinstance(value, int | float):
            yield words, value


# -- what both tell --------------------------------------------------------------------------------------------------


def _page(data: CardData, repo: str, parts: Iterable[str], origin: Origin) -> str:
    head = f"---\n{data.to_yaml()}\n---\n\n# {repo}"
    return "\n\n".join([head, *parts, *_provenance(origin)]) + "\n"


def _provenance(origin: Origin) -> Iterator[str]:
    if origin.doubts:
        yield "## Doubts"
        yield "**Figures and counts above may be of another state than these files:**"
        yield "\n".join(f"- {portable(doubt)}" for doubt in origin.doubts)
    yield "## Where it comes from"
    yield (
        f"{CREDIT} Commit `{origin.commit}`. What is said above holds for these data, readers and sizes; it does not "
        "show how others behave."
    )
    if origin.licence == "unknown":
        yield "No licence has been stated; those of the data and of the models that took part hold in any case."
    yield "What decided it, from params.yaml:"
    shown = yaml.safe_dump(portable(origin.settings), sort_keys=False, allow_unicode=True, width=110)
    yield f"```yaml\n{shown}```"
    if origin.hashes:
        yield "Files that took part (dvc.lock, MD5):"
        yield _table(["file", "MD5"], [[portable(path), md5] for path, md5 in origin.hashes.items()])


def portable(value: Any) -> Any:
    """Settings, or a sentence, in which a path on this machine is its last part. Slashes of a prompt are no path."""
    if isinstance(value, Mapping):
        return {key: item if key == "prompt" else portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return PLACE.sub("…/", value) if isinstance(value, str) else value


def _kind(settings: Mapping[str, Any], source: str) -> str:
    """What a label source is, and whose losses it has."""
    own = next(entry for key, entry in settings.items() if key in (f"labels.{source}", f"derived_labels.{source}"))
    readers = [f"{key.split('.')[1]}, {_weights(e)}" for key, e in settings.items() if key.startswith("readers.")]
    return f"{own['kind']}; answer losses of {', '.join(readers)}" if readers else f"kind {own['kind']}"


def _weights(entry: Mapping[str, Any]) -> str:
    """A model and its commit."""
    model = "a small model fitted in the experiment" if entry["model"] == "fit" else portable(entry["model"])
    return f"{model} at {entry['revision']}" if entry.get("revision") else model


def _dataset_ids(settings: Mapping[str, Any]) -> list[str]:
    """Hub ids of the data, and of published labels; nothing is trained on what `beyond` names."""
    hubs = [entry.get("hub") for key, entry in settings.items() if key == "data" or key.startswith("labels.")]
    return list(dict.fromkeys(hub["id"] for hub in hubs if hub))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))
