"""All that a GPU has to show, on a bare machine: ceilings, labelling, training, encoding, answering, search, checks.

    python benchmarks/gpu.py                        # all parts; stops after nine minutes, goes on when called again
    python benchmarks/gpu.py label train            # these parts
    python benchmarks/gpu.py label --models qwen3_8b --lengths 8 80 15
    python benchmarks/gpu.py --small                # tiny sizes, also without a GPU: does everything run?

Random weights in the shapes of Qwen3-8B, Llama-3.1-8B, BERT-base and Nomic Embed; no network. Writes
benchmarks/results/gpu-<machine>.json and .md after every measurement. What the file holds, from the same machine,
versions and lengths, is not measured again (--again does). Without CUDA all is small, and the files say that nothing
was run on a GPU.
"""

import argparse
import datetime
import gc
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # last: src/evaluate.py must not hide evaluate

import bitter_retrieval  # noqa: F401, I001  first: sets what torch and progress bars read when they are loaded
import command
import measuring
import torch
from measuring import Lengths, Table, size, spread

from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.planning.rates import WORKS, of_files

ROOT = Path(__file__).resolve().parents[1]
LENGTHS = Lengths(8, 80, 15)  # about those of MS MARCO v1.1 by a real vocabulary
MINUTES = 9.0  # of one call: machines are lent for ten
READERS, ENCODERS = ["qwen3_8b", "llama_3_1_8b"], ["bert_base", "nomic"]
MODELS = {
    "ceilings": ["copy", "products"],
    "label": READERS,
    "train": ENCODERS,
    "encode": ENCODERS,
    "generate": READERS,
    "search": ["exact"],
    "check": ["tests"],
}
TINY = dict.fromkeys(["label", "train", "encode", "generate"], ["tiny"])
COPIED = {False: 4 << 30, True: 16 << 20}  # bytes, by whether the sizes are small
SIDE = {False: 8192, True: 256}  # of square matrices
ENCODED = {False: 20_000, True: 40}  # passages
SEARCHED = {False: (1000, 1_000_000, 768), True: (20, 2000, 32)}  # queries, passages, length of a vector
FOUND = 50  # passages that a search records
BATCH = 64  # texts in a batch of sentence-transformers
BUDGET = 16_384  # tokens in a batch of ours
AGREE = 1e-3  # distance of unit vectors, float32 on both sides
LIBRARY, PLAIN, OURS = "sentence-transformers", "product and topk", "ours"
NOT_RUN = "Not run on a GPU: torch sees no CUDA device. Sizes are tiny, and no figure says how fast anything is."
SMALL = "Sizes are tiny: no figure says how fast anything is."


# -- ceilings ------------------------------------------------------------------------------------------------------


