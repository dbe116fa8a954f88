"""Two processes that torchrun starts learn what one learns: gradients, a step, and what the stage writes.

It runs this file, each of whose processes leaves what it has found in the project's folder.
"""

import csv
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from small_project import TRAIN, VALIDATION, make_project
from torch import Tensor

import train as stage
from bitter_retrieval.training.distributed import ALONE, Group, Processes, join
from bitter_retrieval.training.loop import train_encoder
from bitter_retrieval.training.objective import Objective
from bitter_retrieval.training.sets import TrainingSet, training_set

ROOT = Path(__file__).parents[2]
COUNT = 2
RUNS = {"infonce": tiny.truth_labelled, "full_modular": tiny.soft_labelled}  # mse has weights besides the encoder's
BATCHES = {"ragged": np.array([7, 2, 3, 11, 0, 13, 8]), "one query": np.array([5])}  # the second leaves a rank none
SETTINGS = replace(tiny.PARAMS.train, epochs=1, queries_per_batch=len(TRAIN), learning_rate=0.003)
Found = dict[str, dict[str, Tensor]]


def learn(processes: Processes) -> Found:
    """Gradients of each run and batch, and the weights after one step."""
    found = {}
    for name, targets in RUNS.items():
        encoder, run = tiny.tiny_encoder(), tiny.RUNS[name]
        data, held_out = (training_set(rows, targets(rows), encoder) for rows in (TRAIN, VALIDATION))
        for size, places in BATCHES.items():
            found[f"{name}, {size}"] = gradients(encoder, run, data, places, processes)
        encoder.double()  # else Adam makes a step of what rounding leaves where a gradient is zero
        train_encoder(encoder, data, held_out, run, SETTINGS, 0, lambda *_: None, processes=processes)
        found[f"{name}, step"] = {name: weight.detach() for name, weight in encoder.named_parameters()}
    return found


def gradients(encoder: Any, run: Any, data: TrainingSet, places: np.ndarray, processes: Processes) -> dict[str, Tensor]:
    objective = Objective(run, 64, processes=processes)
    total = objective(encoder, data, places).total
    total.backward()
    processes.sum_gradients(encoder.parameters())
    named = [*encoder.named_parameters(), *objective.utility_map.named_parameters()]
    found = {name: weight.grad.clone() for name, weight in named if weight.grad is not None}
    encoder.zero_grad()
    return {"loss": total.detach(), **found}


def learn_with_dropout(processes: Processes) -> dict[str, Tensor]:
    """Weights after an epoch of batches of five, of one side and of both, where each process drops for itself."""
    found = {}
    for trains in ("both", "query"):
        encoder, run = tiny.tiny_encoder(), replace(tiny.RUNS["full_modular"], trains=trains)
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        data, held_out = (training_set(rows, tiny.soft_labelled(rows), encoder) for rows in (TRAIN, VALIDATION))
        settings = replace(SETTINGS, queries_per_batch=5)
        train_encoder(encoder, data, held_out, run, settings, 0, lambda *_: None, processes=processes)
        found |= {f"{trains}, {name}": weight.detach() for name, weight in encoder.named_parameters()}
    return found


def work(folder: Path) -> None:
    """The work of each process."""
    os.chdir(folder)
    torch.set_num_threads(1)
    with join() as processes:
        stage.RUNS, stage.CURVES = (Path(f"{name}{processes.rank}") for name in ("runs", "curves"))
        torch.save(learn(processes), f"found{processes.rank}.pt")
        torch.save(learn_with_dropout(processes), f"dropout{processes.rank}.pt")
        stage.train_run("kl", processes)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which two processes have trained, each writing to its own folder."""
    folder = make_project(tmp_path_factory.mktemp("distributed"), seeds=[0])
    tiny.tiny_encoder().save(folder / "models/encoders/mini")  # without dropout, which each process draws for itself
    torchrun = ["torch.distributed.run", "--nproc_per_node", str(COUNT), "--master_addr", "127.0.0.1"]
    command = [sys.executable, "-m", *torchrun, "--master_port", str(free_port()), __file__, str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    done = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone() -> Found:
    return learn(ALONE)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("size", BATCHES)
def test_gradients_are_those_of_one_process(run: str, size: str, folder: Path, alone: Found) -> None:
    wanted = alone[f"{run}, {size}"]
    for rank in range(COUNT):
        found = torch.load(folder / f"found{rank}.pt")[f"{run}, {size}"]
        assert found.keys() == wanted.keys() and wanted["loss"] > 0
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=f"{name} of rank {rank}")
    assert max(gradient.abs().max() for gradient in wanted.values()) > 0.1


@pytest.mark.parametrize("run", RUNS)
def test_step_is_that_of_one_process(run: str, folder: Path, alone: Found) -> None:
    start, wanted = dict(tiny.tiny_encoder().named_parameters()), alone[f"{run}, step"]
    first, second = (torch.load(folder / f"found{rank}.pt")[f"{run}, step"] for rank in range(COUNT))
    for name, weight in wanted.items():
        assert first[name].equal(second[name]), name
        torch.testing.assert_close(first[name], weight, rtol=0, atol=1e-5, msg=name)
    assert max((wanted[name] - start[name]).abs().max() for name in wanted) > 1e-3


@pytest.mark.parametrize("trains", ["both", "query"])
def test_processes_that_drop_for_themselves_keep_the_same_weights(trains: str, folder: Path) -> None:
    start = dict(tiny.tiny_encoder().named_parameters())
    first, second = (torch.load(folder / f"dropout{rank}.pt") for rank in range(COUNT))
    moved = {name: first[f"{trains}, {name}"] - weight.detach() for name, weight in start.items()}
    assert all(first[name].equal(second[name]) and first[name].isfinite().all() for name in first)
    assert max(difference.abs().max() for difference in moved.values()) > 1e-3


def test_first_process_alone_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not (folder / "runs1").exists() and not (folder / "curves1").exists()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["train.py", "kl"])
    stage.main()
    curves = []
    for place in (folder / "curves0/kl.csv", folder / "plots/curves/kl.csv"):
        with place.open() as file:
            curves.append([{name: float(value or 0) for name, value in row.items()} for row in csv.DictReader(file)])
    together, one = curves
    assert len(together) == len(one) == 8
    for found, wanted in zip(together, one, strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert (folder / "runs0/kl/seed0/model.safetensors").exists()


def test_dropout_differs_between_processes_and_is_unchanged_in_the_first() -> None:
    seeds = [Group(rank, 3).seed(seed) for rank in range(3) for seed in range(100)]
    assert seeds[:100] == [ALONE.seed(seed) for seed in range(100)] == list(range(100)) and len(set(seeds)) == 300


if __name__ == "__main__":
    work(Path(sys.argv[1]))
