"""Communication between the processes (ranks) that train one objective, each on its shard of the batch.

All ranks hold the same parameters and draw the same random numbers. Rank r of W sees rows r B / W .. (r + 1) B / W of
the batch. torch's DistributedDataParallel averages gradients over ranks. A loss that is a mean over local rows
therefore has the gradient of the mean over the whole batch, provided that statistics and negatives are those of the
whole batch too. In a single process the collectives return their argument.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """W, the number of ranks; 1 outside of distributed training."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 .. W - 1."""
    return distributed.get_rank() if world_size() > 1 else 0


def shard(tensor: Tensor, index: int | None = None, count: int | None = None) -> Tensor:
    """Rows of one rank, of a tensor [B, ...] of the whole batch -> [B / count, ...].

    Args:
        tensor: the whole batch.
        index: number of the shard; this process's rank by default.
        count: number of shards; W by default.

    Raises:
        ValueError: B is not a multiple of `count`.
    """
    index, count = rank() if index is None else index, world_size() if count is None else count
    if len(tensor) % count:
        raise ValueError(
            f"a batch of {len(tensor)} rows cannot be shared evenly by {count} processes: choose a batch size that is "
            f"a multiple of {count}"
        )
    rows = len(tensor) // count
    return tensor[index * rows : (index + 1) * rows]


@torch.no_grad()
def all_gather(tensor: Tensor) -> Tensor:
    """Rows of all ranks in the order of the batch, [b, ...] -> [W b, ...]. Not differentiable."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def all_reduce_mean(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean over ranks of each scalar, bit-identical on all of them. Not differentiable."""
    if world_size() == 1:
        return scalars
    values = torch.stack([scalar.detach().double() for scalar in scalars.values()])
    distributed.all_reduce(values)
    return dict(zip(scalars, values / world_size(), strict=True))


def broadcast(tensor: Tensor) -> Tensor:
    """Broadcast the tensor from rank 0, in place."""
    if world_size() > 1:
        distributed.broadcast(tensor, src=0)
    return tensor


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """Differentiable `all_gather`: the backward pass sums, over ranks, the gradients of the local rows."""
    return tensor if world_size() == 1 else cast(Tensor, _Gather.apply(tensor))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return all_gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)  # NCCL refuses other strides
        distributed.all_reduce(total)
        return shard(total)
