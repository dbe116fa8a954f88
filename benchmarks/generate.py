"""Speed of generating answers: one by one, in padded batches, and ours, for the same questions in one run.

    python benchmarks/generate.py                   # on the CPU: the default experiment's reader, and a Qwen3 of 100M
    python benchmarks/generate.py --device cuda     # the same; --models qwen3_8b for one of 8B, bfloat16
    python benchmarks/generate.py --smoke           # seconds: does everything run, are answers the same?

Writes benchmarks/results/generate-<device>.md and .json. Qwen3 has random weights and reads random words at the lengths
of MS MARCO; every fifteenth token of its vocabulary ends an answer, so that its answers have MS MARCO's length too.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # last: src/evaluate.py must not hide evaluate

import bitter_retrieval  # noqa: F401, I001  first: sets what torch and progress bars read when they are loaded
import command
import measuring
import torch
from label import ROOT, SHAPES, random_reader, random_triples, say
from measuring import Table, size, spread

from bitter_retrieval.readers.generation import end_tokens, generate_answers
from bitter_retrieval.readers.language_model import Encoded, Reader, load_reader
from bitter_retrieval.models.memory import keep_freed_memory

ALONE, PADDED, OURS_ALIKE, OURS = "one by one", "padded", "ours, as many at once", "ours"
PRELOADED = ["transformers.models.qwen3.modeling_qwen3"]
DEFAULT_MODELS = dict.fromkeys(["cpu", "cuda"], ["reader", "qwen3_100m"])
SMOKE_MODELS = ["reader", "tiny"]
QUESTIONS = {("qwen3_100m", "cpu"): 64, ("qwen3_100m", "cuda"): 256}
QUESTIONS |= dict.fromkeys([("qwen3_8b", "cuda"), ("llama_3_1_8b", "cuda")], 64)
SMOKE_QUESTIONS = 8
ANSWER_TOKENS = 15  # mean length of an answer with random weights
MOST_TOKENS = 64  # longest of these
AGREE = 1e-4  # logits that rounding may swap, in float32


@dataclass
class Case:
    """A reader and its questions, in the order of the file."""

    reader: Reader
    items: list[tuple[str, str]]  # (query, passage)

    @cached_property
    def texts(self) -> list[str]:
        return [passage.join(self.reader.prompt.parts(query)) for query, passage in self.items]

    @cached_property
    def encoded(self) -> list[Encoded]:
        """The prompts, encoded by our reader. Raises SystemExit if another way's tokens differ or a prompt is cut."""
        found = self.reader.encode(*zip(*self.items, strict=True), None)
        for text, item in zip(self.texts, found, strict=True):
            if isinstance(item, Exception):
                raise item
            if item.truncated or self.reader.tokenizer(text).input_ids != item.ids:
                raise SystemExit(f"{self.reader.name}: {text!r} has other tokens in another way.")
        return found


# -- the ways --------------------------------------------------------------------------------------------------------


def answer_padded(case: Case, batch: int) -> list[str]:
    """Hugging Face's greedy `generate` on batches in the order of the file, padded to the longest."""
    ends, answers = end_tokens(case.reader), []
    for first in range(0, len(case.texts), batch):
        made, width = generate(case, case.texts[first : first + batch])
        for row in made.sequences[:, width:].tolist():
            said = list(takewhile(lambda token: token not in ends, row))
            answers.append(case.reader.tokenizer.decode(said, skip_special_tokens=True).split("\n")[0].strip())
    return answers


def generate(case: Case, texts: list[str], **wanted: Any) -> tuple[Any, int]:
    """(what `generate` returns, tokens of the padded prompts)"""
    reader = case.reader
    inputs = reader.tokenizer(texts, padding=len(texts) > 1, padding_side="left", return_tensors="pt")
    made = reader.model.generate(
        inputs.input_ids.to(reader.model.device),
        attention_mask=inputs.attention_mask.to(reader.model.device),
        max_new_tokens=reader.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(end_tokens(reader)),
        pad_token_id=reader.pad,
        return_dict_in_generate=True,
        **wanted,
    )
    return made, inputs.input_ids.shape[1]


