"""Stage train: one run, an encoder per seed.

    python src/train.py kl
    torchrun --nproc_per_node 2 src/train.py kl

Reads data/prepared/{train,validation}.parquet, the run's labels and its encoder; writes models/runs/<run>/seed<k>/ and
plots/curves/<run>.csv, and logs to MLflow. Seeds of an encoder that is fitted here train side by side. A
killed stage resumes from .journal/training/ and ends with the same weights. Several processes of torchrun share the
work of every batch and the first writes; they save no state to resume from.
"""

import csv
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from bitter_retrieval.command_line import Advance, bar, named, run_stage, warn

# isort: split
import numpy as np

from bitter_retrieval.encoders.encoder import Encoder, load_encoder
from bitter_retrieval.journal import journal_folder
from bitter_retrieval.labels.soft import LabelError
from bitter_retrieval.labels.targets import (
    HUMAN_FILE,
    REPLACED_FILE,
    Targets,
    binary_targets,
    mined_negatives,
    scored_rows,
    soft_targets,
    with_empty,
    with_labelled,
    with_relevant,
)
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.models.pretrained import TRAINED
from bitter_retrieval.models.workers import Tell, side_by_side, use_threads
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.records import BINARY_LABELS, PREPARED, read_labels, read_rows, replacing
from bitter_retrieval.tracking import Tracker, folder_md5, open_tracker, status_after
from bitter_retrieval.training.distributed import ALONE, Processes, join
from bitter_retrieval.training.loop import UNSAVED, train_encoder
from bitter_retrieval.training.sets import TrainingSet, columns_of, epoch_batches, training_set
from bitter_retrieval.training.settings import Run
from bitter_retrieval.training.state import Metrics, SavedState, TrainingState, fingerprint

PREPARED_FOLDER = Path("data/prepared")
LABELS = Path("data/labels")
ENCODERS = Path("models/encoders")
RUNS = Path("models/runs")
CURVES = Path("plots/curves")
FLOAT = 4  # bytes
KEPT = "kept/"  # before the names of the figures of the checkpoint that is kept


def main(arguments: Sequence[str] | None = None) -> str | None:
    _, name = named("runs", __doc__, arguments)
    with join() as processes:
        return train_run(name, processes)


def train_run(name: str, processes: Processes) -> str | None:
    """What was made, in the first process."""
    keep_freed_memory()
    params = load_params()
    run = params.runs[name]
    fitted_here = params.encoders[run.encoder].fit is not None
    if fitted_here:
        use_threads(1)  # before anything is computed: with more, gradients of layer norms add in another order
    train, validation = load_sets(params, run)
    for split, data in {"train": train, "validation": validation}.items():
        if data.cut and processes.first:
            texts = len(data.queries) + len(data.passages)
            warn(f"{run.encoder}: {data.cut:,} of {texts:,} texts of {split} lost their tail at max_length")
    states = saved_states(params, run, train, validation, processes)
    batches = [*epoch_batches(train.groups, params.train.queries_per_batch, 0, 0)]

    def work(seed: int, tell: Tell) -> None:
        train_seed(name, seed, params, train, validation, states[seed], processes, tell)

    with (
        steps_bar(name, len(batches) * params.train.epochs * len(states), processes) as advance,
        Curves(name, params, processes, advance) as curves,
    ):
        if fitted_here and processes.count == 1:
            needed = bytes_of_a_seed(load_encoder(ENCODERS / run.encoder), train, batches)
            side_by_side(work, list(states), curves.add, needed, threads=1)
        else:
            for seed in states:
                work(seed, curves.add)
    if processes.first:
        write_curves(CURVES / f"{name}.csv", curves.rows(list(states)))
    for state in states.values():
        state.remove()
    steps = len(batches) * params.train.epochs
    return f"train {name}: {len(states)} seeds of {steps:,} steps" if processes.first else None


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
                warn(f"{run.labels}: no label for {candidates} candidates of {split}, {queries} queries left out")
            if not rows[split]:
                raise LabelError(
                    f"labels {run.labels}: no query of {split} has labels to learn from. `label.unscorable: error` "
                    "stops at what the reader cannot score, and says why."
                )
            if run.empty_candidate:
                rows[split] = with_empty(rows[split])
            taken = LABELS / run.labels / REPLACED_FILE.format(split)
            people = {row["query_id"] for row in read_rows(taken, BINARY_LABELS)} if taken.exists() else set()
            dials = run.nll, run.references, scale, run.gain
            targets[split] = soft_targets(rows[split], labels, run.labels, *dials, people)
            scale = targets[split].scale  # train comes first: validation is measured by its scale
            if (human := LABELS / run.labels / HUMAN_FILE.format(split)).exists():
                targets[split] = with_relevant(targets[split], rows[split], read_rows(human, BINARY_LABELS))
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
    return {seed: SavedState(folder / f"seed{seed}.pt", params.tracking.checkpoint_seconds) for seed in seeds}


