"""Several processes that train one objective, each with a share of the batch: what has to be brought together.

Every process holds the same parameters, draws the same random numbers and sees rows r B / W .. (r + 1) B / W of the
batch. Gradients are averaged over the processes by torch's DistributedDataParallel, so a loss that is the mean over a
process's own rows gives the gradient of the mean over the whole batch, wherever statistics and negatives are those of
the whole batch too. All functions here do nothing in a single process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import dropout
from torch.nn.modules.batchnorm import _BatchNorm

from methods.views.batch import Views


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


def slice_views(views: Views, rank: int, world: int) -> Views:
    """What process `rank` of `world` sees of the views of a whole batch of B images, B a multiple of `world`.

    Every tensor of every kind of view lists the images one after the other, with the same number of rows for each: one
    row, or the four rotations or eight patches of an image together. So the share of the images is the same share of
    the rows of each tensor, labels included, and nothing of an image goes to another process.
    """

    def part(tensors: list[Tensor] | None) -> list[Tensor] | None:
        return None if tensors is None else [share(tensor, rank, world) for tensor in tensors]

    return Views(
        [share(images, rank, world) for images in views.images],
        part(views.masks),
        part(views.boxes),
        None if views.labels is None else share(views.labels, rank, world),
    )


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
        total = gradient.clone()
        distributed.all_reduce(total)
        return share(total)


class _Sum(torch.autograd.Function):
    """The sum over processes; what flows back is the sum as well, since every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
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