def ceilings(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """What nothing on this machine is faster than: bytes copied within memory, FLOP/s of large products."""
    if model == "copy":
        source = torch.zeros(COPIED[options.small], dtype=torch.uint8, device=options.device)
        target = torch.empty_like(source)
        target.copy_(source)
        seconds = [measuring.timed(lambda: target.copy_(source), options.device)[0] for _ in range(10)]
        return {"bytes": 2 * len(source), "seconds": seconds}  # read and written
    side = SIDE[options.small]
    rates = {}
    for name in ("bfloat16", "float32"):
        square = torch.randn(side, side, device=options.device).to(getattr(torch, name))
        with torch.inference_mode():
            rates[name] = 2 * side**3 / measuring.product_seconds(square, side, options.device)
    return {"side": side, "flops": rates, "usual": "bfloat16" if options.device == "cuda" else "float32"}


# -- label, train and generate: as their own scripts measure -----------------------------------------------------------


def script(name: str, model: str, options: argparse.Namespace) -> dict[str, Any]:
    module = importlib.import_module(name)
    asked = ["--device", options.device, "--models", model, "--lengths", *map(str, options.lengths)]
    asked += ["--smoke"] if options.small else ["--budget", str(BUDGET)]
    asked += ["--turns", str(options.turns)]
    asked += ["--losses", "kl"] if name == "train" else []
    measure = module.measure_model if name == "train" else module.measure
    return measure(model, module.parse(asked))


# -- encode and search -------------------------------------------------------------------------------------------------


def encode(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Passages to vectors in float32, as the stage evaluate does, against sentence-transformers' own `encode`."""
    import train

    encoder = train.random_encoder(train.SHAPES[model])
    encoder.eval().to(options.device)
    draw, words = random.Random(0), sorted(word for word in encoder.tokenizer.get_vocab() if word[0] == "w")
    mean = options.lengths.spread("passage")
    texts = [measuring.random_text(draw, words, *mean) for _ in range(ENCODED[options.small])]
    runs: dict[str, Callable[[], Any]] = {OURS: partial(encoder.embed, texts, "passage", BUDGET)}
    if importlib.util.find_spec("sentence_transformers"):
        runs[LIBRARY] = library_encoding(encoder, texts, options.device)
    vectors = {way: run() for way, run in runs.items()}
    apart = {way: float(abs(found - vectors[OURS]).max()) for way, found in vectors.items() if way != OURS}
    if not max(apart.values(), default=0) <= AGREE:
        raise SystemExit(f"encode {model}: vectors of {apart} are apart, more than {AGREE}.")
    return {
        "weights": measuring.block_weights(encoder.model),
        "dtype": "float32",
        "passages": len(texts),
        "tokens": sum(map(len, encoder.tokens(texts, "passage"))),
        "largest_difference": apart,
        "seconds": turns(runs, options),
    }


def library_encoding(encoder: Any, texts: list[str], device: str) -> Callable[[], Any]:
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder))
        library = SentenceTransformer(folder, device=device)
    return partial(library.encode, texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)


def search(_: str, options: argparse.Namespace) -> dict[str, Any]:
    """Exact search with ranks of candidates, against a plain product and topk of blocks; both move the vectors."""
    import numpy as np

    from bitter_retrieval.evaluation.retrieval import PASSAGES_AT_ONCE, rank_by_vectors

    queries, passages, width = SEARCHED[options.small]
    rng = np.random.default_rng(0)
    asked, corpus = (rng.standard_normal((count, width), np.float32) for count in (queries, passages))
    ids = [f"p{place}" for place in range(passages)]
    candidates = [[ids[place] for place in rng.choice(passages, measuring.CANDIDATES)] for _ in range(queries)]

    def plain() -> list[list[int]]:
        moved = torch.tensor(asked, device=options.device)
        best, at = moved.new_empty((queries, 0)), torch.empty((queries, 0), dtype=torch.long, device=options.device)
        for start in range(0, passages, PASSAGES_AT_ONCE):
            scores = moved @ torch.tensor(corpus[start : start + PASSAGES_AT_ONCE], device=options.device).T
            values, places = scores.topk(min(FOUND, scores.shape[1]))
            best, kept = torch.cat([best, values], 1).topk(FOUND)
            at = torch.cat([at, places + start], 1).gather(1, kept)
        return at.tolist()

    ours = partial(rank_by_vectors, asked, corpus, ids, candidates, FOUND, options.device)
    runs: dict[str, Callable[[], Any]] = {OURS: ours, PLAIN: plain}
    same = [[ids[place] for place in places] == ranking.ids for places, ranking in zip(plain(), ours(), strict=True)]
    return {
        "queries": queries,
        "passages": passages,
        "width": width,
        "differing": same.count(False),
        "seconds": turns(runs, options),
    }


