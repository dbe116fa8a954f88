"""Shared by the command lines of the benchmarks: common options, and the report."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import measuring
import torch

RESULTS = Path(__file__).resolve().parent / "results"
TOLD = ("turns", "queries", "questions", "steps", "batch", "budget", "lengths", "smoke")


class NotMeasured(Exception):
    """The reason why a model cannot be measured here."""


def parser(about: str, models: Sequence[str], budget: int) -> argparse.ArgumentParser:
    """A parser with the common options. about: the script's docstring; budget: default tokens in a batch of ours."""
    made = argparse.ArgumentParser(description=about.split("\n")[0])
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    made.add_argument("--models", nargs="+", choices=models, help="default: those of the device")
    made.add_argument("--turns", type=int, help="rounds in which the ways take turns (default 5)")
    made.add_argument("--budget", type=int, default=budget, help=f"tokens in a batch of ours (default {budget})")
    add_lengths(made, measuring.Lengths())
    made.add_argument("--out", type=Path, help="folder of the report (default benchmarks/results; --smoke: none)")
    made.add_argument("--smoke", action="store_true", help="tiny sizes: seconds, no meaningful figures")
    return made


def add_lengths(made: argparse.ArgumentParser, usual: measuring.Lengths) -> None:
    told = f"mean tokens of random queries, passages and answers (default {' '.join(map(str, usual))})"
    made.add_argument("--lengths", nargs=3, type=int, metavar=("Q", "P", "A"), default=list(usual), help=told)


def parse(
    made: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    models: Mapping[str, Sequence[str]],
    smoke_models: Sequence[str],
) -> argparse.Namespace:
    """Options with defaults filled in. models: names measured by default, by device."""
    options = made.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        made.error("torch sees no CUDA device: install a CUDA build of it, or leave --device out")
    options.models = options.models or list(smoke_models if options.smoke else models[options.device])
    options.out = options.out or (None if options.smoke else RESULTS)
    options.turns = options.turns or (1 if options.smoke else 5)
    options.lengths = measuring.Lengths(*options.lengths)
    return options


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """The options that decide figures, as JSON can hold them."""
    told = {key: value for key, value in vars(options).items() if key in TOLD and value}
    return {key: " ".join(map(str, value)) if key == "lengths" else value for key, value in told.items()}


def run(
    name: str,
    title: str,
    options: argparse.Namespace,
    packages: Sequence[str],
    measure: Callable[[str, argparse.Namespace], dict[str, Any]],
    tables: Callable[[str, dict[str, Any], str], list[measuring.Table]],
) -> None:
    """Measure one model after the other; results/<name>-<device> is written after each, so that none is lost.

    measure: figures of a model, as JSON can hold them; `not_run` is the reason if there are none. tables: tables from a
    model's name, its figures, and the device.
    """
    found: dict[str, Any] = {}
    shown: list[measuring.Table] = []
    for model in options.models:
        try:
            found[model] = measure(model, options)
            shown += tables(model, found[model], options.device)
        except NotMeasured as error:
            found[model] = {"not_run": str(error)}
            shown += [measuring.Table(model, ["", ""], [["", str(error)]])]
        if options.device == "cuda":
            torch.cuda.empty_cache()
        if options.out:
            measured = {
                "machine": measuring.machine(options.device),
                "versions": measuring.versions("torch", "transformers", "tokenizers", *packages),
                "parameters": parameters(options),
                "models": found,
            }
            measuring.write(options.out, f"{name}-{options.device}", title, measured, shown)
    measuring.show(shown)
