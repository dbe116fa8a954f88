"""Muon in float32: momentum whose matrices are made nearly orthogonal.

Jordan et al. 2024, kellerjordan.github.io/posts/muon.

torch's own Muon computes in bfloat16, which processors without it emulate (a step takes ten times as long there) and
round in their own ways.
"""

from collections.abc import Iterable
from itertools import groupby

import torch
from torch import Tensor

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; chosen there for a steep slope at 0
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised. parameters: matrices [n, m]; lr: spectral norm of a square matrix's step."""

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            trained = sorted((p for p in group["params"] if p.grad is not None), key=_shape)
            for _, alike in groupby(trained, _shape):
                self._step_alike(list(alike), group["lr"])

    def _step_alike(self, matrices: list[Tensor], rate: float) -> None:
        """Matrices of one shape, together: most are small."""
        steps = []
        for matrix in matrices:
            momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
            momentum.lerp_(matrix.grad, 1 - MOMENTUM)
            steps.append(matrix.grad.lerp(momentum, MOMENTUM))
        rows, columns = matrices[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for matrix, step in zip(matrices, orthogonalised(torch.stack(steps)), strict=True):
            matrix.add_(step, alpha=-rate * scale)


def _shape(matrix: Tensor) -> tuple[int, ...]:
    return tuple(matrix.shape)


def orthogonalised(matrices: Tensor) -> Tensor:
    """U S' V^T for each U S V^T of [k, n, m], with S' between about .7 and 1.2, by a Newton-Schulz iteration."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrices else x.mT
