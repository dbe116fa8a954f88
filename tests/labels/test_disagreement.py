"""How often the lowest-loss candidate is not the one that people marked: by hand, ties, nothing to count, bad input."""

import math

import pytest

from bitter_retrieval.labels.disagreement import share_by_chance, share_differing


def test_disagreement_by_hand() -> None:
    soft = [[0.5, 0.1, 0.9], [0.2, 0.2 + 5e-7, 0.2, 0.7], [0.1, 0.2], [0.3, 0.1]]
    human = [[1, 0, 0], [1, 1, 0, 0], [0, 0], [0, 1]]
    share, queries = share_differing(soft, human)
    assert queries == 3  # the third has no relevant candidate
    assert share == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert share_by_chance(human) == (pytest.approx((2 / 3 + 2 / 4 + 1 / 2) / 3), 3)


def test_losses_further_apart_than_a_tie_are_not_one() -> None:
    assert share_differing([[0.2, 0.2 + 2e-6]], [[0, 1]]) == (1.0, 1)


def test_disagreement_without_a_query_to_count() -> None:
    for share, queries in (share_differing([[0.1]], [[0]]), share_by_chance([[0], []]), share_differing([], [])):
        assert share is None and queries == 0


@pytest.mark.parametrize("losses", [[0.1], [0.1, math.nan]])
def test_disagreement_refuses_candidates_without_a_loss(losses: list[float]) -> None:
    with pytest.raises(ValueError, match="query 1"):
        share_differing([[0.1, 0.2], losses], [[1, 0], [1, 0]])
    with pytest.raises(ValueError, match="argument"):
        share_differing([[0.1, 0.2]], [[1, 0], [1, 0]])
