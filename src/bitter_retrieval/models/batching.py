"""Batches of sequences under a budget: a pure function of their lengths.

length_batches([9, 3, 4, 8], budget=12)      [[1, 2], [3], [0]]      (places, shortest first)
neighbour_batches([9, 3, 4, 8], budget=12)   [[0, 1], [2, 3]]        (places in order)
"""

from collections.abc import Sequence

import torch


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


def pad_right(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] padded on the right, and the mask [B, T] of real tokens."""
    width = max(len(sequence) for sequence in sequences)
    ids = torch.tensor([[*sequence, *[pad] * (width - len(sequence))] for sequence in sequences])
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return ids, torch.arange(width)[None, :] < lengths[:, None]
