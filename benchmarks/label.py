"""Speed of scoring answers: the original's way, lm-evaluation-harness, and ours, on the same rows in one run.

    python benchmarks/label.py                   # on the CPU: the default experiment's reader, and a Qwen3 of 100M
    python benchmarks/label.py --device cuda     # a Qwen3 of 100M and one of 8B, bfloat16
    python benchmarks/label.py --smoke           # seconds: does everything run, do the values agree?

Writes benchmarks/results/label-<device>.md and .json. Qwen3 has random weights and reads random words at the lengths of
MS MARCO: speed does not depend on what the weights know.
"""

import argparse
import logging
import math
import random
import statistics
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # last: src/evaluate.py must not hide evaluate

import bitter_retrieval  # noqa: F401, I001  first: sets what torch and progress bars read when they are loaded
import command
import measuring
import torch
from measuring import CANDIDATES, Lengths, Table, size, spread
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.language_model import END_TOKEN, Encoded, Reader, load_reader
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.readers.prompts import Prompt, answer_text

try:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
except ImportError:
    HFLM = None

ROOT = Path(__file__).resolve().parents[1]
HARNESS, OURS = "lm-eval", "ours"
NO_HARNESS = "not run: lm_eval is not installed"
PRELOADED = ["transformers.models.qwen3.modeling_qwen3", "lm_eval.models.huggingface"]

