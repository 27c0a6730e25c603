"""Shuffle-BN in groups of the batch (MoCo, arXiv:1911.05722, section 3.3).

If query and key are normalised with statistics of the same images, the query can recognise its key by them. In MoCo
every device normalises its own part of the batch, and keys are shuffled over the devices first, so that a query and its
key are normalised among different images. On one device such a shuffle has no effect. Here groups of the batch take the
place of devices: each group passes through the encoder by itself, queries in the order of the batch, keys in a random
order from torch's global generator, whose state is part of every checkpoint.

On CUDA the whole batch passes through the encoder at once, and only batch normalisation takes the groups apart: the
same function, to rounding. Groups of 32 images are too small to keep a GPU busy: one by one, eight of them need sixteen
forward passes a step, and the device waits for kernels to be launched (docs/throughput.md).

Several processes share the groups. Keys are sent to the process that has their group and back, as in MoCo. The groups
do not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from methods.distributed import all_gather, broadcast, shard, world_size


def in_groups(encode: Callable[..., Tensor], splits: int, *batch: Tensor, network: nn.Module | None = None) -> Tensor:
    """Encode the batch in `splits` groups of nearly equal size: [B, ...] -> [B, ...], rows in the order of the batch.

    Args:
        encode: the encoder, called once per group with the group's part of every tensor.
        splits: number of groups of the whole batch; each of W processes has splits / W of them.
        batch: tensors with one row per image, such as images and boxes.
        network: the network that `encode` uses, if all its layers but batch normalisation treat images one by one.
            On CUDA `encode` is then called once, with the whole batch.

    Raises:
        ValueError: the batch or the processes cannot be divided into these groups.
    """
    rows, groups = len(batch[0]), splits // world_size()
    if world_size() > 1 and (splits % world_size() or rows % groups):
        raise ValueError(
            f"bn_splits {splits} must be a multiple of the {world_size()} processes and divide their batch of "
            f"{rows * world_size()}; --set objective.bn_splits={world_size()} gives each process one group"
        )
    if rows < 2 * groups:
        raise ValueError(
            f"bn_splits {splits} needs a batch of at least {2 * splits}, two images per group, found "
            f"{rows * world_size()}"
        )
    if network is not None and _at_once(batch[0]):
        with normalised_in_groups(network, groups):
            return encode(*batch)
    parts = zip(*(tensor.tensor_split(groups) for tensor in batch), strict=True)
    return torch.cat([encode(*part) for part in parts])


def _at_once(images: Tensor) -> bool:
    """Not on a CPU, where it is no faster and would change the last bits of published results."""
    return images.is_cuda


@contextmanager
def normalised_in_groups(network: nn.Module, groups: int) -> Iterator[None]:
    """Inside, batch normalisation in training normalises each of `groups` parts of its input by itself.

    Running statistics follow the groups one after the other, as if each had been a batch of its own.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.training]
    try:
        for layer in layers:
            layer.forward = partial(_normalise_groups, layer, groups)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalise_groups(layer: _BatchNorm, groups: int, maps: Tensor) -> Tensor:
    """[B, C, ...] -> the same shape; as `layer` does it, group by group."""
    sizes = [len(part) for part in maps.tensor_split(groups)]
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(groups)
    normalise = partial(
        F.batch_norm, running_mean=layer.running_mean, running_var=layer.running_var, weight=layer.weight,
        bias=layer.bias, training=True, momentum=cast(float, layer.momentum), eps=layer.eps,
    )  # fmt: skip
    # `split`, not `tensor_split`: its gradient is one concatenation instead of a padded sum.
    return torch.cat([normalise(part) for part in torch.split(maps, sizes)])


def shuffled(encode: Callable[..., Tensor], splits: int, *batch: Tensor, network: nn.Module | None = None) -> Tensor:
    """As `in_groups`, with random groups. Row i of the result belongs to row i of the batch.

    For keys: the result carries no gradient when there are several processes.
    """
    order = torch.randperm(world_size() * len(batch[0]))
    if batch[0].is_cuda:  # a copy that does not wait for the device
        order = order.pin_memory().to(batch[0].device, non_blocking=True)
    order = broadcast(order)
    local = (all_gather(tensor)[shard(order)] for tensor in batch)
    return shard(all_gather(in_groups(encode, splits, *local, network=network))[order.argsort()])


@contextmanager
def cast_once(network: nn.Module) -> Iterator[None]:
    """Under autocast, cast the weights of a frozen network once instead of once per group.

    Autocast caches the casts of trained weights only. Results are bit-identical. Gradients must not be needed inside.
    """
    device = next(network.parameters()).device.type
    if not torch.is_autocast_enabled(device):
        yield
        return
    precision = torch.get_autocast_dtype(device)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    weights = [(layer, name, p) for layer in layers for name, p in layer.named_parameters(recurse=False)]
    try:
        for layer, name, parameter in weights:
            setattr(layer, name, nn.Parameter(parameter.detach().to(precision), requires_grad=False))
        yield
    finally:
        for layer, name, parameter in weights:
            setattr(layer, name, parameter)
