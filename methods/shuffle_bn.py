"""Shuffle-BN in groups of the batch (MoCo, arXiv:1911.05722, section 3.3).

Batch normalisation lets a query recognise its key by the statistics they were normalised with, when both come from
the same batch. MoCo has every device normalise its own part of the batch and shuffles the keys over the devices
first, so that a query and its key are normalised among different images. On one device the shuffle alone changes
nothing. Here groups of the batch take the devices' place: each goes through the encoder by itself, queries in the
order in which they come, keys in an order drawn from torch's global generator, which is part of every checkpoint.

Several processes share the groups: keys travel to the process that has their group and back, as in MoCo, and the
groups are the same however many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from methods.distributed import agreed, gathered, share, world


def in_groups(encode: Callable[..., Tensor], splits: int, *batch: Tensor) -> Tensor:
    """`encode` the batch in `splits` groups of nearly equal size: [B, ...] each -> [B, D], rows in the order given.

    Several tensors, such as images and boxes, are split alike. Among W processes `splits` counts the groups of the
    whole batch, of which each process has as many.
    """
    rows, own = len(batch[0]), splits // world()
    if world() > 1 and (splits % world() or rows % own):
        raise ValueError(
            f"bn_splits {splits} must be a multiple of the {world()} processes and divide their batch of "
            f"{rows * world()}; --set objective.bn_splits={world()} gives each process one group"
        )
    if rows < 2 * own:
        raise ValueError(
            f"bn_splits {splits} needs a batch of at least {2 * splits}, two images per group, found {rows * world()}"
        )
    groups = zip(*(part.tensor_split(own) for part in batch), strict=True)
    return torch.cat([encode(*group) for group in groups])


def shuffled(encode: Callable[..., Tensor], splits: int, *batch: Tensor) -> Tensor:
    """As `in_groups`, with groups drawn at random. Row i of the result still belongs to row i of the batch.

    Among several processes the result carries no gradient: it is for keys.
    """
    order = torch.randperm(world() * len(batch[0]))
    if batch[0].is_cuda:  # a copy that does not wait for the device
        order = order.pin_memory().to(batch[0].device, non_blocking=True)
    order = agreed(order)
    mine = (gathered(part)[share(order)] for part in batch)
    return share(gathered(in_groups(encode, splits, *mine))[order.argsort()])


@contextmanager
def cast_once(network: nn.Module) -> Iterator[None]:
    """Under autocast, cast the weights of a frozen network once instead of once per group.

    Autocast keeps casts of trained weights alone. Its results are the same. No gradient may be wanted inside.
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
