"""The loss of an answer given a passage: what soft labels, and the answer NLL of an evaluation, are made of.

    score_answers(reader, [Triple("Where was …?", "… was born in Caldbury.", "Caldbury")], budget=8192)
    [Score(nll_sum=0.03, n_tokens=1, truncated=False)]

-log p(answer | prompt), summed over the answer's tokens, in nats: float32 log-softmax of logits at answer positions
only. Sequences of like length share a batch; padding is on the right, where causal attention never looks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitter_retrieval.batching import length_batches, pad_right
from bitter_retrieval.journal import Journal, content_key
from bitter_retrieval.language_model import Encoded, Reader, ReaderError


class Triple(NamedTuple):
    """One answer to score; the passage is "" when none is shown."""

    query: str
    passage: str
    answer: str


class Score(NamedTuple):
    nll_sum: float  # nats
    n_tokens: int  # of the answer
    truncated: bool  # the passage was cut to fit


def score_answers(
    reader: Reader,
    triples: Sequence[Triple],
    budget: int,
    journal: Journal | None = None,
    on_scored: Callable[[int], None] = lambda count: None,
) -> list[Score]:
    """Score each triple; equal ones once. `budget` bounds the tokens of a batch.

    Batches depend on the triples alone. A batch is taken from the journal if it is there whole, else it is computed
    whole, so the result is the same bytes whether a process before was killed or not. on_scored counts distinct
    triples.
    Raises ReaderError for a loss that is not finite.
    """
    distinct = list(dict.fromkeys(triples))
    encoded = reader.encode([t.query for t in distinct], [t.passage for t in distinct], [t.answer for t in distinct])
    keys = [content_key(kind="answer_loss", reader=reader.identity, triple=list(triple)) for triple in distinct]
    scores: dict[Triple, Score] = {}
    for batch in length_batches([len(e.ids) for e in encoded], budget):
        values = _known(journal, [keys[place] for place in batch])
        if values is None:
            values = [value.item() for value in answer_nlls(reader, [encoded[place] for place in batch])]
            _refuse_infinite(reader, [distinct[place] for place in batch], values)
            if journal is not None:
                journal.put(dict(zip([keys[place] for place in batch], values, strict=True)))
        for place, value in zip(batch, values, strict=True):
            item = encoded[place]
            scores[distinct[place]] = Score(value, len(item.ids) - item.answer_start, item.truncated)
        on_scored(len(batch))
    return [scores[triple] for triple in triples]


def _known(journal: Journal | None, keys: Sequence[str]) -> list[float] | None:
    found = journal.get(keys) if journal is not None else {}
    return [found[key] for key in keys] if len(found) == len(set(keys)) else None


def _refuse_infinite(reader: Reader, triples: Iterable[Triple], values: Iterable[float]) -> None:
    for triple, value in zip(triples, values, strict=True):
        if not -1e-3 <= value < float("inf"):
            raise ReaderError(
                f"reader {reader.name}: the loss of answer {triple.answer!r} to {triple.query!r} given "
                f"{triple.passage[:80]!r} is {value}. Check the checkpoint and readers.{reader.name}.dtype."
            )


@torch.inference_mode()
def answer_nlls(reader: Reader, batch: Sequence[Encoded]) -> Iterator[Tensor]:
    """Summed NLL (scalar, nats) of the answer of each sequence, in one forward pass."""
    ids, _ = pad_right([item.ids for item in batch], reader.pad)
    ids = ids.to(reader.model.device)
    rows = [row for row, item in enumerate(batch) for _ in range(len(item.ids) - item.answer_start)]
    places = [place for item in batch for place in range(item.answer_start, len(item.ids))]
    logits = _logits(reader.model, ids, rows, [place - 1 for place in places])
    losses = torch.nn.functional.cross_entropy(logits.float(), ids[rows, places], reduction="none")
    yield from (part.sum() for part in losses.split([len(item.ids) - item.answer_start for item in batch]))


def _logits(model: Any, ids: Tensor, rows: list[int], places: list[int]) -> Tensor:
    """Logits [n, vocabulary] at n places of ids [B, T].

    The output head is handed these places alone, inside the model's own forward: some architectures scale (Granite,
    Cohere) or cap (Gemma 2) what comes out of the head.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][rows, places],))
    try:
        return model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
