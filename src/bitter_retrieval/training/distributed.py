"""Several processes that train one encoder, each encoding its share of every batch.

    torchrun --nproc_per_node 2 src/train.py kl      gloo, or NCCL with a GPU for each

All processes draw the same batches. A batch's texts are dealt out by length; each process encodes its share and gets
the vectors of all:

    lengths    9 3 4 8 5
    rank 0     1 4 0      (places)
    rank 1     2 3

Every process then computes the loss of the whole batch: each passage is a negative of all queries and is encoded once,
and losses need no knowledge of processes. A vector's gradient is thus complete where the vector was made, and the
weights' gradients, summed over the processes, equal those of a single process.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

Encode = Callable[[Sequence[Sequence[int]]], Tensor]  # token sequences to vectors [n, d]
STRIDE = 1_000_003  # between the seeds of processes: further apart than the seeds of a run


class Processes:
    """The processes that train together; this class is a single one, with nothing to share."""

    rank = 0
    count = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The seed of this process's dropout; the first process has the run's own."""
        return seed + STRIDE * self.rank

    def encode(self, encode: Encode, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Vectors [n, d] of all sequences, in their order; `encode` computes those of this process's share."""
        return encode(sequences)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients by their sums over all processes."""


ALONE = Processes()


class Group(Processes):
    """One of several processes; all call the same methods in the same order with the same texts."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank = rank
        self.count = count

    def encode(self, encode: Encode, sequences: Sequence[Sequence[int]]) -> Tensor:
        order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
        shares = [order[rank :: self.count] for rank in range(self.count)]
        own = shares[self.rank]
        # A process without a share encodes one text too, whose row is dropped: backward needs a graph to the weights.
        made = encode([sequences[place] for place in own or order[:1]])
        gathered = _Gather.apply(made[: len(own)], self.rank, [len(share) for share in shares])
        places = torch.tensor([place for share in shares for place in share], device=gathered.device)
        return gathered[torch.argsort(places)]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)


class _Gather(torch.autograd.Function):
    """Rows [n, d] of all processes in the order of ranks; a rank has `counts[rank]` of them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rank: int, counts: list[int]) -> Tensor:
        ctx.own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        padded = own.new_zeros(max(counts), own.shape[1])  # all_gather needs the same shape everywhere
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """No sum over the processes: each has computed the whole loss."""
        return gradient[ctx.own], None, None


@contextmanager
def join() -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
