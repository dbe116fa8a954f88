"""Whether a reader's model is causal, and whether its sequences may share a batch: tried on a few random tokens.

    is_causal(model)         a later token changes no earlier logit; else it is no reader
    can_pack(model)          sequences end to end in one row (packing.py)
    pads_right(model, pad)   a batch padded on the right gives the logits of each sequence alone: scoring
    pads_left(model, pad)    the same of a batch padded on the left, while it generates

A model that fails the others is right with one sequence at a time. Recurrent ones, say, may read padding as text.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bitter_retrieval.models.batching import pad_right
from bitter_retrieval.readers.packing import PackingError, forward_pack, pack_sequences, packed_attention

WITHIN, WITHIN_HALF = 1e-3, 0.1  # of _relative_difference: rounding stays far below, leaks are near 1
STEPS = 3  # of generation


def is_causal(model: Any) -> bool:
    """Whether the model gives a token the same logits whatever follows it."""
    drawn = _drawn(model)
    logits = [_logits(model, drawn[:20] + rest) for rest in (drawn[20:40], drawn[40:60])]
    return not _relative_difference(logits[0][:20], logits[1][:20]) > _within(model)  # NaN is another fault


def can_pack(model: Any, chosen: str = "sdpa") -> bool:
    """Whether the model gives sequences in a pack the logits that it gives them alone.

    Models that attend in their own way (state space models, soft caps, position biases) do not: this is measured, on
    random tokens with a common beginning.
    """

    def packed(sequences: list[list[int]]) -> list[Tensor]:
        with packed_attention(model, chosen):
            pack = pack_sequences(sequences, model.device)
            logits = forward_pack(model, pack).logits[0]
        if not pack.masked_windows <= pack.windows:  # which logits do not show if the window exceeds these sequences
            raise PackingError("its attention is local by a mask alone.")
        return [logits[places] for places in pack.places]

    return _as_alone(model, "packed", packed, lambda ids: _logits(model, ids))


def pads_right(model: Any, pad: int) -> bool:
    """Whether the model gives sequences in a batch with `pad` after them the logits that it gives them alone."""

    def padded(sequences: list[list[int]]) -> list[Tensor]:
        logits = model(input_ids=pad_right(sequences, pad)[0].to(model.device), use_cache=False).logits
        return [own[: len(ids)] for own, ids in zip(logits, sequences, strict=True)]

    return _as_alone(model, "scored in batches", padded, lambda ids: _logits(model, ids))


def pads_left(model: Any, pad: int) -> bool:
    """Whether prompts in a batch with `pad` before them are continued as they are alone."""

    def continued(prompts: list[list[int]]) -> list[Tensor]:
        from transformers import GenerationConfig

        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(own)) + own for own in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(own)) + [1] * len(own) for own in prompts], device=model.device)
        made = model.generate(
            ids,
            attention_mask=mask,
            generation_config=GenerationConfig(
                max_length=width + STEPS, pad_token_id=pad, return_dict_in_generate=True, output_logits=True
            ),
            prefix_allowed_tokens_fn=lambda _, own: [drawn[len(own) - width]],  # logits are those before it
        )
        return list(torch.stack(made.logits, 1))

    drawn = _drawn(model)
    with checkpoint_settings_aside(model):
        return _as_alone(model, "asked in batches", continued, lambda ids: continued([ids])[0])


@contextmanager
def checkpoint_settings_aside(model: Any) -> Iterator[None]:
    """Within it, `generate` obeys its arguments alone: it would take other settings from the checkpoint's file."""
    from transformers import GenerationConfig

    theirs, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = theirs


@torch.inference_mode()
def _as_alone(
    model: Any,
    how: str,
    together: Callable[[list[list[int]]], list[Tensor]],
    alone: Callable[[list[int]], Tensor],
) -> bool:
    """Whether `together` gives sequences of three lengths the logits [T, V] that `alone` gives each of them."""
    drawn = _drawn(model)
    sequences = [drawn[:24] + drawn[40:56], drawn[:24] + drawn[30:33], drawn[50:]]
    wanted = [alone(ids) for ids in sequences]
    log = logging.getLogger(__name__)
    try:
        pairs = list(zip(together(sequences), wanted, strict=True))
    except Exception as error:  # a model may raise anything: its sequences then go one by one
        log.warning("%s is not %s: %s", type(model).__name__, how, error)
        return False
    difference = max(_relative_difference(found, own) for found, own in pairs)
    if difference > _within(model):
        log.warning("%s is not %s: its logits differ by %.2g", type(model).__name__, how, difference)
    return difference <= _within(model)


def _drawn(model: Any) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.get_text_config().vocab_size, (64,), generator=generator).tolist()


@torch.inference_mode()
def _logits(model: Any, ids: list[int]) -> Tensor:
    return model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]


def _within(model: Any) -> float:
    return WITHIN if model.dtype == torch.float32 else WITHIN_HALF


def _relative_difference(logits: Tensor, wanted: Tensor) -> float:
    """Of logits [T, V]: the worst token's mean difference in log-probability, in units of the logits' spread."""
    logits, wanted = logits.float(), wanted.float()
    nats = (logits.log_softmax(-1) - wanted.log_softmax(-1)).abs().mean(-1).max()
    return (nats / wanted.std()).item()
