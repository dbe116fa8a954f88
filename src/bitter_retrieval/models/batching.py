"""Batches of sequences under a budget: a pure function of their lengths.

length_batches([9, 3, 4, 8], budget=12)      [[1, 2], [3], [0]]      (places, shortest first)
neighbour_batches([9, 3, 4, 8], budget=12)   [[0, 1], [2, 3]]        (places in order)
"""

from collections.abc import Sequence

import torch

ALIGNED = 16  # tokens: products of matrices with fewer rows or columns are another sum on Intel than on AMD


def length_batches(lengths: Sequence[int], budget: int, extra: Sequence[int] | None = None) -> list[list[int]]:
    """Places of the sequences in batches whose padded size (longest x count) is at most `budget` tokens.

    Each sequence's own `extra` counts too. A sequence beyond the budget is alone. Equal lengths keep their order.
    """
    batches: list[list[int]] = []
    extras = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        own = extra[place] if extra else 0
        if batches and lengths[place] * (len(batches[-1]) + 1) + extras + own <= budget:
            batches[-1].append(place)
            extras += own
        else:
            batches.append([place])
            extras = own
    return batches


def neighbour_batches(lengths: Sequence[int], budget: int, extra: Sequence[int] | None = None) -> list[list[int]]:
    """Places in order, cut into batches whose lengths and `extra` sum to at most `budget`; a costlier one is alone."""
    batches: list[list[int]] = []
    spent = 0
    for place, length in enumerate(lengths):
        cost = length + (extra[place] if extra else 0)
        spent += cost
        if batches and spent <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
            spent = cost
    return batches


def balanced_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """length_batches of as even a size as possible: by the least budget that makes no more of them."""
    batches = length_batches(lengths, budget)
    low, high = 0, budget  # high makes no more batches, low does or is 0
    while high - low > 1:
        middle = (low + high) // 2
        found = length_batches(lengths, middle)
        if len(found) > len(batches):
            low = middle
        else:
            high, batches = middle, found
    return batches


def aligned(length: int, most: int) -> int:
    """The next multiple of ALIGNED, or `most` if that is less; a length beyond `most` as it is."""
    return max(length, min(-(-length // ALIGNED) * ALIGNED, most))


def pad_right(sequences: Sequence[Sequence[int]], pad: int, most: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] padded on the right, and the mask [B, T] of real tokens.

    most: up to this width, T is a multiple of ALIGNED.
    """
    width = aligned(max(len(sequence) for sequence in sequences), most)
    ids = torch.tensor([[*sequence, *[pad] * (width - len(sequence))] for sequence in sequences])
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return ids, torch.arange(width)[None, :] < lengths[:, None]
