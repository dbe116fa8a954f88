"""A project of a few questions whose stages before train are done, with the default profile shrunk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
import yaml

from bitter_retrieval.records import BINARY_LABELS, PREPARED, SOFT_LABELS, write_rows

CHANGES = {"epochs": 2, "queries_per_batch": 6, "learning_rate": 0.003, "micro_batch_tokens": 256}
TRAIN, VALIDATION = tiny.world(20), tiny.world(8, first=24)


def make_project(folder: Path, checkpoint_seconds: float = 60.0, **train: Any) -> Path:
    """A project whose stages before train are done, with the real profile shrunk."""
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["train"] |= CHANGES | {"seeds": [0, 4]} | train
    tree["tracking"] = {"mlflow": False, "checkpoint_seconds": checkpoint_seconds}
    tree["control"]["random_draws"] = 1
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    for split, rows in (("train", TRAIN), ("validation", VALIDATION)):
        write_rows(folder / f"data/prepared/{split}.parquet", rows, PREPARED)
        write_rows(folder / f"data/labels/human/{split}.parquet", tiny.truth(rows), BINARY_LABELS)
        write_rows(folder / f"data/labels/reader_a/{split}.parquet", tiny.soft(rows), SOFT_LABELS)
    encoder = tiny.tiny_encoder()
    encoder.model.config.hidden_dropout_prob = 0.1  # so that weights depend on the random state
    encoder.save(folder / "models/encoders/mini")
    return folder


def edit_params(project: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tree = yaml.safe_load((project / "params.yaml").read_text())
    change(tree)
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
