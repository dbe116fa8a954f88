"""Batches by length or cost: nothing lost, nothing over the budget, and padding that the mask undoes."""

import random

import pytest
import torch

from bitter_retrieval.models.batching import aligned, balanced_batches, length_batches, neighbour_batches, pad_right


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


@pytest.mark.parametrize(
    ("length", "most", "width"), [(1, 64, 16), (16, 64, 16), (17, 64, 32), (50, 60, 60), (70, 64, 70), (5, 0, 5)]
)
def test_widths_are_aligned_as_far_as_the_model_reads(length: int, most: int, width: int) -> None:
    assert aligned(length, most) == width
    ids, mask = pad_right([[7] * length, [8]], 0, most)
    assert ids.shape == mask.shape == (2, width)
    assert mask.sum(1).tolist() == [length, 1]


def test_balanced_batches_leave_no_small_one() -> None:
    lengths = [10] * 21
    assert list(map(len, length_batches(lengths, 100))) == [10, 10, 1]
    assert list(map(len, balanced_batches(lengths, 100))) == [7, 7, 7]


@pytest.mark.parametrize("budget", [1, 7, 30, 100, 200])
def test_balanced_batches_are_as_many_and_within_the_budget(budget: int) -> None:
    rng = random.Random(budget)
    for count in range(1, 40):
        lengths = [rng.randint(1, 30) for _ in range(count)]
        batches = balanced_batches(lengths, budget)
        assert len(batches) == len(length_batches(lengths, budget))
        assert sorted(place for batch in batches for place in batch) == list(range(count))
        assert all(len(b) == 1 or len(b) * max(lengths[place] for place in b) <= budget for b in batches)
