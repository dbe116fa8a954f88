"""CUDA's kernels for sequences of any lengths, under their own names and arguments, with slow arithmetic behind them.

emulated_kernels.install("flash", monkeypatch)        import flash_attn; attention.kernel("flash")(query, …)
"""

import importlib.machinery
import inspect
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from bitter_retrieval.models import attention


def install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install flash-attn's function ("flash") or torch's ("varlen") until the test ends."""
    monkeypatch.setattr(attention, "kernel", attention.kernel.__wrapped__)  # without its cache
    if name == "varlen":
        from torch.nn.attention import varlen

        signature = inspect.signature(varlen.varlen_attn)

        def varlen_attn(*args: Any, **kwargs: Any) -> Tensor:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            arguments = dict(given.arguments)
            names = ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale", "window_size"]
            found = attend(*(arguments.pop(name) for name in names))
            assert not any(arguments.values()), "an argument that is not known here"
            return found

        monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    else:

        def flash_attn_varlen_func(
            *args: Any, softmax_scale: float | None, causal: bool, window_size: tuple[int, int]
        ) -> Tensor:
            assert causal == (window_size[1] == 0)
            return attend(*args, softmax_scale, window_size)

        flash = ModuleType("flash_attn")
        flash.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
        flash.flash_attn_varlen_func = flash_attn_varlen_func
        monkeypatch.setitem(sys.modules, "flash_attn", flash)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    own: Tensor,
    seen: Tensor,
    longest_own: int,
    longest_seen: int,
    scale: float | None,
    window: tuple[int, int],
) -> Tensor:
    """[Tq, H, D] of query [Tq, H, D], key and value [Tk, H, D], run by run in float64.

    The last query of a run stands where its last key does; a query sees window[0] keys before that, window[1] after it
    (-1: all). No run is longer than is said.
    """
    assert query.is_contiguous() and key.is_contiguous() and value.is_contiguous()
    assert own.dtype == seen.dtype == torch.int32 and len(own) == len(seen) and own[0] == seen[0] == 0
    assert (own[-1], seen[-1]) == (len(query), len(key)) and key.shape == value.shape
    assert longest_own >= own.diff().max() and longest_seen >= seen.diff().max()
    runs = []
    for run in range(len(own) - 1):
        q = query[own[run] : own[run + 1]].double().transpose(0, 1)
        k, v = (part[seen[run] : seen[run + 1]].double().transpose(0, 1) for part in (key, value))
        at = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1]
        ahead = torch.arange(k.shape[1]) - at
        visible = ((ahead <= window[1]) | (window[1] < 0)) & ((ahead >= -window[0]) | (window[0] < 0))
        weights = q @ k.transpose(1, 2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        runs.append((weights.masked_fill(~visible, float("-inf")).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(runs).to(query.dtype)
