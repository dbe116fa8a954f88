"""The kernel that attention runs on: flash-attn's, torch's for sequences of any lengths (varlen), or padded sdpa.

    chosen("auto", half=True)                             flash if flash-attn is installed, else varlen
    with unpadded_attention(model, "auto", half=True): …  an encoder in training leaves padding out of attention

flash and varlen need bfloat16 or float16, and an NVIDIA GPU since Ampere; elsewhere sdpa is used. Packs: packing.py.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

NAME = "bitter_retrieval_unpadded"  # among transformers' attention implementations
AMPERE = (8, 0)  # compute capability
# Arguments of a layer's attention that change it: capped logits, attention sinks, position biases, cached states.
CHANGES = ("softcap", "s_aux", "position_bias", "cache")
TOLERANCE = 0.05  # relative difference of states: bfloat16's rounding stays below, other attention is near 1


class AttentionError(ValueError):
    """A kernel that was asked for and is unavailable, or does not serve the model."""


def changes(arguments: Mapping[str, Any]) -> list[str]:
    """Names of the given arguments that change attention in ways the kernels do not support."""
    return [name for name in CHANGES if arguments.get(name) is not None]


def chosen(asked: str, half: bool) -> str:
    """flash, varlen or sdpa: as asked, or the fastest available (auto). half: numbers have two bytes.

    Raises AttentionError.
    """
    gpu = torch.cuda.is_available() and torch.cuda.get_device_capability() >= AMPERE
    installed = importlib.util.find_spec("flash_attn") is not None
    if asked == "auto":
        return "sdpa" if not (gpu and half) else "flash" if installed else "varlen"
    needs = {
        "an NVIDIA GPU since Ampere": gpu,
        "bfloat16 or float16": half,
        "flash-attn, installed as requirements-gpu.txt says": installed or asked != "flash",
    }
    lacking = [what for what, there in needs.items() if not there and asked != "sdpa"]
    if lacking:
        raise AttentionError(f"attention: {asked} needs {', '.join(lacking)}. auto takes the fastest available.")
    return asked


@cache
def kernel(name: str) -> Callable[..., Tensor]:
    """flash or varlen, as a function of query, key and value [T, H, D] (sequences end to end), cumulative lengths of
    queries and of keys, the longest of each, scale, and how far a query sees back and ahead (-1: all)."""
    if name == "flash":
        from flash_attn import flash_attn_varlen_func

        def flash(q: Tensor, k: Tensor, v: Tensor, own: Tensor, seen: Tensor, *rest: Any) -> Tensor:
            longest_own, longest_seen, scale, window = rest
            sizes, how = (own, seen, longest_own, longest_seen), {"causal": window[1] == 0, "window_size": window}
            return flash_attn_varlen_func(q, k, v, *sizes, softmax_scale=scale, **how)

        return flash
    from torch.nn.attention.varlen import varlen_attn

    def varlen(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *sizes, scale, window = rest
        return varlen_attn(q, k, v, *sizes, scale=scale, window_size=window)

    return varlen


# -- encoders --------------------------------------------------------------------------------------------------------

_chosen = "sdpa"


@contextmanager
def unpadded_attention(model: Any, asked: str, half: bool) -> Iterator[None]:
    """Within it, a bidirectional `model` under autocast attends by flash or varlen, if one is chosen and serves it.

    Other models (which drop attention weights, or attend in their own way) keep their attention. Raises AttentionError
    for one if the kernel was asked for by name.
    """
    global _chosen
    # transformers sets it publicly, but does not tell it: tests/project/test_private_names.py fails once it does.
    before, _chosen = model.config._attn_implementation, chosen(asked, half)
    if _chosen == "sdpa":
        yield
        return
    try:
        why = _objection(model)
        if why and asked != "auto":
            raise AttentionError(f"attention: {asked} does not serve {type(model).__name__}: {why}. Set it to auto.")
        if why:
            logging.getLogger(__name__).warning("%s attends to padded batches: %s", type(model).__name__, why)
            model.set_attn_implementation(before)
        yield
    finally:
        model.set_attn_implementation(before)


@torch.no_grad()
def _objection(model: Any) -> str:
    """Switch the model to the kernel and try it on random tokens. Returns why it does not serve, or ""."""
    _register()
    was_training = model.training
    width = min(200, getattr(model.config, "max_position_embeddings", None) or 200) - 8  # longer than most windows
    ids = torch.randint(model.config.vocab_size, (2, width), generator=torch.Generator().manual_seed(0))
    real = torch.arange(width) < torch.tensor([[width], [width // 2]])
    ids, real = ids.to(model.device), real.to(model.device)
    gpus = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.autocast(model.device.type, torch.bfloat16), torch.random.fork_rng(gpus):
            states = [model.eval()(input_ids=ids, attention_mask=real.long()).last_hidden_state]
            model.set_attn_implementation(NAME)
            if model.config._attn_implementation != NAME:
                return "its attention cannot be replaced"
            states.append(model(input_ids=ids, attention_mask=real.long()).last_hidden_state)
            model.train()(input_ids=ids, attention_mask=real.long())  # only training drops attention weights
    except Exception as error:  # a model or a kernel may raise anything
        return (str(error).strip() or repr(error)).splitlines()[0]
    finally:
        model.train(was_training)
    wanted, found = (part[real].float() for part in states)
    difference = ((found - wanted).norm() / wanted.norm()).item()
    return "" if difference < TOLERANCE else f"its states differ by {difference:.2g}"


@cache
def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, lambda *_, attention_mask=None, **__: attention_mask)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: states [B, H, T, D] and a mask [B, T] of real tokens to [B, T, H, D].

    The kernel gets the real tokens of all rows end to end; padding is left out, and its results are 0.
    """
    if dropout:
        raise AttentionError("it drops attention weights in training")
    if getattr(module, "is_causal", True) or changes(kwargs):
        raise AttentionError("it attends in its own way")
    batch, heads, width, size = query.shape
    real = query.new_ones(batch, width, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    places = real.flatten().nonzero()[:, 0]
    half = torch.get_autocast_dtype(query.device.type)
    q, k, v = (states.transpose(1, 2).reshape(-1, heads, size)[places].to(half) for states in (query, key, value))
    ends = torch.nn.functional.pad(real.sum(1).cumsum(0), (1, 0)).int()
    edge = -1 if sliding_window is None else sliding_window - 1  # transformers counts the query's own place
    attended = kernel(_chosen)(q, k, v, ends, ends, width, width, scaling, (edge, edge))
    padded = attended.new_zeros(batch * width, heads, size).index_copy(0, places, attended)
    return padded.view(batch, width, heads, size), None
