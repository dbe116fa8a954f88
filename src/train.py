"""Stage train: one run, an encoder per seed.

    python src/train.py kl
    torchrun --nproc_per_node 2 src/train.py kl

Reads data/prepared/{train,validation}.parquet, the run's labels and its encoder; writes models/runs/<run>/seed<k>/ and
plots/curves/<run>.csv, and logs the curves to MLflow. A killed stage resumes from .journal/training/ and ends with the
same weights. Several processes share the work of every batch and the first writes; they save no state to resume from.
"""

import csv
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from bitter_retrieval.command_line import Advance, bar, named, run_stage
from bitter_retrieval.encoders.encoder import load_encoder, save_passage_encoder
from bitter_retrieval.journal import journal_folder
from bitter_retrieval.labels.soft import LabelError
from bitter_retrieval.labels.targets import (
    Targets,
    binary_targets,
    mined_negatives,
    scored_rows,
    soft_targets,
    with_empty,
    with_labelled,
)
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.models.pretrained import TRAINED
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.records import PREPARED, read_labels, read_rows
from bitter_retrieval.tracking import folder_md5, open_tracker
from bitter_retrieval.training.distributed import ALONE, Processes, join
from bitter_retrieval.training.loop import UNSAVED, train_encoder
from bitter_retrieval.training.sets import TrainingSet, epoch_batches, training_set
from bitter_retrieval.training.settings import Run
from bitter_retrieval.training.state import Metrics, SavedState, TrainingState, fingerprint

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")
ENCODERS = Path("models/encoders")
RUNS = Path("models/runs")
CURVES = Path("plots/curves")


def main() -> None:
    name, _ = named("runs", load_params().runs)
    with join() as processes:
        train_run(name, processes)


def train_run(name: str, processes: Processes) -> None:
    keep_freed_memory()
    params = load_params()
    run = params.runs[name]
    train, validation = load_sets(params, run)
    for split, data in {"train": train, "validation": validation}.items():
        if data.cut and processes.first:
            texts = len(data.queries) + len(data.passages)
            print(f"{run.encoder}: {data.cut:,} of {texts:,} texts of {split} lost their tail at max_length")
    curves: list[Metrics] = []
    states = saved_states(params, run, train, validation, processes)
    batches = sum(1 for _ in epoch_batches(train.groups, params.train.queries_per_batch, 0, 0))
    with steps_bar(name, batches * params.train.epochs * len(states), processes) as advance:
        for seed, state in states.items():
            curves += train_seed(name, seed, params, train, validation, state, processes, advance)
    if processes.first:
        write_curves(CURVES / f"{name}.csv", curves)
    for state in states.values():
        state.remove()


def steps_bar(name: str, steps: int, processes: Processes) -> AbstractContextManager[Advance]:
    return bar(f"train {name}", steps, "step") if processes.first else nullcontext(lambda _: None)


def load_sets(params: Params, run: Run) -> tuple[TrainingSet, TrainingSet]:
    """Training and validation set of a run, tokenised once for all seeds."""
    encoder = load_encoder(ENCODERS / run.encoder, TRAINED)
    rows = {split: read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED) for split in ("train", "validation")}
    mined = mined_negatives(LABELS / run.labels, rows["train"])
    scale = None
    targets: dict[str, Targets] = {}
    for split in rows:
        labels, soft = read_labels(LABELS / run.labels / f"{split}.parquet")
        rows[split] = with_labelled(rows[split], labels)
        if soft:
            rows[split], queries, candidates = scored_rows(rows[split], labels)
            if candidates:
                print(f"{run.labels}: no label for {candidates} candidates of {split}, {queries} queries left out")
            if not rows[split]:
                raise LabelError(
                    f"labels {run.labels}: no query of {split} has labels to learn from. `label.unscorable: error` "
                    "stops at what the reader cannot score, and says why."
                )
            if run.empty_candidate:
                rows[split] = with_empty(rows[split])
            targets[split] = soft_targets(rows[split], labels, run.labels, run.nll, run.references, scale, run.gain)
            scale = targets[split].scale  # train comes first: validation is measured by its scale
        else:
            targets[split] = binary_targets(rows[split], labels, run.labels)
    return (
        training_set(rows["train"], targets["train"], encoder, mined),
        training_set(rows["validation"], targets["validation"], encoder),
    )


def saved_states(
    params: Params, run: Run, train: TrainingSet, validation: TrainingSet, processes: Processes = ALONE
) -> dict[int, TrainingState]:
    """The saved state of each seed's training, outside the outs."""
    seeds = run.seeds or params.train.seeds
    if processes.count > 1:
        return dict.fromkeys(seeds, UNSAVED)
    key = fingerprint(load_encoder(ENCODERS / run.encoder), (train, validation), run, params.train)
    folder = journal_folder() / "training" / key
    return {seed: SavedState(folder / f"seed{seed}.pt", params.train.checkpoint_seconds) for seed in seeds}


def train_seed(
    name: str,
    seed: int,
    params: Params,
    train: TrainingSet,
    validation: TrainingSet,
    state: TrainingState,
    processes: Processes,
    advance: Advance,
) -> list[Metrics]:
    """Train and save one seed; returns its curve."""
    run = params.runs[name]
    encoder = load_encoder(ENCODERS / run.encoder)
    curve: dict[int, Metrics] = {}
    settings = {"run": name, "seed": seed, **vars(run), "train": vars(params.train)}
    tags = {"run": name, "seed": str(seed), "labels": run.labels, "encoder": run.encoder}
    tags |= {"labels.md5": folder_md5(LABELS / run.labels), "encoder.md5": folder_md5(ENCODERS / run.encoder)}
    shown = params.train.mlflow and processes.first
    with open_tracker(shown, "train", f"{name}-seed{seed}", settings, tags) as tracker:

        def on_step(step: int, metrics: Metrics) -> None:
            if step in curve:
                curve[step].update(metrics)
            else:
                curve[step] = {"seed": seed, "step": step, **metrics}
                advance(1)
            tracker.log(step, metrics)

        kept = train_encoder(encoder, train, validation, run, params.train, seed, on_step, state, processes)
        tracker.log(int(kept["step"]), {f"kept/{figure}": value for figure, value in kept.items()})
    if processes.first:
        folder = RUNS / name / f"seed{seed}"
        encoder.save(folder)
        if run.trains == "query":
            save_passage_encoder(folder, ENCODERS / run.encoder)
    return list(curve.values())


def write_curves(path: Path, curves: list[Metrics]) -> None:
    """One row per step, one column per metric; a metric that a step did not measure is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in curves for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in curves)


if __name__ == "__main__":
    run_stage(main)
