"""Dropout for training on the CPU that costs little time and memory; an encoder without dropout is left as it is.

    with cheap_dropout(encoder.model):
        loss = …; loss.backward()

torch draws two random numbers for an element, one thread doing it all, and keeps four bytes of each for the backward
pass; under dropout its attention keeps three matrices of weights besides. Here one draw does for two elements, a byte
of each is kept, and the weights are computed again: of a step of all-MiniLM-L6-v2 (dropout 0.1) that is an eighth of
the time and a third of the memory.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bitter_retrieval.models.attention import changes

NAME = "bitter_retrieval_cheap_dropout"  # among transformers' attention implementations
LEVELS = 1 << 16  # of a random number: the rate of dropout is rounded to these
LOWEST = torch.iinfo(torch.int64).min


@contextmanager
def cheap_dropout(model: Any) -> Iterator[None]:
    """While it lasts, dropout of `model` is the one of this module, if it is on the CPU and attends with sdpa."""
    modules = [module for module in model.modules() if type(module) is nn.Dropout and module.p]
    if not modules or model.device.type != "cpu" or model.config._attn_implementation != "sdpa":
        yield
        return
    _register()
    model.set_attn_implementation(NAME)
    for module in modules:
        module.__class__ = CheapDropout
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")
        for module in modules:
            module.__class__ = nn.Dropout


class CheapDropout(nn.Dropout):
    def forward(self, states: Tensor) -> Tensor:
        return (states * kept(states.shape, self.p)).mul_(_scale(self.p)) if self.training else states


def kept(shape: Sequence[int], p: float) -> Tensor:
    """1 where an element stays, with probability 1 - p, else 0; uint8, since torch is slow with bool."""
    count = math.prod(shape)
    drawn = torch.empty(math.ceil(count / 4), dtype=torch.int64).random_(LOWEST, None).view(torch.int16)
    return (drawn[:count] >= _dropped_levels(p) - LEVELS // 2).view(torch.uint8).view(shape)


def _dropped_levels(p: float) -> int:
    return round(p * LEVELS)


def _scale(p: float) -> float:
    """What the elements that stay are multiplied by, so that the mean stays too."""
    return 1 / (1 - _dropped_levels(p) / LEVELS)


@cache
def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query, key and value [B, H, T, D] to [B, T, H, D]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    plain = query.shape[1] == key.shape[1] and query.dtype in (torch.float32, torch.float64)
    masked_plainly = attention_mask is None or attention_mask.dtype == torch.bool
    both_ways = not getattr(module, "is_causal", True) and not changes(kwargs)
    if not (dropout and plain and masked_plainly and both_ways):
        rest = {"dropout": dropout, "scaling": scaling, **kwargs}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return DroppedAttention.apply(query, key, value, attention_mask, scaling, dropout).transpose(1, 2), None


class DroppedAttention(torch.autograd.Function):
    """dropout(softmax(scaling q k^T)) v, whose backward pass computes the softmax again."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, p: float
    ) -> Tensor:
        weights = _weights(query, key, mask, scaling)
        stays = kept(weights.shape, p)
        ctx.save_for_backward(query, key, value, mask, stays)
        ctx.scaling, ctx.scale = scaling, _scale(p)
        return weights.mul_(stays) @ (value * ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, stays = ctx.saved_tensors
        weights = _weights(query, key, mask, ctx.scaling)
        gradient = gradient * ctx.scale
        of_value = (weights * stays).transpose(-1, -2) @ gradient
        of_weights = (gradient @ value.transpose(-1, -2)).mul_(stays)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(ctx.scaling)
        return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value, None, None, None


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """[B, H, T, T] what each token takes from the others, before dropout; mask is True where it looks."""
    scores = (query * scaling) @ key.transpose(-1, -2)
    if mask is not None:
        scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1)
