"""What a reader answers: batched greedy generation.

    generate_answers(reader, [("Where was …?", "… was born in Caldbury.")], budget=8192)
    [Answer(text="caldbury", truncated=False)]

An answer ends at the end token, at a line break, or after max_new_tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from bitter_retrieval.batching import length_batches
from bitter_retrieval.language_model import Encoded, Reader, ReaderError


class Answer(NamedTuple):
    text: str
    truncated: bool  # the passage was cut to fit


def generate_answers(reader: Reader, items: Sequence[tuple[str, str]], budget: int) -> list[Answer]:
    """Answer each (query, passage); `budget` bounds the prompt tokens of a batch."""
    encoded = reader.encode([query for query, _ in items], [passage for _, passage in items], None)
    for item in encoded:
        if isinstance(item, ReaderError):
            raise item
    answers: dict[int, Answer] = {}
    for batch in length_batches([len(item.ids) for item in encoded], budget):
        texts = _generate(reader, [encoded[place] for place in batch])
        for place, text in zip(batch, texts, strict=True):
            answers[place] = Answer(text.split("\n")[0].strip(), encoded[place].truncated)
    return [answers[place] for place in range(len(items))]


@torch.inference_mode()
def _generate(reader: Reader, batch: Sequence[Encoded]) -> list[str]:
    width = max(len(item.ids) for item in batch)
    ids = torch.full((len(batch), width), reader.pad)
    mask = torch.zeros_like(ids)
    for row, item in enumerate(batch):  # padded on the left: every prompt ends where generation begins
        ids[row, width - len(item.ids) :] = torch.tensor(item.ids)
        mask[row, width - len(item.ids) :] = 1
    device = reader.model.device
    made = reader.model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=reader.max_new_tokens,
        do_sample=False,
        pad_token_id=reader.pad,
        eos_token_id=reader.tokenizer.eos_token_id,
        tokenizer=reader.tokenizer,
    )
    return reader.tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)
