"""What the command lines of the benchmarks share: options that all of them have, and the report at the end."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measuring
import torch

RESULTS = Path(__file__).resolve().parent / "results"
COMMON = ("turns", "budget", "smoke")


def parser(about: str, models: Sequence[str], budget: int) -> argparse.ArgumentParser:
    """Options of every benchmark; it adds its own. about: the script's docstring; budget: tokens in a batch of ours."""
    made = argparse.ArgumentParser(description=about.split("\n")[0])
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    made.add_argument("--models", nargs="+", choices=models, help="default: all that suit the device")
    made.add_argument("--turns", type=int, help="rounds in which the ways take turns (default 5)")
    made.add_argument("--budget", type=int, default=budget, help=f"tokens in a batch of ours (default {budget})")
    made.add_argument("--out", type=Path, help="folder of the report (default benchmarks/results; --smoke: none)")
    made.add_argument("--smoke", action="store_true", help="tiny sizes: seconds, no meaningful figures")
    return made


def parse(
    made: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    models: Mapping[str, Sequence[str]],
    smoke_models: Sequence[str],
) -> argparse.Namespace:
    """models: those measured by default, by device."""
    options = made.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        made.error("torch sees no CUDA device: install a CUDA build of it, or leave --device out")
    options.models = options.models or list(smoke_models if options.smoke else models[options.device])
    options.out = options.out or (None if options.smoke else RESULTS)
    options.turns = options.turns or (1 if options.smoke else 5)
    return options


def report(
    name: str,
    title: str,
    options: argparse.Namespace,
    own: Sequence[str],
    packages: Sequence[str],
    found: Mapping[str, Any],
    tables: Sequence[measuring.Table],
) -> None:
    """Tables on the terminal, and with all that was found in results/<name>-<device>. own: further options to tell."""
    told = {key: value for key, value in vars(options).items() if key in (*COMMON, *own) and value}
    measured = {
        "machine": measuring.machine(options.device),
        "versions": measuring.versions("torch", "transformers", "tokenizers", *packages),
        "parameters": told,
        "models": found,
    }
    measuring.show(tables)
    if options.out:
        measuring.write(options.out, f"{name}-{options.device}", title, measured, tables)
