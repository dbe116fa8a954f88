"""Batches by length or cost: nothing lost, nothing over the budget, and padding that the mask undoes."""

import random

import pytest
import torch

from bitter_retrieval.models.batching import length_batches, neighbour_batches, pad_right


@pytest.mark.parametrize("budget", [1, 12, 64, 10_000])
def test_every_sequence_is_in_one_batch_within_the_budget(budget: int) -> None:
    lengths = random.Random(0).choices(range(1, 40), k=200)
    batches = length_batches(lengths, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(200))
    assert all(len(batch) * max(lengths[p] for p in batch) <= budget or len(batch) == 1 for batch in batches)
    for batch, after in zip(batches, batches[1:], strict=False):
        assert lengths[after[0]] * (len(batch) + 1) > budget  # the next one would not have fitted


def test_shortest_first_and_equal_lengths_in_order() -> None:
    assert length_batches([9, 3, 4, 8], budget=12) == [[1, 2], [3], [0]]
    assert length_batches([5, 2, 5, 2, 5, 2], budget=10) == [[1, 3, 5], [0, 2], [4]]
    assert length_batches([4, 4], budget=8) == [[0, 1]]  # exactly full


def test_a_sequence_over_the_budget_stands_alone() -> None:
    assert length_batches([30, 2, 40], budget=10) == [[1], [0], [2]]


def test_nothing_makes_no_batch() -> None:
    assert length_batches([], budget=10) == []


@pytest.mark.parametrize("budget", [1, 12, 64, 10_000])
def test_neighbours_keep_their_order_within_the_budget(budget: int) -> None:
    costs = random.Random(0).choices(range(1, 40), k=200)
    batches = neighbour_batches(costs, budget)
    assert [place for batch in batches for place in batch] == list(range(200))
    spent = [sum(costs[place] for place in batch) for batch in batches]
    assert all(cost <= budget or len(batch) == 1 for cost, batch in zip(spent, batches, strict=True))
    for cost, after in zip(spent, batches[1:], strict=False):
        assert cost + costs[after[0]] > budget  # the next one would not have fitted


def test_neighbours_by_hand() -> None:
    assert neighbour_batches([9, 3, 4, 8], budget=12) == [[0, 1], [2, 3]]  # exactly full
    assert neighbour_batches([3, 30, 2, 40], budget=10) == [[0], [1], [2], [3]]  # a costlier one is alone
    assert neighbour_batches([], budget=10) == []


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad_right([[5, 6, 7], [8], [9, 0]], pad=0)
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0], [9, 0, 0]] and ids.dtype == torch.int64
    assert mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]  # a real token may equal the pad
    assert [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)] == [[5, 6, 7], [8], [9, 0]]


def test_padding_uses_the_pad_it_is_given() -> None:
    ids, mask = pad_right([[1], [2, 3]], pad=99)
    assert ids.tolist() == [[1, 99], [2, 3]] and mask.sum() == 3