def answer_ours(case: Case, budget: int) -> list[str]:
    return [answer.text for answer in generate_answers(case.reader, case.items, budget)]


def answer_ours_alike(case: Case, batch: int) -> list[str]:
    """Ours with as many prompts in a batch as the padded way has, by length."""
    order = sorted(range(len(case.items)), key=lambda place: len(case.encoded[place].ids))
    answers: dict[int, str] = {}
    for first in range(0, len(order), batch):
        places = order[first : first + batch]
        found = generate_answers(case.reader, [case.items[place] for place in places], sys.maxsize)
        answers |= {place: answer.text for place, answer in zip(places, found, strict=True)}
    return [answers[place] for place in range(len(order))]


WAYS = {ALONE: answer_padded, PADDED: answer_padded, OURS_ALIKE: answer_ours_alike, OURS: answer_ours}
THEIRS = (ALONE, PADDED)


# -- models and questions --------------------------------------------------------------------------------------------


def load_case(name: str, options: argparse.Namespace) -> Case:
    """A model and its questions. Raises NotMeasured if its files are absent."""
    if name == "reader":
        return fitted_case(options)
    questions = options.questions or QUESTIONS.get((name, options.device), SMOKE_QUESTIONS)
    reader = replace(random_reader(name, options.device), max_new_tokens=MOST_TOKENS)
    vocabulary = reader.model.config.vocab_size
    reader.model.generation_config.eos_token_id = list(range(ANSWER_TOKENS, vocabulary, ANSWER_TOKENS))
    drawn = random_triples(reader.tokenizer, questions, options.lengths)
    asked = {triple.query: triple.passage for triple in drawn if triple.passage}
    return Case(reader, list(asked.items()))


def fitted_case(options: argparse.Namespace) -> Case:
    """The default experiment's reader on its test questions, each with its first candidate."""
    for path in (options.reader, options.rows):
        if not path.exists():
            raise command.NotMeasured(f"not run: {path.name} is missing; `dvc repro` makes it")
    from bitter_retrieval.records import PREPARED, read_rows

    reader = load_reader(options.reader)
    reader.model.to(options.device)
    rows = read_rows(options.rows, PREPARED)[: options.questions or (SMOKE_QUESTIONS if options.smoke else None)]
    return Case(reader, [(row["query"], row["passages"][0]["text"]) for row in rows])


# -- measuring -------------------------------------------------------------------------------------------------------


def differing(case: Case, way: str, answers: list[str], alone: list[str]) -> int:
    """Number of answers that differ from one by one. Raises SystemExit if in float32 no near tie explains one."""
    apart = [place for place, answer in enumerate(answers) if answer != alone[place]]
    for place in apart if case.reader.model.dtype == torch.float32 else []:
        logits = torch.cat(generate(case, [case.texts[place]], output_logits=True)[0].logits)
        best = logits.topk(2).values
        if (best[:, 0] - best[:, 1]).min() > AGREE:
            said = f"is answered {alone[place]!r} one by one and {answers[place]!r} by the way {way!r}."
            raise SystemExit(f"{case.reader.name}: {case.texts[place]!r} {said}")
    return len(apart)


