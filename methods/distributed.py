"""Several processes that train one objective, each with a share of the batch: what has to be brought together.

Every process holds the same parameters, draws the same random numbers and sees rows r B / W .. (r + 1) B / W of the
batch. Gradients are averaged over the processes by torch's DistributedDataParallel, so a loss that is the mean over a
process's own rows gives the gradient of the mean over the whole batch, wherever statistics and negatives are those of
the whole batch too. All functions here do nothing in a single process.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed


def world() -> int:
    """W, the number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 .. W - 1."""
    return distributed.get_rank() if world() > 1 else 0


def share(tensor: Tensor, of: int | None = None, among: int | None = None) -> Tensor:
    """Rows r B / W .. (r + 1) B / W of a tensor [B, ...] of the whole batch; r and W are this process's by default."""
    place, processes = rank() if of is None else of, world() if among is None else among
    if len(tensor) % processes:
        raise ValueError(
            f"a batch of {len(tensor)} rows cannot be shared evenly by {processes} processes: choose a batch size that "
            f"is a multiple of {processes}"
        )
    rows = len(tensor) // processes
    return tensor[place * rows : (place + 1) * rows]


@torch.no_grad()
def gathered(tensor: Tensor) -> Tensor:
    """The rows of all processes, [b, ...] -> [W b, ...], in the order of the batch; without gradient."""
    if world() == 1:
        return tensor
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def averaged(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over all processes of each scalar, the same bits in all of them; without gradient."""
    if world() == 1:
        return scalars
    values = torch.stack([scalar.detach().double() for scalar in scalars.values()])
    distributed.all_reduce(values)
    return dict(zip(scalars, values / world(), strict=True))


def agreed(tensor: Tensor) -> Tensor:
    """Process 0's values, for what must not differ by any chance."""
    if world() > 1:
        distributed.broadcast(tensor, src=0)
    return tensor


def gathered_with_gradient(tensor: Tensor) -> Tensor:
    """As `gathered`; each process gets back what the losses of all processes say of its rows, summed."""
    return tensor if world() == 1 else cast(Tensor, _Gather.apply(tensor))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gathered(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)  # NCCL refuses other strides
        distributed.all_reduce(total)
        return share(total)
