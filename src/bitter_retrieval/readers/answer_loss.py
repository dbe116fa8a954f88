"""The loss of an answer given a passage, from which soft labels and an evaluation's answer NLL are made.

    Scorer(reader, budget=8192).score([Triple("Where was …?", "… was born in Caldbury.", "Caldbury")])
    [Score(nll_sum=0.03, n_tokens=1, truncated=0, exact=True, said=None)]

-log p(answer | prompt), summed over the answer's tokens, in nats: float32 log-softmax of float32 logits at answer
positions only. Sequences are packed (packing.py): nothing is padded, and a common beginning of neighbours is computed
once: a question for all its candidates, a prompt for all its reference answers. A model that cannot be packed gets
batches of similar lengths, padded on the right, where causal attention never looks; one that reads padding, one by one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from bitter_retrieval.journal import Journal, content_key
from bitter_retrieval.models.batching import length_batches, neighbour_batches, pad_right
from bitter_retrieval.models.memory import is_out_of_memory
from bitter_retrieval.readers.generation import Ends
from bitter_retrieval.readers.language_model import BrokenReader, Encoded, Reader, ReaderError, refuse
from bitter_retrieval.readers.packing import HALF, forward_pack, pack_sequences, packed_attention
from bitter_retrieval.readers.prompts import Context

LEAD = {torch.float32: 1e-3}  # of the first choice over all others that no rounding takes away, in nats
LEAD_OF_HALF = 0.5
CHUNK = 1024  # triples planned together; meanwhile the next ones are tokenised


class InfiniteLoss(BrokenReader):
    """A loss that is not finite: a broken checkpoint, or a precision that overflows."""


class Triple(NamedTuple):
    """One answer to score; the passage is "" when none is shown, a tuple when several are."""

    query: str
    passage: Context
    answer: str


class Score(NamedTuple):
    nll_sum: float  # nats
    n_tokens: int  # of the answer
    truncated: int  # passages that were cut to fit
    exact: bool  # each of the answer's tokens is the reader's first choice
    said: list[int] | None = None  # tokens that greedy generation gives, where a scorer of what is said can tell


@dataclass
class Work:
    """What a scorer has done so far."""

    triples: int = 0  # distinct ones
    known: int = 0  # of them, taken from the journal
    tokens: int = 0  # of the sequences computed
    computed: int = 0  # places computed for them: fewer by sharing, more by padding
    seconds: float = 0.0  # computing
    halvings: int = 0  # of the budget, when memory ran out


@dataclass
class Chunk:
    """Triples that are planned together."""

    triples: list[Triple]
    keys: list[str]
    todo: list[int]  # places that were not known at the start
    scores: dict[str, Score]  # by key


class Scorer:
    """Scores triples with one reader, in batches under a budget.

    `budget` bounds a batch's memory, in tokens; a row of logits counts as the tokens that take as much (row_cost).
    Batches depend only on the triples, their order and the journal's content at the start, which the journal records
    as a plan: a killed process goes on with the same batches, so its result is the same bytes. When memory runs out,
    this batch and all later ones are halved; their values then differ by rounding.

    With `saying`, a score says what the reader would generate if that is the scored answer: its tokens lead, as an end
    token does after them, by more than rounding can change. That takes one more row of logits an answer.
    """

    def __init__(self, reader: Reader, budget: int, journal: Journal | None = None, saying: bool = False) -> None:
        self.work = Work()
        self.journalled: dict[str, Score] = {}  # what it gave, by the journal's key
        self._reader = reader
        self._budget = self._limit = budget
        self._journal = journal
        self._saying = saying

    @cached_property
    def _ends(self) -> Ends | None:
        return Ends(self._reader) if self._saying else None

    def score(
        self,
        triples: Sequence[Triple],
        on_scored: Callable[[int], None] = lambda count: None,
        on_bad: Callable[[ReaderError], None] = refuse,
    ) -> list[Score | None]:
        """Score each triple, equal ones once. on_scored: called with numbers of distinct triples that are done.

        Raises ReaderError for a triple that cannot be scored, unless on_bad accepts the error: its score is then None.
        """
        distinct = list(dict.fromkeys(triples))
        scores: dict[Triple, Score | None] = {}
        with packed_attention(self._reader.model, self._reader.kernel) if self._reader.packs else nullcontext():
            for chunk, encoded in self._ahead(distinct):
                on_scored(len(chunk.triples) - len(chunk.todo))
                self._score_chunk(chunk, encoded.result(), on_scored, on_bad)
                if self._journal is not None:
                    self.journalled |= chunk.scores
                scores |= {t: chunk.scores.get(key) for t, key in zip(chunk.triples, chunk.keys, strict=True)}
        return [scores[triple] for triple in triples]

    def _ahead(self, triples: list[Triple]) -> Iterator[tuple[Chunk, Future[list[Encoded | ReaderError]]]]:
        """Chunks with the tokens of their todo; the next one is tokenised while this one is scored."""
        starts = range(0, len(triples), CHUNK)
        with ThreadPoolExecutor(1) as background:
            waiting = None
            for start in starts:
                chunk = self._start(triples[start : start + CHUNK])
                following = chunk, background.submit(self._encode, [chunk.triples[place] for place in chunk.todo])
                if waiting:
                    yield waiting
                waiting = following
            if waiting:
                yield waiting

    def _encode(self, triples: list[Triple]) -> list[Encoded | ReaderError]:
        return self._reader.encode(*zip(*triples, strict=True)) if triples else []

    def _start(self, triples: list[Triple]) -> Chunk:
        """The chunk, with its todo as planned by the first process that saw these triples.

        Batches decide rounding: a later process must form the same ones, though the journal has grown since.
        """
        keys = [content_key(kind="score", reader=self._reader.identity, triple=list(triple)) for triple in triples]
        known = self._known(keys)
        self.work.triples += len(keys)
        if len(known) == len(keys):
            todo = []
        elif self._journal is None:
            todo = list(range(len(keys)))
        else:
            plan = content_key(kind="plan", budget=self._budget, keys=keys)
            self._journal.put({plan: [place for place, key in enumerate(keys) if key in known]})
            had = set(self._journal.get([plan])[plan])
            known = self._known([keys[place] for place in had])  # another process may have planned, and seen more
            todo = [place for place in range(len(keys)) if place not in had]
        self.work.known += len(keys) - len(todo)
        planned = {keys[place] for place in todo}
        return Chunk(triples, keys, todo, {key: score for key, score in known.items() if key not in planned})

    def _score_chunk(
        self,
        chunk: Chunk,
        encoded: list[Encoded | ReaderError],
        on_scored: Callable[[int], None],
        on_bad: Callable[[ReaderError], None],
    ) -> None:
        for error in (item for item in encoded if isinstance(item, ReaderError)):
            on_bad(error)
        usable = [(chunk.todo[n], item) for n, item in enumerate(encoded) if isinstance(item, Encoded)]
        on_scored(len(encoded) - len(usable))
        items = [item for _, item in usable]
        for places in self._batches(items, self._budget):
            batch = {chunk.keys[usable[place][0]]: usable[place] for place in places}
            found = self._known(list(batch))  # by another process, or before a kill
            if len(found) == len(batch):
                self.work.known += len(batch)
            else:  # all of it: a part of the batch would round differently
                found = dict(zip(batch, self._compute([item for _, item in batch.values()]), strict=True))
                for key, (place, _) in batch.items():
                    if not -1e-3 <= found[key].nll_sum < float("inf"):  # rounding may fall below 0
                        on_bad(self._infinite(chunk.triples[place], found.pop(key).nll_sum))
                found = self._keep(found)
            chunk.scores |= found
            on_scored(len(batch))

    def _known(self, keys: list[str]) -> dict[str, Score]:
        found = self._journal.get(keys) if self._journal is not None else {}
        return {key: Score(*value) for key, value in found.items()}

    def _keep(self, scores: dict[str, Score]) -> dict[str, Score]:
        """Journal the scores. If another process was first, its scores count."""
        if self._journal is None:
            return scores
        self._journal.put(scores)
        return self._known(list(scores))

    def _infinite(self, triple: Triple, value: float) -> InfiniteLoss:
        name = self._reader.name
        return InfiniteLoss(
            f"reader {name}: the loss of answer {triple.answer!r} to {triple.query!r} given {triple.passage[:80]!r} is "
            f"{value}. Check the checkpoint and readers.{name}.dtype."
        )

    # -- batches -----------------------------------------------------------------------------------------------------

    def _batches(self, items: Sequence[Encoded], budget: int) -> list[list[int]]:
        lengths = [len(item.ids) for item in items]
        batches = neighbour_batches if self._reader.packs else length_batches
        return batches(lengths, budget if self._reader.pads_right else 0, self._logit_costs(items))

    def _logit_costs(self, items: Sequence[Encoded]) -> list[int]:
        row = row_cost(self._reader.model)
        return [row * (len(item.ids) - item.answer_start + self._saying) for item in items]

    def _compute(self, items: Sequence[Encoded]) -> list[Score]:
        """Scores of the items, in smaller batches once memory has run out."""
        scores: dict[int, Score] = {}
        waiting = self._batches(items, self._limit)
        while waiting:
            part = [items[place] for place in waiting[0]]
            try:
                found = self._forward(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise self._too_long(part[0]) from error
                found = None
            if found is None:  # outside the handler: there the error keeps the failed attempt's tensors alive
                torch.cuda.empty_cache()
                self.work.halvings += 1
                spent = sum(len(item.ids) for item in part) + sum(self._logit_costs(part))
                self._limit = min(self._limit, spent) // 2
                rest = sorted(place for batch in waiting for place in batch)
                again = self._batches([items[place] for place in rest], self._limit)
                waiting = [[rest[place] for place in batch] for batch in again]
            else:
                scores.update(zip(waiting.pop(0), found, strict=True))
        return [scores[place] for place in range(len(items))]

    def _too_long(self, item: Encoded) -> ReaderError:
        name = self._reader.name
        return ReaderError(
            f"reader {name}: not enough memory for one sequence of {len(item.ids)} tokens. Lower "
            f"readers.{name}.max_length, or set its dtype to bfloat16."
        )

    def _forward(self, items: Sequence[Encoded]) -> list[Score]:
        started = time.perf_counter()
        sequences, model = [item.ids for item in items], self._reader.model
        places: Sequence[Sequence[int]]
        forward: Callable[[], Any]
        with torch.inference_mode():
            if self._reader.packs:
                pack = pack_sequences(sequences, model.device)
                places, computed = pack.places, pack.ids.shape[1]
                forward = partial(forward_pack, model, pack)
            else:
                ids = pad_right(sequences, self._reader.pad)[0].to(model.device)
                width, computed = ids.shape[1], ids.numel()
                places = [range(row * width, row * width + len(item.ids)) for row, item in enumerate(items)]
                forward = partial(model, input_ids=ids, use_cache=False)
            scores = _answer_scores(model, forward, items, places, self._ends)
        self.work.tokens += sum(map(len, sequences))
        self.work.computed += computed
        self.work.seconds += time.perf_counter() - started
        return scores


def row_cost(model: Any) -> int:
    """Tokens whose states take as much memory as a row of logits, at some eight live vectors of hidden size each."""
    config = model.config.get_text_config()
    return config.vocab_size // (8 * config.hidden_size)


def _answer_scores(
    model: Any,
    forward: Callable[[], Any],
    items: Sequence[Encoded],
    places: Sequence[Sequence[int]],
    ends: Ends | None,
) -> list[Score]:
    """Scores by one forward pass. places: of each item's tokens, among the states that reach the output head."""
    # The state at a token predicts the next one: an answer is predicted from the place before it on.
    before = [p for item, own in zip(items, places, strict=True) for p in own[item.answer_start - 1 : -1]]
    last = [own[-1] for own in places] if ends else []
    answers = [item.ids[item.answer_start :] for item in items]
    wanted = torch.tensor([token for own in answers for token in own], device=model.device)
    with _float32_head(model, torch.tensor(before + last, device=model.device)):
        logits = forward().logits
    losses = cross_entropy(logits[: len(before)], wanted, reduction="none").double().cpu()
    lead = _leads(logits[: len(before)], wanted[:, None]).cpu()  # overwrites logits
    ended = [False] * len(items)
    enough = LEAD.get(model.dtype, LEAD_OF_HALF)
    if ends:
        tokens = [token for token in sorted(ends.tokens) if token < logits.shape[1]]
        among = torch.tensor(tokens, dtype=torch.long, device=model.device).expand(len(items), -1)
        ended = (_leads(logits[len(before) :], among) > enough).tolist()
    lengths = list(map(len, answers))
    rows = zip(items, answers, losses.split(lengths), lead.split(lengths), ended, strict=True)
    return [
        Score(
            loss.sum().item(),
            len(loss),
            item.truncated,
            bool((ahead >= 0).all()),
            ends.greedy(answer, end) if ends and not item.truncated and bool((ahead > enough).all()) else None,
        )
        for item, answer, loss, ahead, end in rows
    ]


