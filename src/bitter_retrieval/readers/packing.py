"""Packs: token sequences end to end in one row, common beginnings held once, and attention that keeps them apart.

    pack_sequences([[5, 6, 7, 8], [5, 6, 7, 9, 2]], shared=3)
        ids        5 6 7 | 8 | 9 2
        positions  0 1 2 | 3 | 3 4
        places     [0, 1, 2, 3]  and  [0, 1, 2, 4, 5]

A padded batch computes its padding, and the question anew for every candidate; a pack does neither. Its segments (runs
of tokens) form trees: each attends to itself and to the segments before it on the path from the root, which together
are the beginning of a sequence. A variable-length kernel does that in one call (attention.py); without one, segments of
similar length share a call of scaled_dot_product_attention. probes.can_pack tries whether a model gives the same
logits so.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from bitter_retrieval.models import attention
from bitter_retrieval.models.batching import ALIGNED, aligned

SHARED = 8  # tokens that make a common beginning worth a segment
LIKE = ALIGNED  # segments of 1 to 16, 17 to 32, … tokens share a call of attention
NAME = "bitter_retrieval_packed"  # among transformers' attention implementations
HALF = {torch.bfloat16, torch.float16}


class PackingError(RuntimeError):
    """A model whose attention packs do not support."""


class Segment(NamedTuple):
    """A run of tokens in a pack."""

    start: int  # place of its first token in the pack
    stop: int
    position: int  # of its first token in its sequences
    before: tuple["Segment", ...]  # the beginning of its sequences, from the root on


class Groups(NamedTuple):
    """Places of all segments, ordered by their call of attention."""

    queries: Tensor
    keys: Tensor
    results: Tensor  # where the results of the queries go
    shapes: list[tuple[int, int, int]]  # of each call: segments, tokens before each, own tokens of each


class Pack:
    """A model's input for several sequences at once."""

    def __init__(self, ids: list[int], segments: list[Segment], places: list[list[int]], device: torch.device) -> None:
        self.ids = torch.tensor([ids], device=device)  # [1, T]
        self.segments = segments
        self.places = places  # of each sequence's tokens in the pack
        positions = [place for s in segments for place in range(s.position, s.position + s.stop - s.start)]
        self.positions = torch.tensor([positions], device=device)  # [1, T]
        self.windows: set[int | None] = set()  # of local attention, given to the attention function
        self.masked_windows: set[int] = set()  # for which the model asked for a mask
        self._groups: dict[bool, Groups] = {}
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}

    def mask(self, before: int, length: int, window: int | None) -> Tensor:
        """Keys that a segment after `before` tokens may look at [length, before + length]; at most `window` each."""
        known = self._masks.get((before, length, window))
        if known is not None:
            return known
        keys = torch.arange(before + length, device=self.ids.device)
        queries = keys[before:, None]
        mask = keys <= queries if window is None else (keys <= queries) & (keys > queries - window)
        self._masks[before, length, window] = mask
        return mask

    def groups(self, filled: bool) -> Groups:
        """Segments of similar length after equally many tokens share a call of attention, as wide as the longest.

        filled: as wide as the longest may be. Shorter ones repeat their last token, where causal attention does not
        look; results of the fill go to place T.
        """
        if filled in self._groups:
            return self._groups[filled]
        by_shape: dict[tuple[int, int], list[Segment]] = {}
        for segment in self.segments:
            by_shape.setdefault((segment.position, (segment.stop - segment.start - 1) // LIKE), []).append(segment)
        queries, keys, results, shapes = [], [], [], []
        for (before, _), members in by_shape.items():
            length = max(s.stop - s.start for s in members)
            length = aligned(length, length + LIKE) if filled else length
            shapes.append((len(members), before, length))
            for s in members:
                fill = length - (s.stop - s.start)
                own = [*range(s.start, s.stop), *[s.stop - 1] * fill]
                queries += own
                keys += [place for part in s.before for place in range(part.start, part.stop)] + own
                results += [*range(s.start, s.stop), *[self.ids.shape[1]] * fill]
        tensors = [torch.tensor(places, device=self.ids.device) for places in (queries, keys, results)]
        self._groups[filled] = Groups(tensors[0], tensors[1], tensors[2], shapes)
        return self._groups[filled]

    @cached_property
    def varlen(self) -> tuple[Tensor | None, Tensor, Tensor, int, int]:
        """For a variable-length kernel: places of all keys (None: in their order), cumulative lengths, longest ones."""
        runs = [(*s.before, s) for s in self.segments]
        own = [s.stop - s.start for s in self.segments]
        seen = [s.position + length for s, length in zip(self.segments, own, strict=True)]
        keys = [place for run in runs for part in run for place in range(part.start, part.stop)]
        device = self.ids.device
        return (
            torch.tensor(keys, device=device) if len(keys) > sum(own) else None,
            torch.tensor([0, *accumulate(own)], dtype=torch.int32, device=device),
            torch.tensor([0, *accumulate(seen)], dtype=torch.int32, device=device),
            max(own),
            max(seen),
        )


def pack_sequences(sequences: Sequence[list[int]], device: torch.device | str = "cpu", shared: int = SHARED) -> Pack:
    """Lay the sequences end to end; a common beginning of at least `shared` tokens is held once.

    Only causal attention allows that: there a token's state depends on the tokens before it alone.
    """
    # Sorted, sequences with a common beginning are neighbours: common[i] tokens of order[i] are those of order[i - 1].
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    pairs = zip(order, order[1:], strict=False)
    common = [0, *(len(os.path.commonprefix([sequences[a], sequences[b]])) for a, b in pairs)]
    ids: list[int] = []
    segments: list[Segment] = []
    places: list[list[int]] = [[] for _ in sequences]

    def lay(first: int, last: int, depth: int, before: tuple[Segment, ...]) -> None:
        """Lay order[first:last], whose first `depth` tokens are in `before` already."""
        while first < last:  # neighbours that share enough get one segment, then the rest of each its own
            end = first + 1
            while end < last and common[end] - depth >= shared:
                end += 1
            members = order[first:end]
            reach = min(common[first + 1 : end], default=len(sequences[members[0]]))
            run = before
            if reach > depth:
                segment = Segment(len(ids), len(ids) + reach - depth, depth, before)
                segments.append(segment)
                ids.extend(sequences[members[0]][depth:reach])
                run = (*before, segment)
            if len(members) > 1:
                lay(first, end, reach, run)
            else:
                places[members[0]] = [place for part in run for place in range(part.start, part.stop)]
            first = end

    lay(0, len(order), 0, ())
    return Pack(ids, segments, places, torch.device(device))


# -- attention -------------------------------------------------------------------------------------------------------

_current: Pack | None = None
_chosen = "sdpa"


@contextmanager
def packed_attention(model: Any, chosen: str = "sdpa") -> Iterator[None]:
    """Within it, `model` attends within packs; call it by forward_pack only.

    chosen: flash, varlen or sdpa, of attention.chosen.
    """
    global _chosen
    _register()
    before, _chosen = model.config._attn_implementation, chosen
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def forward_pack(model: Any, pack: Pack) -> Any:
    """The model's output for a pack, [1, T, …], under packed_attention."""
    global _current
    _current = pack
    try:
        return model(input_ids=pack.ids, position_ids=pack.positions, use_cache=False)
    finally:
        _current = None


@cache
def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*args: Any, local_size: int | None = None, **kwargs: Any) -> None:
    """Instead of transformers' masks. A window must reach the attention function too: can_pack compares both."""
    if _current is not None and local_size:
        _current.masked_windows.add(local_size)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, H, T, D], key and value [1, G, T, D] to [1, T, H, D]."""
    used = attention.changes(kwargs)
    if used or attention_mask is not None or dropout or not getattr(module, "is_causal", True):
        raise PackingError(f"{type(module).__name__} attends in a way that packs do not support ({', '.join(used)}).")
    assert _current is not None, "a model under packed_attention is called by forward_pack"
    _current.windows.add(sliding_window)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    if _chosen != "sdpa":
        return _by_kernel(_current, query, key, value, scaling, sliding_window), None
    return _by_group(_current, query, key, value, scaling, sliding_window), None


def _by_group(
    pack: Pack, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """One call of scaled_dot_product_attention for each group of segments."""
    _, heads, length, width = query.shape
    queries, keys, results, shapes = pack.groups(query.dtype == torch.float32)
    q = query[0].index_select(1, queries).split([n * own for n, _, own in shapes], dim=1)
    sizes = [n * (before + own) for n, before, own in shapes]
    k, v = (states[0].index_select(1, keys).split(sizes, dim=1) for states in (key, value))
    attended = []
    for place, (n, before, own) in enumerate(shapes):
        masked = before > 0 or (window is not None and own > window)
        mask = pack.mask(before, own, window) if masked else None
        own_q, own_k, own_v = (states[place].view(heads, n, -1, width).transpose(0, 1) for states in (q, k, v))
        found = scaled_dot_product_attention(own_q, own_k, own_v, mask, is_causal=not masked, scale=scaling)
        attended.append(found.transpose(1, 2).reshape(n * own, heads, width))
    result = query.new_empty(length + 1, heads, width)
    result[results] = torch.cat(attended)
    return result[:length][None]


def _by_kernel(
    pack: Pack, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """One call over all segments: causal, with the last query of each aligned with its last key."""
    places, own, seen, longest_own, longest_seen = pack.varlen
    q, k, v = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
    if places is not None:
        k, v = k[places], v[places]
    left = -1 if window is None else window - 1
    return attention.kernel(_chosen)(q, k, v, own, seen, longest_own, longest_seen, scaling, (left, 0))[None]
