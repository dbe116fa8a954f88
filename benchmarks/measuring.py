"""Shared by the benchmarks: clocks, matmul rates, peak memory, the machine's description, and the report.

A small virtual machine's speed varies with its neighbours, so ways take turns and are compared turn by turn:

    seconds = {"original": [12.1, 14.0], "ours": [3.0, 3.6]}      spread(ratios) is "3.96 [3.89 to 4.03]"
"""

import ctypes
import gc
import json
import multiprocessing
import os
import platform
import random
import re
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own lines; read when torch is loaded

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import linear
from transformers import PreTrainedTokenizerFast

from bitter_retrieval.models.memory import M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD, keep_freed_memory

Result = TypeVar("Result")

CANDIDATES = 10  # passages that come with a question in MS MARCO
SQUARE = 2048  # side of the square matrices whose product is the plain matmul rate
WIDE = 130  # columns of the tables without a terminal
REPEATS = {"cpu": 1, "cuda": 20}  # products timed in a row: a single one is too short on a GPU
OPERATION_GROUPS = {  # of a profile, by torch's name of an outermost operation; the first match counts
    "attention": r"attn|attention|bmm|matmul|^softmax$|^_softmax$",
    "log-softmax and cross-entropy": r"log_softmax|cross_entropy|nll_loss|argmax|^eq$|^all$",
    "linear layers": r"linear|addmm|^mm$",
    "copies and gathers": r"copy|index|gather|cat$|^to$|clone|contiguous|reshape|flatten|embedding|repeat|slice|select|"
    r"split|view|expand|transpose|empty|zeros|ones|arange|tensor|item|detach|lift",
}
ELEMENTWISE = "norms, rotary, activations, other elementwise"


class Lengths(NamedTuple):
    """Mean tokens of random texts. A passage's standard deviation is half of its mean, an answer's two thirds.

    The default is about MS MARCO v1.1's, in a vocabulary of 30,000 to 150,000 words.
    """

    query: int = 10
    passage: int = 80
    answer: int = 15

    def spread(self, of: str) -> tuple[float, float]:
        """Mean and standard deviation of a `passage` or an `answer`."""
        mean = getattr(self, of)
        return mean, {"passage": mean / 2, "answer": 2 * mean / 3}[of]


# -- texts -----------------------------------------------------------------------------------------------------------


def word_tokenizer(size: int, words: Sequence[str] = ()) -> Any:
    """A tokenizer with one token a word: `words`, then w0, w1, … up to `size` tokens."""
    words = ["<pad>", "<unk>", "<end>", *words]
    words += [f"w{number}" for number in range(size - len(words))]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def random_text(draw: random.Random, words: Sequence[str], mean: float, deviation: float = 0) -> str:
    return " ".join(draw.choices(words, k=max(1, round(draw.gauss(mean, deviation)))))


# -- time ------------------------------------------------------------------------------------------------------------


def timed(function: Callable[[], Result], device: str) -> tuple[float, Result]:
    """(seconds, result); seconds include work that the device finishes later."""
    started = now(device)
    result = function()
    return now(device) - started, result


def now(device: str) -> float:
    """Seconds on a clock, after the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """How many times as long `slow` took, turn by turn."""
    return [s / f for s, f in zip(slow, fast, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f} to {max(values):.{digits}f}]"


# -- the machine's best rate -----------------------------------------------------------------------------------------


def block_linears(model: Any) -> list[torch.nn.Linear]:
    """The linear layers of a model's blocks, without the output head."""
    head = model.get_output_embeddings()
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]


def block_weights(model: Any) -> int:
    """Weights of these layers; an encoder's pooler, which nothing uses, is none of them."""
    pooler = getattr(model, "pooler", None)
    unused = set(pooler.modules()) if pooler is not None else set()
    return sum(layer.weight.numel() for layer in block_linears(model) if layer not in unused)


@torch.inference_mode()
def matmul_rates(model: Any, rows: int, head_rows: int, device: str) -> dict[str, float]:
    """FLOP/s of matrix products: square ones, and a pass through nothing but the model's linear layers.

    `rows` tokens pass each linear layer of the blocks, `head_rows` of them the output head. Each shape is measured once
    and counts as often as layers have it, so shapes are weighted by their FLOPs.
    """
    square = torch.randn(SQUARE, SQUARE, device=device).to(model.dtype)
    seconds = flops = 0.0
    known: dict[torch.Size, float] = {}
    for layer in block_linears(model):
        if layer.weight.shape not in known:
            known[layer.weight.shape] = product_seconds(layer.weight, rows, device)
        seconds += known[layer.weight.shape]
        flops += 2 * rows * layer.weight.numel()
    head = model.get_output_embeddings().weight
    seconds += product_seconds(head, head_rows, device)
    flops += 2 * head_rows * head.numel()
    return {"square": 2 * SQUARE**3 / product_seconds(square, SQUARE, device), "own_shapes": flops / seconds}


