"""Hashes of matrix products and of torch's functions: diff two machines' lists to see what they compute differently.

    python benchmarks/products.py > here.txt

One line a shape, "rows columns inner hash", then one a function, forwards and backwards. docs/processors.md says what
differed where.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from bitter_retrieval.models.workers import use_threads  # first: the package sets what torch reads

# isort: split
import torch
from torch import Tensor
from torch.nn import functional

SMALL = [(rows, columns) for rows in (1, 3, 4, 16, 100) for columns in (1, 4, 8, 11, 12, 16, 24, 96)]
INNER = [*range(1, 1200), *range(1200, 4200, 7)]  # of products with 64 rows and 96 columns
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "log": lambda x: torch.log(x.abs() + 0.1),
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: x.abs().rsqrt(),
    "erf": torch.erf,
    "tanh": torch.tanh,
    "cos": torch.cos,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "layer_norm": lambda x: functional.layer_norm(x, x.shape[-1:]),
    "normalize": lambda x: functional.normalize(x, dim=-1),
    "sum": lambda x: x.sum(0),
    "attention": lambda x: functional.scaled_dot_product_attention(*[x.view(4, 4, 32, 128)[..., :24]] * 3),
}


def digest(tensor: Tensor) -> str:
    """8 hex digits of a tensor's SHA-256."""
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:8]


def main() -> None:
    use_threads(1)
    drawn = torch.randn(4200, 4200, generator=torch.Generator().manual_seed(0))
    shapes = [(*sides, inner) for sides in SMALL for inner in (24, 96, 384)] + [(64, 96, inner) for inner in INNER]
    for rows, columns, inner in shapes:
        product = drawn[:rows, :inner].contiguous() @ drawn[:inner, :columns].contiguous()
        print(rows, columns, inner, digest(product))
    for name, function in FUNCTIONS.items():
        x = drawn[:512, :128].clone().requires_grad_()
        found = function(x)
        (gradient,) = torch.autograd.grad(found.square().sum(), x)
        print(name, digest(found), digest(gradient))


if __name__ == "__main__":
    main()
