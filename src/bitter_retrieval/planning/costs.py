"""What a profile costs, before anything is computed: tokens and FLOPs by stage, memory, disk, hours and money.

    stages(params, amounts)       [Work("label qwen3", "label", weights=6.9e9, tokens=1.1e8, flops=1.6e18), …]
    memory(params, amounts)       bytes of the largest stage, and its name

FLOPs: two a weight and token forwards, six when a model learns from it (Kaplan et al. 2020, arXiv 2001.08361, section
2.1), eight when it computes its activations again. Weights are those of the blocks' matrices; an answer's tokens use
the output head too. Attention itself, norms and losses are left out.

Answers are counted for every seed: what several seeds show is answered once, so that this is the most it can be.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from bitter_retrieval.judging.judges import PROMPT as JUDGE_PROMPT
from bitter_retrieval.judging.settings import GeminiParams, LlmParams
from bitter_retrieval.labels.settings import (
    UTILITY_PROMPT,
    MinedNegatives,
    OnPolicyLabels,
    ReaderLabels,
    RerankerLabels,
    UtilityLabels,
)
from bitter_retrieval.models.settings import FIT
from bitter_retrieval.params import Params
from bitter_retrieval.planning.amounts import PIECE, TOKENS_A_PIECE, Amounts, Lengths
from bitter_retrieval.planning.rates import FORWARD, TRAINING, Rate, nearest
from bitter_retrieval.planning.shapes import Shape, shape_of
from bitter_retrieval.readers.prompts import Prompt
from bitter_retrieval.readers.settings import ReaderParams

RECOMPUTING = 8  # FLOPs a weight and token
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
TRAINED = 16  # bytes a parameter in training: weights, gradients and AdamW's two averages in float32
KEPT = 34  # bytes a token, layer and unit of width kept for the backward pass in half precision, without attention's
# weights (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1)
LIVE = 8  # vectors of hidden size a token, live at once in a reader's batch (readers/answer_loss.py: row_cost)
EMBEDDINGS = 20 * 2**30  # bytes that .journal/embeddings may hold
COPIES = 2  # of an output: in the workspace, and in DVC's cache
BYTES_A_TOKEN = 5  # of English text
JUDGED = ("train", "validation", "test")
CHECKS = 3  # contexts in which a reader is checked: a supporting passage, a random one, none
CHECKED_GROUPS = 250  # of a reader that is not fitted here, with a question each
VERDICT = 1  # tokens of a judge's YES or NO
HOUR = 3600


@dataclass(frozen=True)
class Work:
    """One row of the plan."""

    stage: str
    kind: str  # a key of rates.WORKS; "" for what another machine computes
    weights: int
    tokens: float
    flops: float
    money: float = 0  # asked by a service


def stages(params: Params, amounts: Amounts) -> list[Work]:
    """The work of all stages, in their order. prepare and compare compute next to nothing."""
    found = [
        *_readers(params, amounts),
        *_encoders(params, amounts),
        *_labels(params, amounts),
        *_derived(params, amounts),
        *_training(params, amounts),
        *_retrieval(params, amounts),
        *_answers(params, amounts),
        *_judging(params, amounts),
    ]
    return [work for work in found if work.tokens]


def rated(work: Work, rates: Sequence[Rate]) -> Rate | None:
    """The measured rate that the work is expected at. What only encodes goes by training where that alone is known."""
    found = nearest(work.kind, work.weights, rates)
    return found or (nearest("train", work.weights, rates) if work.kind == "encode" else None)


# -- models -------------------------------------------------------------------------------------------------------


def reader_shape(name: str, params: Params) -> Shape:
    reader = params.readers[name]
    return shape_of(reader.model, reader.fit, reader.revision)


def encoder_shape(name: str, params: Params) -> Shape:
    encoder = params.encoders[name]
    return shape_of(encoder.model, encoder.fit, encoder.revision)


def _forwards(shape: Shape, tokens: float, answers: float = 0) -> float:
    """FLOPs of a pass, with logits for the answers' tokens."""
    return FORWARD * (shape.weights * tokens + shape.head * answers)


@dataclass(frozen=True)
class Asked:
    """Tokens of a reader's prompt: before what differs between candidates, and after it."""

    head: float
    tail: float