PROMPT = "Question: {query}\nContext: {passage}\nAnswer:"
SHAPES = {
    "qwen3_100m": {
        "vocab_size": 151_936,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "qwen3_8b": {
        "vocab_size": 151_936,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
    "llama_3_1_8b": {
        "model_type": "llama",
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 1000,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "tie_word_embeddings": True,
    },
}
DEFAULT_MODELS = {"cpu": ["reader", "qwen3_100m"], "cuda": ["reader", "qwen3_100m", "qwen3_8b"]}
SMOKE_MODELS = ["reader", "tiny"]
QUERIES = {("qwen3_100m", "cpu"): 8, ("qwen3_100m", "cuda"): 300}  # some 10 s a turn
QUERIES |= dict.fromkeys([("qwen3_8b", "cuda"), ("llama_3_1_8b", "cuda")], 64)
SMOKE_QUERIES = 3
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}

LONGEST = 1024  # tokens that a model with random weights takes

PACK = 2048  # tokens for which matrix products of the model's own shapes are measured
LOGITS = {"cpu": 2 << 30, "cuda": 8 << 30}  # bytes of logits that the largest batch tried with the harness may take
AGREE = 1e-4  # nats a token, in float32


@dataclass
class Case:
    """A model and the answers that it scores."""

    reader: Reader
    triples: list[Triple]  # distinct: ours scores equal ones once

    @cached_property
    def encoded(self) -> list[Encoded]:
        columns = [list(column) for column in zip(*self.triples, strict=True)]
        found = self.reader.encode(*columns)
        for item in found:
            if isinstance(item, Exception):
                raise item
        cut = sum(item.truncated for item in found)
        if cut:
            raise SystemExit(f"{cut} contexts do not fit into {self.reader.max_length} tokens. Raise its max_length.")
        return found

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        """Prompt and continuation, for the ways that tokenise themselves."""
        reader, end = self.reader, self.reader.answer_end
        end = reader.tokenizer.eos_token if end == END_TOKEN else end
        return [(p.join(reader.prompt.parts(query)), answer_text(answer) + end) for query, p, answer in self.triples]

    @property
    def tokens(self) -> int:
        return sum(len(item.ids) for item in self.encoded)

    @property
    def answer_tokens(self) -> int:
        return sum(len(item.ids) - item.answer_start for item in self.encoded)

    def part(self, count: int) -> "Case":
        """About `count` triples, evenly spread."""
        return Case(self.reader, self.triples[:: max(1, len(self.triples) // count)])


# -- the three ways --------------------------------------------------------------------------------------------------


@torch.no_grad()
def score_as_original(case: Case, batch: int) -> list[float]:
    """Padded batches in the order of the file, logits at every position, one cross-entropy an item over all of them.

    The original searches the text for the answer; here it is given the answer's place. It takes the mean over tokens;
    here they are summed, for comparison.
    """
    losses = []
    for first in range(0, len(case.triples), batch):
        texts = [prompt + continuation for prompt, continuation in case.texts[first : first + batch]]
        inputs = case.reader.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        ids, mask = inputs.input_ids.to(case.reader.model.device), inputs.attention_mask.to(case.reader.model.device)
        logits = case.reader.model(input_ids=ids, attention_mask=mask).logits
        for row, item in enumerate(case.encoded[first : first + batch]):
            labels = torch.full_like(ids[row], -100)
            answer = slice(item.answer_start, len(item.ids))
            labels[answer] = ids[row, answer]
            loss = cross_entropy(logits[row, :-1].contiguous(), labels[1:].contiguous(), reduction="sum")
            losses.append(loss.item())
    return losses


def score_with_harness(case: Case, batch: int) -> list[float]:
    requests = [Instance("loglikelihood", {}, text, place) for place, text in enumerate(case.texts)]
    return [-found[0] for found in harness(case, batch).loglikelihood(requests, disable_tqdm=True)]


def harness(case: Case, batch: int) -> Any:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(
        pretrained=case.reader.model,
        tokenizer=case.reader.tokenizer,
        batch_size=batch,
        max_length=case.reader.max_length,
    )


def score_ours(case: Case, budget: int) -> list[float]:
    return [score.nll_sum for score in Scorer(case.reader, budget).score(case.triples)]


WAYS = {"original": score_as_original, HARNESS: score_with_harness, OURS: score_ours}


# -- models and rows -------------------------------------------------------------------------------------------------


def load_case(name: str, options: argparse.Namespace) -> Case:
    """A model and its rows. Raises NotMeasured if its files are absent."""
    if name == "reader":
        return fitted_case(options)
    queries = options.queries or QUERIES.get((name, options.device), SMOKE_QUERIES)
    reader = random_reader(name, options.device)
    return Case(reader, random_triples(reader.tokenizer, queries, options.lengths))


def fitted_case(options: argparse.Namespace) -> Case:
    """The default experiment's reader on its test questions."""
    for path in (options.reader, options.rows):
        if not path.exists():
            raise command.NotMeasured(f"not run: {path.name} is missing; `dvc repro` makes it")
    from bitter_retrieval.records import PREPARED, read_rows

    reader = load_reader(options.reader)
    reader.model.to(options.device)
    rows = read_rows(options.rows, PREPARED)[: options.queries or (SMOKE_QUERIES if options.smoke else None)]
    asked = [
        Triple(row["query"], passage, answer)
        for row in rows
        for passage in [*(p["text"] for p in row["passages"]), ""]
        for answer in row["answers"]
    ]
    return Case(reader, list(dict.fromkeys(asked)))


def random_reader(name: str, device: str) -> Reader:
    """A Qwen3 or Llama with random weights, made on the device and in the precision that it runs in."""
    shape = SHAPES[name]
    tokenizer = measuring.word_tokenizer(shape["vocab_size"], "".join(Prompt(PROMPT).parts("")).split())
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    spread_of_weights = shape["hidden_size"] ** -0.5  # large enough that losses depend on the whole input
    kind = {"model_type": "qwen3"} | shape
    config = AutoConfig.for_model(**kind, **tokens, initializer_range=spread_of_weights)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[device])
    return Reader(name, model.eval().requires_grad_(False), tokenizer, Prompt(PROMPT), LONGEST, 1, name)


def random_triples(tokenizer: Any, queries: int, lengths: Lengths, seed: int = 0) -> list[Triple]:
    draw = random.Random(seed)
    words = sorted(word for word in tokenizer.get_vocab() if word[0] == "w")
    text = partial(measuring.random_text, draw, words)
    asked = []
    for _ in range(queries):
        query, answer = text(lengths.query), text(*lengths.spread("answer"))
        passages = [*(text(*lengths.spread("passage")) for _ in range(CANDIDATES)), ""]
        asked += [Triple(query, passage, answer) for passage in passages]
    return asked


# -- checks ----------------------------------------------------------------------------------------------------------


def check_tokens(case: Case) -> None:
    """Raises SystemExit unless every way scores the same tokens."""
    encode = case.reader.tokenizer.encode if HFLM is None else harness(case, 1).tok_encode
    for (prompt, continuation), item in zip(case.texts, case.encoded, strict=True):
        if encode(prompt + continuation) != item.ids or len(encode(prompt)) != item.answer_start:
            raise SystemExit(f"{case.reader.name}: {prompt + continuation!r} has other tokens in another way.")


def difference(case: Case, values: list[float], ours: list[float]) -> float:
    """Largest difference to our values, nats a token. Raises SystemExit if float32 does not explain it."""
    per_token = [
        abs(value - own) / (len(item.ids) - item.answer_start)
        for value, own, item in zip(values, ours, case.encoded, strict=True)
    ]
    apart = [place for place, nats in enumerate(per_token) if not nats <= AGREE]
    if case.reader.model.dtype == torch.float32 and apart:
        triple, value, own = (column[apart[0]] for column in (case.triples, values, ours))
        raise SystemExit(f"{case.reader.name}: {triple} costs {value} nats in one way, {own} in ours.")
    return max(per_token)


# -- measuring -------------------------------------------------------------------------------------------------------


def harness_batches(case: Case, device: str) -> dict[int, float]:
    """Seconds of the harness on some of the rows, by batch size: the largest within LOGITS, and smaller ones."""
    config, longest = case.reader.model.config, max(len(item.ids) for item in case.encoded)
    fits = LOGITS[device] // (longest * config.vocab_size * case.reader.model.dtype.itemsize)
    largest = 2 ** int(math.log2(min(max(1, fits), len(case.triples), 256)))
    part = case.part(max(2 * largest, len(case.triples) // 8))
    score_with_harness(part, largest)  # warm
    batches = sorted({max(1, largest >> halvings) for halvings in (0, 1, 2, 3, 5)})
    return {batch: measuring.timed(partial(score_with_harness, part, batch), device)[0] for batch in batches}


def necessary_flops(case: Case) -> dict[str, int]:
    """FLOPs that every way needs at least: each distinct prefix of the sequences once, logits only for answers.

    A sequence's last token predicts nothing and needs no FLOPs.
    """
    tokens, seen = measuring.distinct_prefixes([item.ids[:-1] for item in case.encoded])
    model, config = case.reader.model, case.reader.model.config
    width = config.num_attention_heads * config.head_dim
    return {
        "tokens": tokens,
        "blocks": 2 * tokens * sum(layer.weight.numel() for layer in measuring.block_linears(model)),
        "attention": 4 * seen * width * config.num_hidden_layers,
        "head": 2 * case.answer_tokens * model.get_output_embeddings().weight.numel(),
    }


def memory_of_way(name: str, options: argparse.Namespace, way: str, batches: dict[str, int]) -> int | None:
    """Peak bytes beyond the loaded model and the rows; runs in its own process."""
    if way == OURS:
        keep_freed_memory()
    case = load_case(name, options)
    assert case.texts and case.encoded  # cached before measuring
    return measuring.cpu_peak(partial(WAYS[way], case, batches[way]))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model, as JSON can hold them."""
    case, device = load_case(name, options), options.device
    say(f"{name}: {len(case.triples):,} passages, {case.tokens:,} tokens; warming up")
    check_tokens(case)
    tried = harness_batches(case, device) if HFLM is not None else {}
    batches = {"original": options.batch, OURS: options.budget}
    if tried:
        batches[HARNESS] = min(tried, key=tried.__getitem__)
    runs = {way: partial(score, case, batches[way]) for way, score in WAYS.items() if way in batches}
    peaks, values = {}, {}
    for way, run in runs.items():
        if device == "cuda":
            peaks[way], values[way] = measuring.cuda_peak(run)
        else:
            values[way] = run()
    differences = {way: difference(case, found, values[OURS]) for way, found in values.items() if way != OURS}
    flops = necessary_flops(case)
    answer_rows = max(1, round(PACK * case.answer_tokens / flops["tokens"]))
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    lent: dict[str, list[float]] = {way: [] for way in runs if way != OURS and device == "cpu"}
    rates = []
    for turn in range(options.turns):
        say(f"{name}: turn {turn + 1} of {options.turns}")
        for way, run in runs.items():
            with nullcontext() if way == OURS else measuring.system_allocator():
                seconds[way].append(measuring.timed(run, device)[0])
        for way in lent:
            lent[way].append(measuring.timed(runs[way], device)[0])
        rates.append(measuring.matmul_rates(case.reader.model, PACK, answer_rows, device))
    scorer = Scorer(case.reader, options.budget)
    profiled, groups = measuring.profile_groups(partial(scorer.score, case.triples), device)
    if device == "cpu":
        say(f"{name}: memory")
        peaks = {way: measuring.in_fresh_process(PRELOADED, memory_of_way, name, options, way, batches) for way in runs}
    return {
        "parameters": sum(parameter.numel() for parameter in case.reader.model.parameters()),
        "weights": measuring.block_weights(case.reader.model),
        "dtype": str(case.reader.model.dtype).removeprefix("torch."),
        "passages": len(case.triples),
        "tokens": case.tokens,
        "answer_tokens": case.answer_tokens,
        "batches": batches,
        "harness_batches_tried": tried,
        "largest_difference": differences,
        "seconds": seconds,
        "seconds_with_our_allocator": lent,
        "peak_memory": peaks,
        "matmul_rates": rates,
        "flops": flops,
        "work": {key: value for key, value in asdict(scorer.work).items() if key != "seconds"},
        "profile": {"seconds": profiled, "groups": groups},
    }


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# -- report ----------------------------------------------------------------------------------------------------------


def tables(name: str, found: dict[str, Any], device: str) -> list[Table]:
    return [speed(name, found), share(name, found, device), rest(name, found, device)]


def speed(name: str, found: dict[str, Any]) -> Table:
    seconds, lent = found["seconds"], found["seconds_with_our_allocator"]
    rows = []
    for way in WAYS:
        if way not in seconds:
            rows.append([way, NO_HARNESS, *[""] * 7])
            continue
        median, peak = statistics.median(seconds[way]), found["peak_memory"][way]
        rows.append(
            [
                way,
                f"{found['batches'][way]:,} " + ("tokens" if way == OURS else "sequences"),
                f"{median:.3g}",
                f"{found['tokens'] / median:,.0f}",
                f"{found['passages'] / median:,.1f}",
                "" if way == OURS else spread(measuring.ratios(seconds[way], seconds[OURS])),
                spread(measuring.ratios(lent[way], seconds[OURS])) if way in lent else "",
                "not known" if peak is None else size(peak),
                "" if way == OURS else f"{found['largest_difference'][way]:.1g}",
            ]
        )
    title = (
        f"{name} ({found['parameters'] / 1e6:,.4g}M parameters, {found['dtype']}): {found['passages']:,} passages, "
        f"{found['tokens']:,} tokens, {found['answer_tokens']:,} of them answers"
    )
    heads = ["way", "batch", "s a turn", "tokens/s", "passages/s", "ours is faster, times", "with our allocator lent"]
    return Table(title, [*heads, "memory beyond the model", "largest difference, nats a token"], rows)


def share(name: str, found: dict[str, Any], device: str) -> Table:
    """A turn of ours in relation to the rate at which the machine multiplies matrices."""
    flops, unit, scale = found["flops"], *(("TFLOP/s", 1e12) if device == "cuda" else ("GFLOP/s", 1e9))
    parts = ("blocks", "attention", "head")
    attained = [sum(flops[part] for part in parts) / seconds for seconds in found["seconds"][OURS]]
    rows = [[f"necessary FLOPs: {part}", f"{flops[part]:.3g}"] for part in parts]
    rows += [[f"attained, {unit}", spread([rate / scale for rate in attained], 1)]]
    for kind, said in (("square", f"{measuring.SQUARE}³"), ("own_shapes", "its own shapes")):
        rates = [rate[kind] for rate in found["matmul_rates"]]
        shares = [100 * rate / at_best for rate, at_best in zip(attained, rates, strict=True)]
        rows += [[f"products of {said}, {unit}", spread([rate / scale for rate in rates], 1)]]
        rows += [[f"attained of {said}, %", spread(shares, 1)]]
    tokens = f"{found['work']['computed']:,} / {flops['tokens']:,} / {found['tokens']:,}"
    rows += [["tokens computed / necessary / in the sequences", tokens]]
    return Table(f"{name}: ours against the rate of matrix products", ["", "median [least to most]"], rows)


def rest(name: str, found: dict[str, Any], device: str) -> Table:
    """Where a turn of ours goes, from an extra profiled turn."""
    wall, groups = found["profile"]["seconds"], found["profile"]["groups"]
    others = {"cpu": "tokenising, planning, Python", "cuda": "GPU idle: tokenising, planning, Python, launches"}[device]
    parts = [*groups.items(), (others, max(0.0, wall - sum(groups.values())))]
    rows = [[group, f"{spent:.3g}", f"{100 * spent / wall:.1f}"] for group, spent in parts]
    return Table(f"{name}: where a turn of ours goes (profiled: {wall:.3g} s)", ["", "s", "%"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    keep_freed_memory()  # as the label stage does
    command.run("label", "Scoring answers: speed", options, ["lm_eval"], measure, tables)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser(__doc__, ["reader", *SHAPES], 8192)
    parser.add_argument("--queries", type=int, help="questions a model is asked about (default: some 10 s a turn)")
    parser.add_argument("--batch", type=int, default=64, help="sequences in a batch of the original (default 64)")
    parser.add_argument("--reader", type=Path, default=ROOT / "models/readers/reader_a", help="folder of a reader")
    parser.add_argument("--rows", type=Path, default=ROOT / "data/prepared/test.parquet", help="its questions")
    return command.parse(parser, arguments, DEFAULT_MODELS, SMOKE_MODELS)


if __name__ == "__main__":
    main()