def turns(runs: dict[str, Callable[[], Any]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each way; they take turns."""
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(options.turns):
        for way, run in runs.items():
            seconds[way].append(measuring.timed(run, options.device)[0])
    return seconds


# -- check -------------------------------------------------------------------------------------------------------------


def check(_: str, options: argparse.Namespace) -> dict[str, Any]:
    """tests/gpu: the paths on CUDA against slow ones, and against float64 on the CPU."""
    if importlib.util.find_spec("pytest") is None:
        raise command.NotMeasured("not run: pytest is not installed")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        asked = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
        if not report.is_file():
            raise SystemExit(
                f"check: pytest ended with {ended.returncode} and no report:\n{ended.stdout}{ended.stderr}"
            )
        cases = list(ElementTree.parse(report).iter("testcase"))
    found: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in cases:
        ends = {part.tag for part in case}
        kind = "failed" if ends & {"failure", "error"} else "skipped" if "skipped" in ends else "passed"
        found[kind].append(f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name')}")
    return found


# -- what is measured, and what is known already -----------------------------------------------------------------------

PARTS: dict[str, Callable[[str, argparse.Namespace], dict[str, Any]]] = {
    "ceilings": ceilings,
    "label": partial(script, "label"),
    "train": partial(script, "train"),
    "encode": encode,
    "generate": partial(script, "generate"),
    "search": search,
    "check": check,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all measured; 3 time is up, and the same command goes on."""
    options, started = parse(arguments), time.monotonic()
    keep_freed_memory()  # as the stages do
    result = begun(options)
    if result["about"]:
        print(result["about"], file=sys.stderr)
    for part in options.parts:
        for model in options.models or models_of(part, options.small):
            if model in result["parts"].get(part, {}) and not options.again:
                continue
            if time.monotonic() - started > 60 * options.minutes:
                print(f"{options.minutes:g} minutes are up: call again to go on with {part} {model}", file=sys.stderr)
                return 3
            print(f"{part} {model}", file=sys.stderr, flush=True)
            result["parts"].setdefault(part, {})[model] = measured(part, model, options)
            write(result, options)
            gc.collect()
            if options.device == "cuda":
                torch.cuda.empty_cache()  # memory may not hold two models
    measuring.show(tables(result))
    return 0


def models_of(part: str, small: bool) -> list[str]:
    return TINY.get(part, MODELS[part]) if small else MODELS[part]


def measured(part: str, model: str, options: argparse.Namespace) -> dict[str, Any]:
    try:
        return PARTS[part](model, options)
    except command.NotMeasured as error:
        return {"not_run": str(error)}
    except ImportError as error:
        return {"not_run": f"not run: {error.name} is not installed"}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--models", nargs="+", help="of these parts (default: all of each)")
    parser.add_argument("--small", action="store_true", help="tiny sizes; without CUDA always")
    parser.add_argument("--again", action="store_true", help="measure anew what the file holds")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"nothing begins later (default {MINUTES:g})")
    parser.add_argument("--turns", type=int, help="rounds in which the ways take turns (default 3)")
    parser.add_argument("--out", type=Path, default=command.RESULTS, help="folder of the report")
    command.add_lengths(parser, LENGTHS)
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"{', '.join(unknown)}: no such part. Parts are {', '.join(PARTS)}")
    options.parts = options.parts or list(PARTS)
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.small |= options.device == "cpu"
    options.turns = options.turns or (1 if options.small else 3)
    options.lengths = Lengths(*options.lengths)
    known = {model for models in (*MODELS.values(), *TINY.values()) for model in models}
    if options.models and (unknown := [model for model in options.models if model not in known]):
        parser.error(f"{', '.join(unknown)}: no such model. Models are {', '.join(sorted(known))}")
    return options


def begun(options: argparse.Namespace) -> dict[str, Any]:
    """The result so far, or an empty one: another machine, version or length begins anew."""
    names = ("torch", "transformers", "tokenizers", "sentence_transformers", "numpy")
    fresh: dict[str, Any] = {
        "about": NOT_RUN if options.device == "cpu" else SMALL if options.small else "",
        "small": options.small,
        "machine": measuring.machine(options.device),
        "versions": measuring.versions(*names),
        "parameters": {**command.parameters(options), "passages in a batch of sentence-transformers": BATCH},
        "parts": {},
    }
    path = options.out / f"{name(options)}.json"
    if not path.is_file():
        return fresh
    known = json.loads(path.read_text(encoding="utf-8"))
    other = [key for key in fresh if key != "parts" and known.get(key) != fresh[key]]
    if other:
        print(f"{path}: has other {', '.join(other)}; measured anew", file=sys.stderr)
        return fresh
    return known


