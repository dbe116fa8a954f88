"""Stage derive: a label source made with an encoder, over train and validation.

    python src/derive.py hard

mined      another source's labels, unchanged, and negatives.parquet (records.NEGATIVES) next to them
on_policy  a reader's labels of the candidates and of what the encoder retrieves; known pairs come from the journal
reranker   a cross-encoder's labels of another source's candidates, learnt from that source

Writes data/labels/<source>/, so a run names a derived source like any other, and data/figures/label/<source>.json.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from bitter_retrieval.command_line import bar, named, run_stage, say

# isort: split
import numpy as np

from bitter_retrieval.encoders.encoder import load_encoder
from bitter_retrieval.labels.mining import first_checkpoint, mine, positives, retrieved
from bitter_retrieval.labels.scored import score_splits, soft_account
from bitter_retrieval.labels.settings import MinedNegatives, OnPolicyLabels, RerankerLabels
from bitter_retrieval.labels.soft import share_outside
from bitter_retrieval.labels.targets import NEGATIVES_FILE, scored_rows, soft_targets, with_empty, with_labelled
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.params import Params
from bitter_retrieval.records import (
    NEGATIVES,
    PREPARED,
    SOFT_LABELS,
    Row,
    read_labels,
    read_rows,
    replacing,
    write_json,
    write_rows,
)

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")
FIGURES = Path("data/figures/label")
SPLITS = ("train", "validation")  # what training reads


def main(arguments: Sequence[str] | None = None) -> str:
    params, name = named("derived_labels", __doc__, arguments)
    settings = params.derived_labels[name]
    keep_freed_memory()
    rows = {split: read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED) for split in SPLITS}
    kinds: dict[str, Callable[..., dict]] = {"mined": mined, "on_policy": on_policy, "reranker": reranker}
    counted = kinds[settings.kind](LABELS / name, rows, settings, params)
    write_json(FIGURES / f"{name}.json", counted)
    if isinstance(settings, MinedNegatives):
        return f"derive {name}: {counted['negatives']:,} negatives for {counted['queries']:,} questions"
    made = {field: sum(counted[split][field] for split in SPLITS) for field in ("rows", "queries")}
    return f"derive {name}: {made['rows']:,} labels of {made['queries']:,} questions"


def mined(folder: Path, rows: dict[str, list[Row]], settings: MinedNegatives, params: Params) -> dict:
    """Hard negatives of the training questions alone; validation has only in-batch negatives."""
    source = Path(settings.needs)
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        with replacing(folder / f"{split}.parquet") as partial:  # what is there may be a link to the source
            shutil.copyfile(source / f"{split}.parquet", partial)
    labels, soft = read_labels(source / "train.parquet")
    questions = with_labelled(rows["train"], labels)
    known = positives(labels, soft, source.name)
    encoder = load_encoder(first_checkpoint(Path(settings.encoder)))
    numbers = settings.per_query, settings.depth, settings.below, params.label.batch_tokens
    negatives = mine(questions, known, encoder, *numbers)
    write_rows(folder / NEGATIVES_FILE, negatives, NEGATIVES)
    found = {negative["query_id"] for negative in negatives}
    return {
        "queries": len(questions),
        "queries_without_positive": sum(row["query_id"] not in known for row in questions),
        "queries_without_negative": len(questions) - len(found),
        "negatives": len(negatives),
    }


def on_policy(folder: Path, rows: dict[str, list[Row]], settings: OnPolicyLabels, params: Params) -> dict:
    """A reader's labels of what the encoder retrieves from each split's passages, and of the given candidates."""
    from bitter_retrieval.readers.language_model import load_reader

    encoder = load_encoder(first_checkpoint(Path(settings.encoder)))
    asked = {split: retrieved(rows[split], encoder, settings.per_query, params.label.batch_tokens) for split in SPLITS}
    labels = score_splits(
        load_reader(Path(settings.needs)), asked, params.label, bar, say, tracked=params.tracking.mlflow
    )
    for split in SPLITS:
        write_rows(folder / f"{split}.parquet", labels[split], SOFT_LABELS)
    return {split: soft_account(asked[split], labels[split]) for split in SPLITS}


def reranker(folder: Path, rows: dict[str, list[Row]], settings: RerankerLabels, params: Params) -> dict:
    """A cross-encoder's labels; `agreement` is how often its best candidate is that of the source it has learnt."""
    from bitter_retrieval.training.reranker import HALVES, cross_fitted

    source = Path(settings.needs)
    given = {split: read_rows(source / f"{split}.parquet", SOFT_LABELS) for split in SPLITS}
    candidates = {split: with_labelled(rows[split], given[split]) for split in SPLITS}
    asked = {split: with_empty(candidates[split]) for split in SPLITS}
    taught = with_empty(scored_rows(candidates["train"], given["train"])[0])
    losses = soft_targets(taught, given["train"], source.name, scale=1.0).nll
    start = first_checkpoint(Path(settings.encoder))
    with bar(f"derive {folder.name}", len(HALVES) * settings.fit.steps, "step") as advance:
        scores = cross_fitted(start, (taught, losses), asked, settings.fit, params.label.batch_tokens, advance)
    counted = {}
    for split in SPLITS:
        labels = reranked(asked[split], scores[split], settings.fit.temperature)
        write_rows(folder / f"{split}.parquet", labels, SOFT_LABELS)
        best, known = (positives(each, True, folder.name) for each in (labels, given[split]))
        agreement = sum(1 - share_outside(best[query], known[query]) for query in known) / max(1, len(known))
        counted[split] = {**soft_account(candidates[split], labels), "agreement": round(agreement, 4)}
    return counted


def reranked(rows: list[Row], scores: list[np.ndarray], temperature: float) -> list[Row]:
    """Labels whose softmax(-label / temperature) over a question's candidates is that of the scores."""
    return [
        {
            "query_id": row["query_id"],
            "passage_id": passage["passage_id"],
            "answer_index": 0,
            "nll_sum": float(-temperature * score),
            "n_tokens": None,
        }
        for row, of_row in zip(rows, scores, strict=True)
        for passage, score in zip(row["passages"], of_row, strict=True)
    ]


if __name__ == "__main__":
    run_stage(main)
