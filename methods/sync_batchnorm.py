"""Batch normalisation, dropout and running averages over all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import dropout
from torch.nn.modules.batchnorm import _BatchNorm

from methods.distributed import gathered, share, world


class _Sum(torch.autograd.Function):
    """The sum over processes; what flows back is the sum as well, since every process's loss depends on it."""

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
    """Batch normalisation over the rows of all processes, in place of torch.nn.SyncBatchNorm, which needs a GPU.

    Every process must have as many rows. State and running statistics are those of nn.BatchNorm1d and 2d.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least two dimensions, found {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """[b, C, ...] -> the same shape."""
        if not self.training or world() == 1:
            return super().forward(input)
        others = [axis for axis in range(input.dim()) if axis != 1]
        count = input.numel() // input.shape[1] * world()
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


def synchronised(module: M) -> M:
    """The module, changed in place: batch normalisation over all processes. To be called on its final device.

    Parameters and buffers stay the same objects under the same names.
    """
    if world() == 1:
        return module
    if any(parameter.is_cuda for parameter in module.parameters()):
        return cast(M, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, _converted(child))
    return module


def _converted(layer: _BatchNorm) -> _SyncBatchNorm:
    own = _SyncBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    own.weight, own.bias = layer.weight, layer.bias
    for name, buffer in layer.named_buffers():
        setattr(own, name, buffer)
    return own.train(layer.training)


class Dropout(nn.Dropout):
    """Dropout whose mask does not depend on the number of processes: it is drawn for the whole batch."""

    def forward(self, input: Tensor) -> Tensor:
        """[b, ...] -> the same shape."""
        if not self.training or world() == 1:
            return super().forward(input)
        whole = torch.ones(world() * len(input), *input.shape[1:], dtype=input.dtype, device=input.device)
        return input * share(dropout(whole, self.p))


@contextmanager
def one_running_average(module: nn.Module, groups: int) -> Iterator[None]:
    """Bring running statistics together that every process has updated with its own groups of the batch.

    One process updates them group after group: r <- (1 - m) r + m s. Of W processes each knows the result of its own
    groups only. Since the update is linear, the contributions add up, each discounted by the groups that come after it:
    the same numbers as in one process.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if world() == 1 or not module.training or not layers:
        yield
        return
    keep = 1 - cast(float, layers[0].momentum)  # one momentum throughout: torchvision's ResNet
    before = _statistics(layers)
    yield
    own = groups // world()
    contributions = gathered((_statistics(layers) - keep**own * before)[None])  # [W, all statistics]
    after = keep**groups * before
    for place, contribution in enumerate(contributions):
        after += keep ** (own * (world() - 1 - place)) * contribution
    start = 0
    for layer in layers:
        for part in (cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)):
            # Not in place for autograd, which keeps a hold on running statistics though training never uses them.
            part.data.copy_(after[start : start + len(part)])
            start += len(part)
        cast(Tensor, layer.num_batches_tracked).add_(groups - own)


def _statistics(layers: list[_BatchNorm]) -> Tensor:
    """A copy of running means and variances, one after the other."""
    return torch.cat([cast(Tensor, part) for layer in layers for part in (layer.running_mean, layer.running_var)])
