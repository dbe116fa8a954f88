"""Stage label: one label source over train, validation and test.

    python src/label.py reader_a

Soft sources give rows of records.SOFT_LABELS, the others of records.BINARY_LABELS, in
data/labels/<source>/{train,validation,test}.parquet; data/figures/label/<source>.json is their account. A reader's
scores are journalled: a killed command resumes. They lie in scores.parquet beside the labels too, which DVC leaves in
place (`persist`): after `dvc pull` they enter the journal first, so that a change scores only what nobody has scored.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from bitter_retrieval.command_line import bar, named, run_stage, say
from bitter_retrieval.files.hub_datasets import hub_parts
from bitter_retrieval.files.tables import Record, data_files
from bitter_retrieval.labels.altered import flat_labels, noisy_labels, permuted_labels
from bitter_retrieval.labels.annotators import annotate, corrupt
from bitter_retrieval.labels.binary import has_answer_labels, selected_labels, truth_labels
from bitter_retrieval.labels.published import published_labels, published_records
from bitter_retrieval.labels.scored import remember, score_splits, soft_account
from bitter_retrieval.labels.settings import (
    UTILITY_PROMPT,
    AlteredLabels,
    Annotators,
    CorruptedLabels,
    NoisyLabels,
    PermutedLabels,
    PublishedLabels,
    ReaderLabels,
    RuleLabels,
    TruthLabels,
    UtilityLabels,
)
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.params import Params
from bitter_retrieval.records import BINARY_LABELS, PREPARED, SOFT_LABELS, Row, read_rows, write_json, write_rows

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")
FIGURES = Path("data/figures/label")
SPLITS = ("train", "validation", "test")
SCORES = "scores.parquet"


def main(arguments: Sequence[str] | None = None) -> str:
    params, name = named("labels", __doc__, arguments)
    settings = params.labels[name]
    keep_freed_memory()
    rows = {split: read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED) for split in SPLITS}
    more: dict[str, dict] = {}
    written = [f"{split}.parquet" for split in SPLITS]
    remember(LABELS / name / SCORES)
    if isinstance(settings, ReaderLabels | UtilityLabels):
        labels, more = from_reader(settings, rows, params, LABELS / name / SCORES)
        written.append(SCORES)
    elif settings.kind == "published":
        labels, more = published(f"labels.{name}", settings, rows)
    elif isinstance(settings, AlteredLabels):
        given = {split: read_rows(Path(settings.needs) / f"{split}.parquet", SOFT_LABELS) for split in SPLITS}
        labels = {split: altered(settings, given[split]) for split in SPLITS}
    elif isinstance(settings, CorruptedLabels):
        given = {split: read_rows(Path(settings.needs) / f"{split}.parquet", BINARY_LABELS) for split in SPLITS}
        labels = {
            split: corrupt(rows[split], given[split], settings.share, settings.towards, settings.seed)
            for split in SPLITS
        }
        more = {"made_wrong": {split: changed(given[split], labels[split]) for split in SPLITS}}
    else:
        labels = {split: binary(settings, rows[split]) for split in SPLITS}
    soft = settings.soft
    for former in set((LABELS / name).glob("*")) - {LABELS / name / file for file in written}:
        former.unlink()  # DVC leaves what a former source of that name wrote
    for split in SPLITS:
        write_rows(LABELS / name / f"{split}.parquet", labels[split], SOFT_LABELS if soft else BINARY_LABELS)
    counted = {split: (soft_account(rows[split], labels[split]) if soft else counts(labels[split])) for split in SPLITS}
    counted |= more
    write_json(FIGURES / f"{name}.json", counted)
    questions = sum(map(len, rows.values()))
    unscorable = sum(label["nll_sum"] is None for of_split in labels.values() for label in of_split) if soft else 0
    return f"label {name}: {sum(map(len, labels.values())):,} labels of {questions:,} questions" + (
        f", {unscorable:,} of them without a loss" if unscorable else ""
    )


# -- a reader's answer losses ----------------------------------------------------------------------------------------


def from_reader(
    labels: ReaderLabels | UtilityLabels, splits: dict[str, list[Row]], params: Params, scores: Path
) -> tuple[dict[str, list[Row]], dict[str, dict]]:
    """Labels by split, and where the reader's weights come from, if not from a checkpoint."""
    from bitter_retrieval.readers.language_model import load_reader

    if isinstance(labels, UtilityLabels):
        prompt = labels.prompt or UTILITY_PROMPT
        reader = load_reader(Path(labels.needs), prompt=prompt, examples=None, max_new_tokens=0, answer_end="")
        found = score_splits(reader, splits, params.label, bar, say, "utility", params.tracking.mlflow, scores)
    else:
        reader = load_reader(Path(labels.needs))
        found = score_splits(reader, splits, params.label, bar, say, tracked=params.tracking.mlflow, scores=scores)
    return found, {"weights": dict(reader.weights)} if reader.weights else {}


# -- other sources ---------------------------------------------------------------------------------------------------


def published(
    at: str, settings: PublishedLabels, splits: dict[str, list[Row]]
) -> tuple[dict[str, list[Row]], dict[str, dict]]:
    """Labels by split, and counts of rows, published and ours, that match no other."""
    found: Iterable[Iterable[Record]]
    if settings.hub:
        where, found = settings.hub.id, hub_parts(settings.hub, f"{at}.hub", f"{at}.needs").values()
    else:
        where, found = settings.needs, map(published_records, data_files(Path(settings.needs)))
    labels, unmatched, unused = published_labels(chain.from_iterable(found), splits, f"{at}: {where}")
    return labels, {"unmatched": unmatched, "unused": unused}


def altered(settings: AlteredLabels, labels: list[Row]) -> list[Row]:
    if isinstance(settings, PermutedLabels):
        return permuted_labels(labels, settings.seed)
    if isinstance(settings, NoisyLabels):
        return noisy_labels(labels, settings.noise, settings.seed)
    return flat_labels(labels)


def binary(settings: Annotators | RuleLabels | TruthLabels, rows: list[Row]) -> list[Row]:
    if isinstance(settings, Annotators):
        return annotate(rows, settings.annotator, settings.noise, settings.seed)
    if isinstance(settings, TruthLabels):
        return truth_labels(rows, settings.supports, settings.seed)
    return {"has_answer": has_answer_labels, "selected": selected_labels}[settings.kind](rows)


def changed(before: list[Row], after: list[Row]) -> int:
    """The number of queries of which a label is another."""
    return len({was["query_id"] for was, now in zip(before, after, strict=True) if was != now})


def counts(labels: list[Row]) -> dict[str, int]:
    """Counts of binary labels: queries, rows, and queries without a relevant candidate."""
    positive = {row["query_id"] for row in labels if row["relevant"]}
    queries = {row["query_id"] for row in labels}
    return {"queries": len(queries), "rows": len(labels), "queries_without_relevant": len(queries - positive)}


if __name__ == "__main__":
    run_stage(main)
