"""Batch normalisation, dropout and running statistics over all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import dropout
from torch.nn.modules.batchnorm import _BatchNorm

from methods.distributed import all_gather, shard, world_size


class _Sum(torch.autograd.Function):
    """Sum over ranks. The gradient is summed as well, since the loss of every rank depends on the sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)  # NCCL refuses other strides
        distributed.all_reduce(total)
        return total


class _SyncBatchNorm(_BatchNorm):
    """Batch normalisation over the rows of all ranks, for CPUs: torch.nn.SyncBatchNorm needs a GPU.

    All ranks must have equally many rows. State and running statistics are those of nn.BatchNorm1d and 2d.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least two dimensions, found {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """[b, C, ...] -> the same shape."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        others = [axis for axis in range(input.dim()) if axis != 1]
        count = input.numel() // input.shape[1] * world_size()
        shape = [1, -1, *[1] * (input.dim() - 2)]
        precise = input.to(torch.promote_types(input.dtype, torch.float32))  # also under mixed precision
        mean = _Sum.apply(precise.sum(others)) / count
        centred = precise - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        result = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return cast(Tensor, result.to(input.dtype))

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Running statistics from those of a batch [C]; the variance is the unbiased one."""
        seen = cast(Tensor, self.num_batches_tracked).add_(1)
        share_of_new = 1 / int(seen) if self.momentum is None else self.momentum
        cast(Tensor, self.running_mean).lerp_(mean, share_of_new)
        cast(Tensor, self.running_var).lerp_(variance, share_of_new)


M = TypeVar("M", bound=nn.Module)


def convert_sync_batchnorm(module: M) -> M:
    """Convert batch normalisation to statistics of all ranks, in place. Call it on the module's final device.

    Parameters and buffers stay the same objects under the same names. On CUDA torch's SyncBatchNorm is used: its fused
    kernels need less memory than the operations of `_SyncBatchNorm`, though each call waits for the device.
    """
    if world_size() == 1:
        return module
    if any(parameter.is_cuda for parameter in module.parameters()):
        return cast(M, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, _converted(child))
    return module


def _converted(layer: _BatchNorm) -> _SyncBatchNorm:
    converted = _SyncBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    converted.weight, converted.bias = layer.weight, layer.bias
    for name, buffer in layer.named_buffers():
        setattr(converted, name, buffer)
    return converted.train(layer.training)


class Dropout(nn.Dropout):
    """Dropout with a mask that is drawn for the whole batch, so that it does not depend on the number of ranks."""

    def forward(self, input: Tensor) -> Tensor:
        """[b, ...] -> the same shape."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        whole = torch.ones(world_size() * len(input), *input.shape[1:], dtype=input.dtype, device=input.device)
        return input * shard(dropout(whole, self.p))


@contextmanager
def one_running_average(module: nn.Module, groups: int) -> Iterator[None]:
    """Merge the running statistics that each rank has updated with its local groups of the batch.

    A single process updates them group after group: r <- (1 - m) r + m s. Each of W ranks knows the result of its local
    groups only. The update is linear, so the contributions add up, each discounted by the groups after it. The result
    equals that of a single process.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if world_size() == 1 or not module.training or not layers:
        yield
        return
    keep = 1 - cast(float, layers[0].momentum)  # the same in all layers, as in every backbone here
    before = _statistics(layers)
    yield
    local = groups // world_size()
    contributions = all_gather((_statistics(layers) - keep**local * before)[None])  # [W, all statistics]
    after = keep**groups * before
    for index, contribution in enumerate(contributions):
        after += keep ** (local * (world_size() - 1 - index)) * contribution
    start = 0
    for layer in layers:
        for part in (cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)):
            # Through `data`: autograd saves running statistics although the backward pass does not need them.
            part.data.copy_(after[start : start + len(part)])
            start += len(part)
        cast(Tensor, layer.num_batches_tracked).add_(groups - local)


def _statistics(layers: list[_BatchNorm]) -> Tensor:
    """Running means and variances of all layers, concatenated into a new tensor."""
    return torch.cat([cast(Tensor, part) for layer in layers for part in (layer.running_mean, layer.running_var)])