def _asked(reader: ReaderParams, template: str, lengths: Lengths, worked: bool = True) -> Asked:
    prompt = Prompt(template, tuple(reader.examples or ()) if worked else ())
    factor = 1.0 if reader.model == FIT else TOKENS_A_PIECE
    before, after = prompt.template.split("{passage}")

    def tokens(part: str) -> float:
        words = len(PIECE.findall(part.replace("{query}", ""))) * factor
        return words + ("{query}" in part) * lengths.query

    return Asked(len(PIECE.findall(prompt.worked)) * factor + tokens(before), tokens(after))


# -- stages -------------------------------------------------------------------------------------------------------


def _readers(params: Params, amounts: Amounts) -> Iterator[Work]:
    for name, reader in params.readers.items():
        shape, own = reader_shape(name, params), amounts.tokens(reader.model == FIT)
        asked = _asked(reader, reader.prompt, own)
        sequence = asked.head + own.passage + asked.tail + own.answer
        if reader.fit:
            tokens = reader.fit.steps * reader.fit.batch * sequence
            answers = reader.fit.steps * reader.fit.batch * own.answer
            flops = TRAINING / FORWARD * _forwards(shape, tokens, answers)
            yield Work(f"fit reader {name}", "train", shape.weights, tokens, flops)
        checked = min(amounts.questions["reader"], reader.fit.held_out if reader.fit else CHECKED_GROUPS)
        tokens = CHECKS * checked * sequence
        flops = _forwards(shape, tokens, CHECKS * checked * own.answer)
        yield Work(f"check reader {name}", "generate", shape.weights, tokens, flops)


def _encoders(params: Params, amounts: Amounts) -> Iterator[Work]:
    """The two pieces of a pair are a passage, about."""
    for name, encoder in params.encoders.items():
        if encoder.fit:
            shape = encoder_shape(name, params)
            tokens = encoder.fit.steps * encoder.fit.batch * amounts.tokens(True).passage
            yield Work(f"fit encoder {name}", "train", shape.weights, tokens, TRAINING * shape.weights * tokens)


def _labels(params: Params, amounts: Amounts) -> Iterator[Work]:
    questions = sum(amounts.questions[split] for split in JUDGED)
    for name, labels in params.labels.items():
        if isinstance(labels, ReaderLabels | UtilityLabels):
            utility = labels.prompt or UTILITY_PROMPT if isinstance(labels, UtilityLabels) else None
            reader = labels.needs.rpartition("/")[2]
            yield _scored(f"label {name}", reader, questions, amounts.candidates + 1, utility, params, amounts)


def _scored(
    stage: str, reader: str, questions: int, contexts: float, utility: str | None, params: Params, amounts: Amounts
) -> Work:
    """A question's prompt is computed once for all its contexts, one of which is none; its answers follow each."""
    settings, shape = params.readers[reader], reader_shape(reader, params)
    own = amounts.tokens(settings.model == FIT)
    asked = _asked(settings, utility or settings.prompt, own, worked=utility is None)
    answer = 2 * VERDICT if utility else own.references * own.answer
    tokens = questions * (asked.head + (contexts - 1) * own.passage + contexts * (asked.tail + answer))
    return Work(stage, "label", shape.weights, tokens, _forwards(shape, tokens, questions * contexts * answer))


def _derived(params: Params, amounts: Amounts) -> Iterator[Work]:
    """Candidates that a reader has scored before are in the journal."""
    questions = sum(amounts.questions[split] for split in JUDGED)
    for name, labels in params.derived_labels.items():
        stage, folder = f"derive {name}", labels.encoder.split("/")
        encoder = params.runs[folder[2]].encoder if folder[1] == "runs" else folder[2]
        shape = encoder_shape(encoder, params)
        own = amounts.tokens(params.encoders[encoder].model == FIT)
        texts = questions * own.query + sum(amounts.passages[split] for split in JUDGED) * own.passage
        if isinstance(labels, MinedNegatives | OnPolicyLabels):
            yield Work(f"{stage}: search", "encode", shape.weights, texts, _forwards(shape, texts))
        if isinstance(labels, OnPolicyLabels):
            reader = labels.needs.rpartition("/")[2]
            yield _scored(stage, reader, questions, labels.per_query + 1, None, params, amounts)
        if isinstance(labels, RerankerLabels):
            pair, two = amounts.candidates * (own.query + own.passage), 2
            tokens = two * labels.fit.steps * labels.fit.batch * pair
            yield Work(f"{stage}: fit", "train", shape.weights, tokens, TRAINING * shape.weights * tokens)
            yield Work(stage, "encode", shape.weights, questions * pair, _forwards(shape, questions * pair))