def product_seconds(weight: torch.Tensor, rows: int, device: str) -> float:
    states = torch.randn(rows, weight.shape[1], device=device).to(weight.dtype)
    repeats = REPEATS[device]

    def products() -> None:
        for _ in range(repeats):
            linear(states, weight)

    products()
    return statistics.median(timed(products, device)[0] for _ in range(3)) / repeats


def distinct_prefixes(sequences: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Over all distinct prefixes of the sequences: their number, and the sum of their lengths.

    A causal model computes at least the first number of tokens, which attend to the second number of tokens.
    """
    count = lengths = 0
    before: Sequence[int] = []
    for sequence in sorted(sequences):
        length, shared = len(sequence), len(os.path.commonprefix([before, sequence]))
        count += length - shared
        lengths += (length * (length + 1) - shared * (shared + 1)) // 2
        before = sequence
    return count, lengths


# -- where time goes -------------------------------------------------------------------------------------------------


def profile_groups(function: Callable[[], Any], device: str) -> tuple[float, dict[str, float]]:
    """(seconds of a profiled call, seconds in torch's operations by group); on CUDA, seconds of the device."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        wall, _ = timed(function, device)
    groups = dict.fromkeys(["linear layers", *OPERATION_GROUPS, ELEMENTWISE], 0.0)
    for event in profile.events():
        inside = event.cpu_parent is not None and "::" in event.cpu_parent.name
        if "::" in event.name and not inside and event.device_type == torch.autograd.DeviceType.CPU:
            spent = event.device_time_total if device == "cuda" else event.cpu_time_total
            groups[_group(event.name)] += spent / 1e6
    return wall, groups


def _group(operation: str) -> str:
    name = operation.split("::")[-1]
    return next((group for group, names in OPERATION_GROUPS.items() if re.search(names, name)), ELEMENTWISE)


# -- memory ----------------------------------------------------------------------------------------------------------


@contextmanager
def system_allocator() -> Iterator[None]:
    """In its body, freed memory goes back to the system, as in a process with glibc's defaults."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    for setting, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 64 << 20), (M_TOP_PAD, 128 << 10)):
        libc.mallopt(setting, value)  # the values that glibc's dynamic thresholds reach after freeing blocks of 32 MiB
    libc.malloc_trim(0)
    try:
        yield
    finally:
        keep_freed_memory()


def cpu_peak(function: Callable[[], Any]) -> int | None:
    """Peak bytes of this process during a call, beyond those before it; None if the system does not report them."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # otherwise the call reuses memory left over from loading
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading the model
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return None
    function()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def cuda_peak(function: Callable[[], Result]) -> tuple[int, Result]:
    """(peak bytes allocated during a call, beyond those before it; its result)."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = function()
    return torch.cuda.max_memory_allocated() - before, result


def in_fresh_process(modules: list[str], function: Callable[..., Result], *arguments: Any) -> Result:
    """Result of a call in a new process that has only imported `modules`, if they are installed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(modules)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


# -- report ----------------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def machine(device: str) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory": size(memory),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_memory": size(properties.total_memory), "cuda": torch.version.cuda}
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def versions(*packages: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def write(folder: Path, name: str, title: str, measured: Mapping[str, Any], tables: Sequence[Table]) -> None:
    """Write the tables to <name>.md and everything measured to <name>.json, without dates, so that runs compare."""
    folder.mkdir(parents=True, exist_ok=True)
    about = ["machine", "versions", "parameters"]
    described = [f"{part}: " + ", ".join(f"{key} {value}" for key, value in measured[part].items()) for part in about]
    text = "\n\n".join([f"# {title}", *described, *map(markdown, tables)]) + "\n"
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(measured, indent=2) + "\n")


def show(tables: Sequence[Table]) -> None:
    """Print tables; as Markdown if rich is not installed."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        print("\n\n".join(map(markdown, tables)))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    for table in tables:
        shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=table.title, title_justify="left")
        for place, head in enumerate(table.heads):
            shown.add_column(head, justify="right" if place else "left", overflow="fold")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def markdown(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(table.heads, *table.rows, strict=True)]
    rows = [table.heads, ["-" * width for width in widths], *table.rows]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([f"## {table.title}", "", *lines])
