"""Stage prepare: the data's source, split and in one layout.

Writes data/prepared/{reader,train,validation,test,corpus}.parquet (records.py) and metrics/prepare.json, which counts
what there is and what was left out.
"""

import json
from collections import Counter
from pathlib import Path

from bitter_retrieval.params import Data, load_params
from bitter_retrieval.records import CORPUS, PREPARED, Row, passage_texts, write_rows
from bitter_retrieval.squad import squad_splits
from bitter_retrieval.stage import run_stage
from bitter_retrieval.world import World

PREPARED_FOLDER = Path("data/prepared")
METRICS = Path("metrics/prepare.json")
SPLITS = ("reader", "train", "validation", "test")

Prepared = tuple[dict[str, list[Row]], list[Row], dict[str, int]]  # splits, corpus, what was left out


def main() -> None:
    data = load_params().data
    splits, corpus, counts = from_world(data) if data.source == "synthetic" else from_squad(data)
    for split in SPLITS:
        write_rows(PREPARED_FOLDER / f"{split}.parquet", splits[split], PREPARED)
    write_rows(PREPARED_FOLDER / "corpus.parquet", corpus, CORPUS)
    METRICS.parent.mkdir(exist_ok=True)
    METRICS.write_text(json.dumps(summary(splits, corpus, counts), indent=2) + "\n")


def from_world(data: Data) -> Prepared:
    """The generated world. Training clusters are drawn last: more of them leave all other splits as they are."""
    world = World(data.seed, data.world.hard_only, data.world.misleading_mentions)
    sizes = {split: getattr(data.world, f"{split}_clusters") for split in ("reader", "validation", "test")}
    splits = world.splits({**sizes, "distractor": data.world.distractor_clusters, "train": data.world.train_clusters})
    texts = passage_texts(splits["test"] + splits.pop("distractor"))
    return splits, [{"passage_id": key, "text": text} for key, text in texts.items()], {}


def from_squad(data: Data) -> Prepared:
    shares = {split: getattr(data.articles, split) for split in SPLITS}
    return squad_splits(Path(data.path), data.seed, data.candidates, shares)


def summary(splits: dict[str, list[Row]], corpus: list[Row], counts: dict[str, int]) -> dict[str, object]:
    """Counts of questions, groups and candidates by split, and of what was left out."""
    return {
        "splits": {split: _split_summary(rows) for split, rows in splits.items()},
        "corpus_passages": len(corpus),
        "source": counts,
    }


def _split_summary(rows: list[Row]) -> dict[str, object]:
    passages = [passage for row in rows for passage in row["passages"]]
    roles = Counter(passage["role"] for passage in passages if passage["role"])
    return {
        "questions": len(rows),
        "groups": len({row["group_id"] for row in rows}),
        "passages": len(passage_texts(rows)),
        "candidates": len(passages),
        "selected": sum(passage["is_selected"] == 1 for passage in passages),
        "candidates_by_role": dict(sorted(roles.items())),
    }


if __name__ == "__main__":
    run_stage(main)