def _training(params: Params, amounts: Amounts) -> Iterator[Work]:
    """A row for each encoder. A passage that questions of a group share is encoded once a step."""
    found: dict[str, list[Work]] = {}
    for run in params.runs.values():
        shape, times = encoder_shape(run.encoder, params), len(run.seeds or params.train.seeds) * params.train.epochs
        own = amounts.tokens(params.encoders[run.encoder].model == FIT)
        of_split = {
            split: (amounts.questions[split] * own.query, amounts.passages[split] * own.passage)
            for split in ("train", "validation")
        }
        if isinstance(mined := params.derived_labels.get(run.labels), MinedNegatives):
            query, passages = of_split["train"]
            of_split["train"] = query, passages + amounts.questions["train"] * mined.per_query * own.passage
        learns, checks = times * sum(of_split["train"]), times * sum(of_split["validation"])
        a_token = RECOMPUTING if params.train.recompute else TRAINING
        if run.trains == "query":  # vectors of passages are computed once
            learns = times * of_split["train"][0]
            checks = times * of_split["validation"][0] + of_split["train"][1] + of_split["validation"][1]
        flops = shape.weights * (a_token * learns + FORWARD * checks)
        found.setdefault(run.encoder, []).append(Work("", "train", shape.weights, learns + checks, flops))
    for name, works in found.items():
        yield _summed(f"train {name}: {_several(len(works), 'run')}", works)


def _summed(stage: str, works: list[Work]) -> Work:
    return replace(
        works[0], stage=stage, tokens=sum(work.tokens for work in works), flops=sum(work.flops for work in works)
    )


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _corpora(amounts: Amounts, params: Params) -> list[tuple[int, int]]:
    """Questions and the passages searched for them: of the evaluated split, and of another domain."""
    found = [(amounts.questions[params.evaluate.split], amounts.passages["corpus"])]
    if amounts.questions.get("beyond"):
        found.append((amounts.questions["beyond"], amounts.passages["beyond_corpus"]))
    return found


def _retrieval(params: Params, amounts: Amounts) -> Iterator[Work]:
    """Each trained encoder, and each before training, encodes the corpus; dot products follow.

    Where queries alone were trained, passages are encoded once: this is the most it can be.
    """
    times = [(run.encoder, len(run.seeds or params.train.seeds)) for run in params.runs.values()]
    times += [(encoder, 1) for encoder in params.untrained.values()]
    for name, own in groupby(sorted(times), key=lambda one: one[0]):
        shape, lengths = encoder_shape(name, params), amounts.tokens(params.encoders[name].model == FIT)
        models, tokens, search = sum(count for _, count in own), 0.0, 0.0
        for questions, passages in _corpora(amounts, params):
            tokens += questions * lengths.query + passages * lengths.passage
            search += FORWARD * shape.width * questions * passages
        flops = models * (_forwards(shape, tokens) + search)
        yield Work(f"encode: {_several(models, 'model')} of {name}", "encode", shape.weights, models * tokens, flops)


def shown_contexts(params: Params, amounts: Amounts) -> dict[int, int]:
    """Answers of a reader by the number of passages that they are given."""
    shown, test = params.evaluate.shown, amounts.questions[params.evaluate.split]
    beyond = amounts.questions.get("beyond", 0)
    retrieved = sum(len(run.seeds or params.train.seeds) for run in params.runs.values()) + len(params.untrained) + 1
    found = dict.fromkeys((0, 1, *shown), 0)
    found[0] += test + beyond  # no_passage
    found[1] += (params.control.random_draws + 1) * (test + beyond) + test  # random, annotated, oracle
    for place, count in enumerate(shown):
        found[count] += retrieved * (test + (beyond if place == 0 else 0))
    return found


def answers_given(params: Params, amounts: Amounts) -> int:
    return len(params.readers) * sum(shown_contexts(params, amounts).values())


