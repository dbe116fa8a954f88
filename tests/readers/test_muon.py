"""Muon: against singular values in float64, and against torch's own, which computes in bfloat16."""

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from bitter_retrieval.readers.muon import COEFFICIENTS, ITERATIONS, MOMENTUM, Muon, orthogonalised

SHAPES = [(32, 32), (24, 64), (64, 24)]
RATE = 0.03


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def steepened(values: Tensor) -> Tensor:
    """What the iteration makes of singular values that are divided by the matrix's norm."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    return values


def slow_orthogonalised(matrix: Tensor) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ torch.diag(steepened(s / s.norm())) @ vh


def trained(shape: tuple[int, int], steps: int, optimiser: type[torch.optim.Optimizer], **settings: float) -> Tensor:
    """How far a matrix moves [n, m] with the same random gradients."""
    start = drawn(*shape)
    matrix = Parameter(start.clone())
    muon = optimiser([matrix], lr=RATE, **settings)
    for step in range(steps):
        matrix.grad = drawn(*shape, seed=step + 1)
        muon.step()
    return matrix.detach() - start


# -- orthogonalised --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_singular_values_become_nearly_one(shape: tuple[int, int]) -> None:
    matrices = drawn(3, *shape) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    for matrix, found in zip(matrices, orthogonalised(matrices), strict=True):
        torch.testing.assert_close(found.double(), slow_orthogonalised(matrix), rtol=0, atol=1e-4)
        values = torch.linalg.svdvals(found)
        large = torch.linalg.svdvals(matrix) > 0.002 * matrix.norm()
        assert large.sum() >= len(large) - 1
        assert 0.68 < values[: large.sum()].min() and values.max() < 1.21


def test_no_singular_value_leaves_the_bounds() -> None:
    values = steepened(torch.linspace(0.002, 1, 100_000, dtype=torch.float64))
    assert 0.68 < values.min() < 0.69 and 1.2 < values.max() < 1.21


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert orthogonalised(torch.zeros(2, 3, 5)).equal(torch.zeros(2, 3, 5))


# -- Muon ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_torch_but_for_its_rounding(shape: tuple[int, int]) -> None:
    ours = trained(shape, 6, Muon)
    theirs = trained(shape, 6, torch.optim.Muon, weight_decay=0.0)
    assert (ours - theirs).norm() < 0.02 * ours.norm()  # a bfloat16 has 8 significant bits


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_the_formula(shape: tuple[int, int]) -> None:
    """Nesterov: the gradient, moved towards the mean of gradients; tall matrices move further."""
    momentum, moved = torch.zeros(shape), torch.zeros(shape, dtype=torch.float64)
    for step in range(4):
        gradient = drawn(*shape, seed=step + 1)
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        ahead = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        moved -= RATE * max(1, shape[0] / shape[1]) ** 0.5 * slow_orthogonalised(ahead)
    torch.testing.assert_close(trained(shape, 4, Muon).double(), moved, rtol=0, atol=1e-5)


def test_matrices_of_one_shape_move_as_each_would_alone() -> None:
    starts = [drawn(*shape, seed=place) for place, shape in enumerate([(6, 9), (9, 6), (6, 9), (6, 6), (9, 6)])]

    def moved(places: list[int]) -> list[Tensor]:
        matrices = [Parameter(starts[place].clone()) for place in places]
        muon = Muon(matrices, lr=RATE)
        for step in range(3):
            for place, matrix in zip(places, matrices, strict=True):
                matrix.grad = drawn(*matrix.shape, seed=10 * place + step)
            muon.step()
        return [matrix.detach() for matrix in matrices]

    together, alone = moved([0, 1, 2, 3, 4]), [moved([place])[0] for place in range(5)]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_matrices_without_gradient_are_left_and_begin_when_they_have_one() -> None:
    resting, moving = Parameter(drawn(4, 4, seed=1)), Parameter(drawn(4, 4, seed=2))
    muon = Muon([resting, moving], lr=RATE)
    moving.grad = drawn(4, 4, seed=3)
    muon.step()
    assert resting.equal(drawn(4, 4, seed=1)) and not moving.equal(drawn(4, 4, seed=2))
    rested = moving.detach().clone()
    resting.grad, moving.grad = drawn(4, 4, seed=4), None
    muon.step()
    first = drawn(4, 4, seed=1) - RATE * slow_orthogonalised(drawn(4, 4, seed=4)).float()
    torch.testing.assert_close(resting.detach(), first, rtol=0, atol=1e-5)
    assert moving.equal(rested)