def _leads(logits: Tensor, tokens: Tensor) -> Tensor:
    """By how much the best of these tokens [n, k] leads all others, of logits [n, vocabulary], which it overwrites."""
    if not tokens.shape[1]:
        return logits.new_full((len(logits),), -torch.inf)
    best = logits.gather(1, tokens).amax(1)
    return best - logits.scatter_(1, tokens, -torch.inf).amax(1)


@contextmanager
def _float32_head(model: Any, places: Tensor) -> Iterator[None]:
    """Within it, the model's logits are float32 and only of these places of the batch, [n, vocabulary].

    The places are picked inside the model's own forward, as some architectures scale (Granite, Cohere) or cap (Gemma 2)
    the output of the head.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, states: (states[0].flatten(0, -2)[places],))
    half = isinstance(head, torch.nn.Linear) and head.weight.dtype in HALF
    if half:  # otherwise logits would be rounded to three digits
        head.forward = partial(_float32_linear, weight=head.weight, bias=head.bias)
    try:
        yield
    finally:
        hook.remove()
        if half:
            del head.forward


def _float32_linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not states.is_cuda:
        return linear(states.float(), weight.float(), None if bias is None else bias.float())
    logits = torch.mm(states, weight.T, out_dtype=torch.float32)
    return logits if bias is None else logits + bias.float()