def _answers(params: Params, amounts: Amounts) -> Iterator[Work]:
    """A prompt is read twice: to score the references, and to generate an answer as long as one of them."""
    for name, reader in params.readers.items():
        shape, own = reader_shape(name, params), amounts.tokens(reader.model == FIT)
        asked, contexts = _asked(reader, reader.prompt, own), shown_contexts(params, amounts)
        prompts = sum(given * (asked.head + count * own.passage + asked.tail) for count, given in contexts.items())
        given, new = sum(contexts.values()), min(own.answer, reader.max_new_tokens)
        for stage, kind, each in (("score", "label", own.references * own.answer), ("answer", "generate", new)):
            tokens = prompts + given * each
            flops = _forwards(shape, tokens, given * each)
            yield Work(f"{stage}: {name}", kind, shape.weights, tokens, flops)


def _judging(params: Params, amounts: Amounts) -> Iterator[Work]:
    """Equal answers to a question are judged once: this is the most it can be."""
    judge, answers, own = params.judge, answers_given(params, amounts), amounts.tokens(False)
    if not isinstance(judge, GeminiParams | LlmParams):
        return
    words = len(PIECE.findall(re.sub(r"{\w+}", "", judge.prompt or JUDGE_PROMPT))) * TOKENS_A_PIECE
    read = answers * (words + own.query + (own.references + 1) * own.answer)
    if isinstance(judge, GeminiParams):
        money = (judge.cost.input * read + judge.cost.output * answers * VERDICT) / 1e6
        yield Work(f"judge: {judge.model}", "", 0, read, 0, money)
    else:
        named = params.readers.get(judge.model)
        shape = reader_shape(judge.model, params) if named else shape_of(judge.model, None, judge.scoring.revision)
        yield Work(f"judge: {judge.model}", "label", shape.weights, read, _forwards(shape, read, 2 * answers))


# -- memory and disk ------------------------------------------------------------------------------------------------


def memory(params: Params, amounts: Amounts) -> tuple[float, str]:
    """Bytes of the largest stage beyond libraries and texts, and its name."""
    found: list[tuple[float, str]] = []
    for name, reader in params.readers.items():
        shape, size = reader_shape(name, params), BYTES[reader.dtype]
        budget = max(params.label.batch_tokens, params.evaluate.batch_tokens)
        found.append((size * (shape.parameters + LIVE * shape.width * budget), f"reader {name}"))
    for name, run in params.runs.items():
        shape, own = encoder_shape(run.encoder, params), amounts.tokens(params.encoders[run.encoder].model == FIT)
        questions = max(1, amounts.questions["train"])
        step = (amounts.passages["train"] * own.passage / questions + own.query) * params.train.queries_per_batch
        if params.train.recompute:
            step = min(step, params.train.micro_batch_tokens)
        kept = KEPT * step * shape.layers * shape.width * BYTES[params.train.precision] / BYTES["bfloat16"]
        found.append((TRAINED * shape.parameters + kept, f"train {name}"))
    return max(found)


def disk(params: Params, amounts: Amounts) -> dict[str, float]:
    """Bytes by what they hold. Texts and models that are made here lie in the workspace and in DVC's cache."""
    weights = sum(
        reader_shape(name, params).parameters * BYTES["float32" if reader.fit else "bfloat16"]
        for name, reader in params.readers.items()
    ) + sum(encoder_shape(name, params).parameters * BYTES["float32"] for name in params.encoders)
    trained = embedded = 0.0
    for run in params.runs.values():
        shape, seeds = encoder_shape(run.encoder, params), len(run.seeds or params.train.seeds)
        trained += COPIES * seeds * shape.parameters * BYTES["float32"]
        texts = sum(map(sum, _corpora(amounts, params)))
        embedded += seeds * texts * shape.width * BYTES["float32"]
    own = amounts.tokens(False)
    rows = sum(amounts.questions.values()) * (own.query + amounts.candidates * own.passage)
    rows += sum(amounts.passages.get(name, 0) for name in ("corpus", "beyond_corpus")) * own.passage
    return {
        "weights of readers and encoders": weights,
        "trained models": trained,
        "embeddings": min(embedded, EMBEDDINGS),
        "texts": COPIES * BYTES_A_TOKEN * rows,
    }