def memory_of_way(name: str, options: argparse.Namespace, way: str, batches: dict[str, int]) -> int | None:
    """Peak bytes beyond the loaded model and the questions; runs in its own process."""
    if way not in THEIRS:
        keep_freed_memory()
    case = load_case(name, options)
    assert case.encoded  # cached before measuring
    return measuring.cpu_peak(partial(WAYS[way], case, batches[way]))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model, as JSON can hold them."""
    case, device = load_case(name, options), options.device
    prompt_tokens = sum(len(item.ids) for item in case.encoded)
    say(f"{name}: {len(case.items):,} questions, {prompt_tokens:,} tokens; warming up")
    batches = {ALONE: 1, PADDED: options.batch, OURS_ALIKE: options.batch, OURS: options.budget}
    runs = {way: partial(answer, case, batches[way]) for way, answer in WAYS.items()}
    peaks, answers = {}, {}
    for way, run in runs.items():
        if device == "cuda":
            peaks[way], answers[way] = measuring.cuda_peak(run)
        else:
            answers[way] = run()
    differences = {way: differing(case, way, found, answers[ALONE]) for way, found in answers.items() if way != ALONE}
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    lent: dict[str, list[float]] = {way: [] for way in THEIRS if device == "cpu"}
    for turn in range(options.turns):
        say(f"{name}: turn {turn + 1} of {options.turns}")
        for way, run in runs.items():
            with measuring.system_allocator() if way in THEIRS else nullcontext():
                seconds[way].append(measuring.timed(run, device)[0])
        for way in lent:
            lent[way].append(measuring.timed(runs[way], device)[0])
    if device == "cpu":
        say(f"{name}: memory")
        peaks = {way: measuring.in_fresh_process(PRELOADED, memory_of_way, name, options, way, batches) for way in runs}
    return {
        "parameters": sum(parameter.numel() for parameter in case.reader.model.parameters()),
        "weights": measuring.block_weights(case.reader.model),
        "dtype": str(case.reader.model.dtype).removeprefix("torch."),
        "questions": len(case.items),
        "prompt_tokens": prompt_tokens,
        "answer_tokens": sum(map(len, case.reader.tokenizer(answers[ALONE]).input_ids)),
        "most_new_tokens": case.reader.max_new_tokens,
        "batches": batches,
        "differing": differences,
        "seconds": seconds,
        "seconds_with_our_allocator": lent,
        "peak_memory": peaks,
    }


# -- report ----------------------------------------------------------------------------------------------------------


def tables(name: str, found: dict[str, Any], device: str) -> list[Table]:
    seconds, lent = found["seconds"], found["seconds_with_our_allocator"]
    rows = []
    for way in WAYS:
        median, peak = statistics.median(seconds[way]), found["peak_memory"][way]
        rows.append(
            [
                way,
                f"{found['batches'][way]:,}" + (" tokens" if way == OURS else ""),
                f"{median:.3g}",
                f"{found['questions'] / median:,.1f}",
                "" if way == OURS else spread(measuring.ratios(seconds[way], seconds[OURS])),
                spread(measuring.ratios(lent[way], seconds[OURS])) if way in lent else "",
                "not known" if peak is None else size(peak),
                "" if way == ALONE else f"{found['differing'][way]:,}",
            ]
        )
    title = (
        f"{name} ({found['parameters'] / 1e6:,.4g}M parameters, {found['dtype']}): {found['questions']:,} questions, "
        f"{found['prompt_tokens']:,} tokens, {found['answer_tokens']:,} in the answers, at most "
        f"{found['most_new_tokens']} in one"
    )
    heads = ["way", "batch", "s a turn", "answers/s", "ours is faster, times", "with our allocator lent"]
    return [Table(title, [*heads, "memory beyond the model", "answers that differ"], rows)]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    keep_freed_memory()  # as the evaluate stage does
    command.run("generate", "Generating answers: speed", options, [], measure, tables)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser(__doc__, ["reader", *SHAPES], 8192)
    parser.add_argument("--questions", type=int, help="questions that a model is asked (default: some minutes in all)")
    parser.add_argument("--batch", type=int, default=32, help="prompts in a padded batch (default 32)")
    parser.add_argument("--reader", type=Path, default=ROOT / "models/readers/reader_a", help="folder of a reader")
    parser.add_argument("--rows", type=Path, default=ROOT / "data/prepared/test.parquet", help="its questions")
    return command.parse(parser, arguments, DEFAULT_MODELS, SMOKE_MODELS)


if __name__ == "__main__":
    main()