def name(options: argparse.Namespace) -> str:
    """Of the files: gpu-nvidia-h200, or gpu-small-cpu."""
    machine = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    slug = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")
    return f"gpu-small-{slug}" if options.small else f"gpu-{slug}"


# -- report ------------------------------------------------------------------------------------------------------------


def write(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Both files, each whole or not at all: a call may be cut off at any time."""
    result["date"] = datetime.date.today().isoformat()
    with tempfile.TemporaryDirectory(dir=made(options.out)) as folder:
        title = "On a GPU" if options.device == "cuda" else "Not run on a GPU"
        measuring.write(Path(folder), name(options), title, result, tables(result))
        for file in Path(folder).iterdir():
            os.replace(file, options.out / file.name)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tables(result: dict[str, Any]) -> list[Table]:
    parts = result["parts"]
    device = "cuda" if "gpu" in result["machine"] else "cpu"
    wanted = [(part, model) for part in PARTS for model in models_of(part, result["small"])]
    lacking = ", ".join(f"{part} {model}" for part, model in wanted if model not in parts.get(part, {}))
    rows = [["date", result["date"]], ["not measured yet", lacking or "nothing"]]
    found = [Table(result["about"] or f"Measured on {result['machine']['gpu']}", ["", ""], rows)]
    found += [ceiling_table(parts["ceilings"])] if "ceilings" in parts else []
    found += [table] if (table := summary(result)).rows else []
    for part in ("label", "train", "generate"):
        for model, own in parts.get(part, {}).items():
            module = importlib.import_module(part)
            found += [] if "not_run" in own else module.tables(f"{part} {model}", own, device)
    for part in ("encode", "search"):
        for model, own in parts.get(part, {}).items():
            found += [] if "not_run" in own else [plain_table(f"{part} {model}", own)]
    for own in parts.get("check", {}).values():
        if "not_run" not in own:
            rows = [
                [kind, str(len(cases)), "; ".join(cases) if kind == "failed" else ""] for kind, cases in own.items()
            ]
            found.append(Table("check: tests/gpu", ["", "tests", ""], rows))
    return found


def ceiling_table(found: dict[str, Any]) -> Table:
    rows = []
    if copy := found.get("copy"):
        rows.append(
            [
                f"copy of {size(copy['bytes'] / 2)}",
                spread([copy["bytes"] / s / 1e9 for s in copy["seconds"]], 1) + " GB/s",
            ]
        )
    if products := found.get("products"):
        for dtype, rate in products["flops"].items():
            rows.append([f"products of {products['side']}³, {dtype}", f"{rate / 1e12:.3g} TFLOP/s"])
    return Table("Ceilings", ["", "median [least to most]"], rows)


def summary(result: dict[str, Any]) -> Table:
    """A row for each measurement: what ours does, its share of the products' rate, and against the other way."""
    rows = [
        [
            f"{WORKS[rate.work]}, {rate.model}",
            f"{rate.tokens:,.0f}",
            "" if rate.share is None else f"{100 * rate.share:.1f}",
            "" if rate.times is None else f"{rate.times:.2f} ({rate.against})",
        ]
        for rate in of_files({"gpu": result}, {})
    ]
    for part, models in result["parts"].items():
        rows += [[f"{part}, {model}", own["not_run"], "", ""] for model, own in models.items() if "not_run" in own]
    return Table("Rates of ours", ["", "tokens/s", "% of the products' rate", "faster, times"], rows)


def plain_table(title: str, found: dict[str, Any]) -> Table:
    counted = ", ".join(f"{value:,} {key}" for key, value in found.items() if isinstance(value, int))
    rows = [
        [way, spread(times, 3), "" if way == OURS else spread(measuring.ratios(times, found["seconds"][OURS]))]
        for way, times in found["seconds"].items()
    ]
    return Table(f"{title}: {counted}", ["way", "s a turn", "ours is faster, times"], rows)


if __name__ == "__main__":
    sys.exit(main())
