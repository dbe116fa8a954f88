"""Stage train: one run, an encoder a seed.

    python src/train.py kl

Reads data/prepared/{train,validation}.parquet, the run's labels and its encoder; writes models/runs/<run>/seed<k>/ and
plots/curves/<run>.csv, and logs the curves to MLflow.
"""

import csv
import sys
from pathlib import Path

from bitter_retrieval.encoder import load_encoder
from bitter_retrieval.memory import keep_freed_memory
from bitter_retrieval.params import Params, Run, load_params
from bitter_retrieval.progress import bar
from bitter_retrieval.records import PREPARED, read_labels, read_rows
from bitter_retrieval.stage import run_stage
from bitter_retrieval.targets import Targets, binary_targets, scored_rows, soft_targets
from bitter_retrieval.tracking import open_tracker
from bitter_retrieval.training import Metrics, TrainingSet, epoch_batches, train_encoder, training_set

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")
ENCODERS = Path("models/encoders")
RUNS = Path("models/runs")
CURVES = Path("plots/curves")


def main() -> None:
    name = sys.argv[1]
    keep_freed_memory()
    params = load_params()
    run = params.runs[name]
    train, validation = load_sets(params, run)
    curves: list[Metrics] = []
    seeds = run.seeds or params.train.seeds
    batches = sum(1 for _ in epoch_batches(train.groups, params.train.queries_per_batch, 0, 0))
    with bar(f"train {name}", batches * params.train.epochs * len(seeds), "step") as advance:
        for seed in seeds:
            curves += train_seed(name, seed, params, train, validation, advance)
    write_curves(CURVES / f"{name}.csv", curves)


def load_sets(params: Params, run: Run) -> tuple[TrainingSet, TrainingSet]:
    """Training and validation set of a run, tokenised once for all seeds."""
    encoder = load_encoder(ENCODERS / run.encoder)
    rows = {split: read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED) for split in ("train", "validation")}
    scale = None
    targets: dict[str, Targets] = {}
    for split in rows:
        labels, soft = read_labels(LABELS / run.labels / f"{split}.parquet")
        if soft:
            rows[split], queries, candidates = scored_rows(rows[split], labels)
            if candidates:
                print(f"{run.labels}: no label for {candidates} candidates of {split}, {queries} queries left out")
            targets[split] = soft_targets(rows[split], labels, run.labels, run.nll, run.references, scale)
            scale = targets[split].scale  # of training: validation is measured by the same
        else:
            targets[split] = binary_targets(rows[split], labels, run.labels)
    return (
        training_set(rows["train"], targets["train"], encoder),
        training_set(rows["validation"], targets["validation"], encoder),
    )


def train_seed(
    name: str, seed: int, params: Params, train: TrainingSet, validation: TrainingSet, advance: object
) -> list[Metrics]:
    """Train and save one seed; returns its curve."""
    run = params.runs[name]
    encoder = load_encoder(ENCODERS / run.encoder)
    curve: dict[int, Metrics] = {}
    settings = {"run": name, "seed": seed, **vars(run), "train": vars(params.train)}
    tags = {"run": name, "seed": str(seed), "labels": run.labels, "encoder": run.encoder}
    with open_tracker(params.train.mlflow, "train", f"{name}-seed{seed}", settings, tags) as tracker:

        def on_step(step: int, metrics: Metrics) -> None:
            if step in curve:
                curve[step].update(metrics)
            else:
                curve[step] = {"seed": seed, "step": step, **metrics}
                advance(1)
            tracker.log(step, metrics)

        train_encoder(encoder, train, validation, run, params.train, seed, on_step)
    encoder.save(RUNS / name / f"seed{seed}")
    return list(curve.values())


def write_curves(path: Path, curves: list[Metrics]) -> None:
    """One row a step, one column a metric; a metric that was not measured at a step is left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in curves for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in curves)


if __name__ == "__main__":
    run_stage(main)
