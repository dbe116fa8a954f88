"""A reader's answers: batched greedy generation.

    generate_answers(reader, [("Where was …?", "… was born in Caldbury.")], budget=8192)
    [Answer(text="caldbury", truncated=0)]

Greedy means the most probable token at every step: of a checkpoint's generation_config.json only the end tokens count,
not its sampling, penalties, forced tokens or lengths. An answer ends at an end token, before a line break, one of the
reader's stop texts or what its chat template writes after an answer, or after max_new_tokens. Prompts of similar length
share a batch, padded on the left. Once half of its answers have ended, the others go on without them. Cached states are
copied for those only, so that all copies of a batch cost less than copying all states once. A model that attends in its
own way (Reader.packs) may keep other states than keys and values: its batches stay whole until the last answer has
ended.

A long common beginning of a batch's prompts, as worked examples are, is computed once. Padding then follows it.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitter_retrieval.models.batching import length_batches
from bitter_retrieval.models.memory import is_out_of_memory
from bitter_retrieval.readers.language_model import Encoded, Reader, ReaderError, refuse
from bitter_retrieval.readers.probes import checkpoint_settings_aside
from bitter_retrieval.readers.prompts import Context

LINE_BREAK = "\n"
SHARED = 64  # tokens that make a common beginning of prompts worth a pass of its own

Tokens = list[list[int]]  # of several prompts or answers
Once = Callable[[Tokens, Callable[[], Tokens]], Tokens]  # answers a batch's prompts by the function, or from memory


class Answer(NamedTuple):
    text: str
    truncated: int  # passages that were cut to fit


def at_once(prompts: Tokens, work: Callable[[], Tokens]) -> Tokens:
    """Nothing is known beforehand."""
    return work()


def generate_answers(
    reader: Reader,
    items: Sequence[tuple[str, Context]],
    budget: int,
    once: Once = at_once,
    on_bad: Callable[[ReaderError], None] = refuse,
    known: Sequence[list[int] | None] | None = None,
) -> list[Answer | None]:
    """Answer each (query, passages); `budget` and `once` as in generate_tokens.

    known: tokens that the reader is known to say to an item of which nothing is cut (Score.said); None: to be
    generated. Raises ReaderError for an item that the reader cannot be asked, unless on_bad accepts the error: its
    answer is then None. If that is every item, the first error is raised anyway: the fault lies in how the reader is
    asked.
    """
    encoded = reader.encode([query for query, _ in items], [context for _, context in items], None)
    asked = {place: item for place, item in enumerate(encoded) if isinstance(item, Encoded)}
    for error in (item for item in encoded if isinstance(item, ReaderError)):
        (on_bad if asked else refuse)(error)
    said = {
        place: tokens
        for place, tokens in enumerate(known or [])
        if tokens is not None and place in asked and not asked[place].truncated
    }
    left = [place for place in asked if place not in said]
    said |= zip(left, generate_tokens(reader, [asked[place].ids for place in left], budget, once), strict=True)
    return [
        Answer(_text(reader, said[place]), asked[place].truncated) if place in asked else None
        for place in range(len(items))
    ]


def _text(reader: Reader, tokens: list[int]) -> str:
    return _stops(reader).split(reader.tokenizer.decode(tokens, skip_special_tokens=True), maxsplit=1)[0].strip()


def generate_tokens(reader: Reader, prompts: Sequence[list[int]], budget: int, once: Once = at_once) -> Tokens:
    """Tokens of each answer, up to its end token or through the token that completes a stop text.

    budget: tokens of a batch, prompts and the longest possible answers with padding, as its cache holds all of them.
    A model to which padding is no padding (Reader.pads_left) is asked one by one. When memory runs out, this batch and
    all later ones are halved. once: may know a batch's answers already; batches
    are planned from all prompts before it is called, so what it knows does not change them.
    """
    lengths = [len(prompt) + reader.max_new_tokens for prompt in prompts]
    said: dict[int, list[int]] = {}
    budget = budget if reader.pads_left else 0  # one by one
    waiting = length_batches(lengths, budget)
    while waiting:
        batch = waiting[0]
        asked = [prompts[place] for place in batch]
        try:
            found = once(asked, partial(_generate, reader, asked))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise _too_long(reader, lengths[batch[0]]) from error
            found = None
        if found is None:  # outside the handler: there the error keeps the failed attempt's tensors alive
            torch.cuda.empty_cache()
            budget = min(budget, lengths[batch[-1]] * len(batch)) // 2
            rest = [place for batch in waiting for place in batch]
            again = length_batches([lengths[place] for place in rest], budget)
            waiting = [[rest[place] for place in batch] for batch in again]
        else:
            said.update(zip(waiting.pop(0), found, strict=True))
    return [said[place] for place in range(len(prompts))]


def _too_long(reader: Reader, length: int) -> ReaderError:
    return ReaderError(
        f"reader {reader.name}: not enough memory for one prompt and its answer, {length} tokens. Lower "
        f"readers.{reader.name}.max_length or max_new_tokens, or set its dtype to bfloat16."
    )


@torch.inference_mode()
def _generate(reader: Reader, prompts: Tokens) -> Tokens:
    from transformers import GenerationConfig

    model, width = reader.model, max(map(len, prompts))
    shared = _shared(reader, prompts)
    padded = [own[:shared] + [reader.pad] * (width - len(own)) + own[shared:] for own in prompts]
    ids = torch.tensor(padded, device=model.device)
    pads = torch.tensor([width - len(own) for own in prompts], device=model.device)[:, None]
    places = torch.arange(width, device=model.device)
    mask = ((places < shared) | (places >= shared + pads)).long()
    settings = GenerationConfig(
        max_length=width + reader.max_new_tokens, pad_token_id=reader.pad, return_dict_in_generate=True
    )
    ending = _Ending(reader, width, len(prompts))
    states: dict[str, Any] = {}
    if shared:
        cache = model(ids[:1, :shared], use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(prompts))
        states = {"past_key_values": cache}
    with checkpoint_settings_aside(model):
        while ending.rows:
            made = model.generate(
                ids, attention_mask=mask, generation_config=settings, stopping_criteria=[ending], **states
            )
            kept = torch.tensor(ending.drop_ended(), dtype=torch.long, device=model.device)
            if len(kept):
                ids = made.sequences[kept]
                mask = torch.nn.functional.pad(mask[kept], (0, ids.shape[1] - mask.shape[1]), value=1)
                made.past_key_values.batch_select_indices(kept)
                states = {"past_key_values": made.past_key_values}
    return [ending.said[row] for row in range(len(prompts))]


def _shared(reader: Reader, prompts: Tokens) -> int:
    """Tokens of the prompts' common beginning that are computed once; 0 if that does not pay, or may change answers.

    Padding inside a prompt would count in the window of a model that looks back only so far.
    """
    common = min(len(os.path.commonprefix(prompts)), min(map(len, prompts)) - 1)
    if common < SHARED or len(prompts) == 1 or not reader.packs:
        return 0
    window = getattr(reader.model.config.get_text_config(), "sliding_window", None)
    longest = max(map(len, prompts)) + reader.max_new_tokens
    return common if window is None or longest <= window else 0


class _Ending:
    """A stopping criterion of `generate` that records each answer as it ends."""

    def __init__(self, reader: Reader, width: int, count: int) -> None:
        self.said: dict[int, list[int]] = {}  # by row of the whole batch
        self.rows = list(range(count))  # still in the batch
        self._reader = reader
        self._width = width  # of the prompts
        self._ends = Ends(reader)

    def __call__(self, ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Stops all rows at once, or none."""
        new = ids[:, self._width :].tolist()
        going_on = [(row, own) for row, own in zip(self.rows, new, strict=True) if row not in self.said]
        texts = self._reader.tokenizer.batch_decode([own for _, own in going_on], skip_special_tokens=True)
        for (row, own), text in zip(going_on, texts, strict=True):
            said = self._ends.said(own, text)
            if said is not None:
                self.said[row] = said
        left = sum(row not in self.said for row in self.rows)
        stop = 2 * left <= len(self.rows) if self._reader.packs else left == 0
        return torch.full((len(self.rows),), stop, device=ids.device)

    def drop_ended(self) -> list[int]:
        """Drop the rows that have ended. Returns the places in the batch of those that go on."""
        kept = [place for place, row in enumerate(self.rows) if row not in self.said]
        self.rows = [self.rows[place] for place in kept]
        return kept


