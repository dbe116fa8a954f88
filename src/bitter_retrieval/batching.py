"""Batches of sequences of like length under a token budget: a pure function of the lengths.

    length_batches([9, 3, 4, 8], budget=12)      [[1, 2], [3], [0]]      (places, shortest first)
"""

from collections.abc import Sequence

import torch


def length_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of the sequences in batches whose padded size (longest x count) is at most `budget` tokens.

    A sequence longer than the budget stands alone. Equal lengths keep their order.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and lengths[place] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def pad_right(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] padded on the right, and the mask [B, T] of real tokens."""
    width = max(len(sequence) for sequence in sequences)
    ids = torch.tensor([[*sequence, *[pad] * (width - len(sequence))] for sequence in sequences])
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return ids, torch.arange(width)[None, :] < lengths[:, None]
