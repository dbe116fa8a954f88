"""Measured rates: what benchmarks/results/ holds, a row a machine, kind of work and model.

    measured(Path("benchmarks/results"), {"minilm": 10_616_832})
    [Rate(machine="Intel(R) Xeon(R) Processor, 2 cores", work="label", model="qwen3_100m", weights=2.5e7,
          tokens=3334, flops=2.34e11, matmul=4.28e11, times=9.8, against="original", file="label-cpu.json"), …]

A FLOP is an addition or a multiplication of the matrices in a model's blocks and head: two for each weight and token
forwards, six with the backward pass (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Attention itself is left out,
but for `label`, which counts it. Results of tiny sizes (`small`) are no rates.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

FORWARD, TRAINING = 2, 6  # FLOPs a weight and token
WORKS = {"label": "labelling", "train": "training", "encode": "encoding", "generate": "answering"}
AGAINST = {"label": "original", "train": "original", "generate": "one by one", "encode": "sentence-transformers"}
OURS = "ours"
Found = Mapping[str, Any]


class RatesError(ValueError):
    """A file of results that cannot be read, or a machine that nothing was measured on."""


@dataclass(frozen=True)
class Rate:
    """How fast a machine does a kind of work with a model, by ours."""

    machine: str
    work: str  # a key of WORKS
    model: str
    weights: float  # of the model's blocks
    tokens: float  # a second
    flops: float  # a second, attained
    matmul: float | None  # FLOP/s of the machine's own products
    times: float | None  # ours is faster than `against`
    against: str
    file: str

    @property
    def share(self) -> float | None:
        return self.flops / self.matmul if self.matmul else None


def measured(folder: Path, weights: Mapping[str, float]) -> list[Rate]:
    """All rates. weights: of the blocks of models whose results do not say it. Raises RatesError."""
    files = {path.name: _read(path) for path in sorted(folder.glob("*.json"))}
    files = {name: found for name, found in files.items() if not found.get("small")}
    return of_files(files, weights)


def of_files(files: Mapping[str, Found], weights: Mapping[str, float]) -> list[Rate]:
    """All rates of results by file."""
    known = dict(weights) | {model: own for found in files.values() for model, own in _stated(found)}
    matmul = _matmul(files)
    return [
        rate
        for name, found in files.items()
        for work, models in _parts(name, found).items()
        for rate in _rates(work, models, known, machine_of(found), matmul.get(machine_of(found)), name)
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        machine_of(found)
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RatesError(f"{path}: no result of benchmarks/ ({error!r}). Delete it, or measure again.") from error


def machine_of(found: Found) -> str:
    """The GPU, or the processor and its cores."""
    machine = found["machine"]
    return machine["gpu"] if "gpu" in machine else f"{machine['cpu']}, {machine['cores']} cores"


def _parts(name: str, found: Found) -> dict[str, Found]:
    """Figures by kind of work and model: gpu.py's files hold several kinds, the others their own."""
    parts = found["parts"] if "parts" in found else {name.partition("-")[0]: found["models"]}
    return {work: models for work, models in parts.items() if work in WORKS}


def _stated(found: Found) -> Iterator[tuple[str, float]]:
    """Weights of a model's blocks, where its figures say them."""
    for models in _all(found).values():
        for model, own in models.items():
            of_loss = next(iter(own.values()), None) if isinstance(own, dict) else None
            if "weights" in own:
                yield model, own["weights"]
            elif isinstance(of_loss, dict) and "weights" in of_loss:
                yield model, of_loss["weights"]
            elif "flops" in own and "tokens" in own["flops"]:
                yield model, own["flops"]["blocks"] / (FORWARD * own["flops"]["tokens"])


def _all(found: Found) -> dict[str, Found]:
    return found.get("parts") or {"": found.get("models", {})}


def _matmul(files: Mapping[str, Found]) -> dict[str, float]:
    """FLOP/s of products by machine: the ceiling of gpu.py, else the median of those measured beside labelling."""
    beside: dict[str, list[float]] = {}
    ceilings: dict[str, float] = {}
    for found in files.values():
        machine = machine_of(found)
        if ceiling := found.get("parts", {}).get("ceilings", {}).get("products"):
            ceilings[machine] = ceiling["flops"][ceiling["usual"]]
        for models in _all(found).values():
            for own in models.values():
                beside.setdefault(machine, []).extend(one["square"] for one in own.get("matmul_rates", ()))
    return {machine: median(rates) for machine, rates in beside.items() if rates} | ceilings


def _rates(
    work: str, models: Found, known: Mapping[str, float], machine: str, matmul: float | None, file: str
) -> Iterator[Rate]:
    for model, found in models.items():
        own = next(iter(found.values())) if work == "train" and "not_run" not in found else found  # by loss
        if "not_run" in own or own.get("distinct_passages", 0) < own.get("passages", 0) * (work == "train"):
            continue  # shared passages are computed once, so tokens a second say nothing of FLOPs
        if model not in known:
            raise RatesError(f"benchmarks/results/{file}: {work}.{model}: the size of this model is not known.")
        seconds, against = own["seconds"], AGAINST[work]
        spent = median(seconds[OURS])
        tokens = own["tokens"] if "tokens" in own else own["prompt_tokens"] + own["answer_tokens"]
        weights = known[model]
        flops = (TRAINING if work == "train" else FORWARD) * weights * tokens
        if work == "label":
            flops = sum(own["flops"][part] for part in ("blocks", "attention", "head"))
        times = None
        if against in seconds:
            times = median(slow / fast for slow, fast in zip(seconds[against], seconds[OURS], strict=True))
        yield Rate(machine, work, model, weights, tokens / spent, flops / spent, matmul, times, against, file)


def on(machine: str, rates: Sequence[Rate]) -> list[Rate]:
    """The rates of the one machine whose name holds `machine`. Raises RatesError."""
    names = sorted({rate.machine for rate in rates})
    found = [name for name in names if machine.lower() in name.lower()]
    if len(found) != 1:
        which = "several machines" if found else "no machine"
        raise RatesError(
            f"--machine {machine!r}: names {which} of benchmarks/results ({'; '.join(names) or 'none is measured'}). "
            "Name one of them, measure this one (benchmarks/README.md), or give --flops."
        )
    return [rate for rate in rates if rate.machine == found[0]]


def nearest(work: str, weights: float, rates: Sequence[Rate]) -> Rate | None:
    """The rate of this work with the model that is nearest in size; None if the work was not measured."""
    own = [rate for rate in rates if rate.work == work]
    return min(own, key=lambda rate: abs(math.log(rate.weights / weights)), default=None)


# -- the table of rates ---------------------------------------------------------------------------------------------

HEADS = ["work, model, machine", "ours", "of the machine's products", "faster than"]


def rows(rates: Sequence[Rate]) -> list[list[str]]:
    """One row a machine and kind of work: the largest model measured."""
    largest: dict[tuple[str, str], Rate] = {}
    for rate in rates:
        key = rate.machine, rate.work
        if key not in largest or rate.weights > largest[key].weights:
            largest[key] = rate
    return [
        [
            f"{WORKS[rate.work]}, {rate.model}, {rate.machine}",
            f"{rate.tokens:,.0f} tokens/s",
            "" if rate.share is None else f"{rate.share:.0%}",
            "" if rate.times is None else f"{rate.against}, {rate.times:.1f} times",
        ]
        for rate in largest.values()
    ]