class Ends:
    """Where a reader's answers end."""

    def __init__(self, reader: Reader) -> None:
        self.tokens = end_tokens(reader)
        self._reader = reader
        self._stops = _stops(reader)

    def said(self, tokens: list[int], text: str) -> list[int] | None:
        """The answer's tokens if it ends with the last of these, whose text is given; None if it goes on."""
        if tokens[-1] in self.tokens:
            return tokens[:-1]
        return tokens if len(tokens) == self._reader.max_new_tokens or self._stops.search(text) else None

    def greedy(self, tokens: list[int], ended: bool) -> list[int] | None:
        """The answer of a reader whose first choices are these tokens, and then an end token if `ended`.

        None if it goes on beyond these tokens.
        """
        for count in range(1, len(tokens) + 1):
            own = tokens[:count]
            said = self.said(own, self._reader.tokenizer.decode(own, skip_special_tokens=True))
            if said is not None:
                return said
        return tokens if ended else None


def _stops(reader: Reader) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, (LINE_BREAK, *reader.ends))))


def end_tokens(reader: Reader) -> set[int]:
    """Tokens that end an answer: the tokenizer's, the checkpoint's (a chat model's end of turn, say), the reader's.

    The reader's are stop texts and ends of a chat's turn that are special tokens, which decoded text does not show.
    """
    named = reader.model.generation_config.eos_token_id
    special = {str(token): place for place, token in reader.tokenizer.added_tokens_decoder.items()}
    found = [reader.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return {*found, *map(special.get, reader.ends)} - {None}