def bytes_of_a_seed(encoder: Encoder, data: TrainingSet, batches: list[np.ndarray]) -> int:
    """Memory that training takes, roughly: the weights' copies, and what the largest batch leaves to go back over."""
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    kept = sum(part.in_features + part.out_features for part in encoder.modules() if hasattr(part, "out_features"))
    texts = [
        [*(data.queries[place] for place in places), *(data.passages[column] for column in columns_of(data, places))]
        for places in batches
    ]
    tokens = max(sum(map(len, batch)) for batch in texts)
    return FLOAT * (TRAINED * weights + 2 * tokens * kept)


def train_seed(
    name: str,
    seed: int,
    params: Params,
    train: TrainingSet,
    validation: TrainingSet,
    state: TrainingState,
    processes: Processes,
    tell: Tell,
) -> None:
    """Train and save one seed; `tell` gets (seed, step, metrics), and at the end the kept checkpoint's as kept/…"""
    run = params.runs[name]
    encoder = load_encoder(ENCODERS / run.encoder)

    def on_step(step: int, metrics: Metrics) -> None:
        tell((seed, step, metrics))

    kept = train_encoder(encoder, train, validation, run, params.train, seed, on_step, state, processes)
    if processes.first:
        folder = RUNS / name / f"seed{seed}"
        encoder.save(folder, ENCODERS / run.encoder if run.trains == "query" else None)
    tell((seed, int(kept["step"]), {f"{KEPT}{figure}": value for figure, value in kept.items()}))


class Curves:
    """Curves of a run's seeds, whose steps may come in turns; each is logged to MLflow from its first step to its end.

    advance: called with the number of new steps.
    """

    def __init__(self, name: str, params: Params, processes: Processes, advance: Advance) -> None:
        self._name, self._params, self._advance = name, params, advance
        self._steps: dict[int, dict[int, Metrics]] = {}
        self._trackers: dict[int, Tracker] = {}
        self._shown = params.tracking.mlflow and processes.first

    def add(self, told: tuple[int, int, Metrics]) -> None:
        """What train_seed tells. A step may be told twice, the second time with what validation adds to it."""
        seed, step, metrics = told
        if seed not in self._trackers:
            self._trackers[seed] = self._open(seed)
        self._trackers[seed].log(step, metrics)
        if f"{KEPT}step" in metrics:
            self._trackers[seed].close()
            return
        curve = self._steps.setdefault(seed, {})
        if step not in curve:
            curve[step] = {"seed": seed, "step": step}
            self._advance(1)
        curve[step].update(metrics)

    def rows(self, seeds: list[int]) -> list[Metrics]:
        """A row a step, seed by seed."""
        return [row for seed in seeds for row in self._steps[seed].values()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._trackers.values():
            tracker.close(status_after(error))
        if error is None and self._shown:
            made = folder_md5(RUNS / self._name)
            for seed, tracker in self._trackers.items():
                tracker.keep(RUNS / self._name / f"seed{seed}", made)

    def _open(self, seed: int) -> Tracker:
        run, train = self._params.runs[self._name], self._params.train
        settings = {"run": self._name, "seed": seed, **asdict(run), "train": asdict(train)}
        settings["learning_rate"] = run.learning_rate or train.learning_rate
        tags = {"run": self._name, "seed": str(seed), "labels": run.labels, "encoder": run.encoder}
        tags |= {"labels.md5": folder_md5(LABELS / run.labels), "encoder.md5": folder_md5(ENCODERS / run.encoder)}
        read = {split: PREPARED_FOLDER / f"{split}.parquet" for split in ("train", "validation")}
        read["labels"] = LABELS / run.labels
        return open_tracker(self._shown, f"{self._name}-seed{seed}", settings, tags, read)


def write_curves(path: Path, curves: list[Metrics]) -> None:
    """One row per step, one column per metric; a metric that a step did not measure is empty."""
    columns = list(dict.fromkeys(name for row in curves for name in row))
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in curves)


if __name__ == "__main__":
    run_stage(main)
