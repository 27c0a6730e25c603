"""Shuffle-BN on one device (MoCo, arXiv:1911.05722, section 3.3).

Batch normalisation lets a query recognise its key by the statistics they were normalised with, when both come from
the same batch. MoCo has every device normalise its own part of the batch and shuffles the keys over the devices
first, so that a query and its key are normalised among different images. On one device the shuffle alone changes
nothing. Here groups of the batch take the devices' place: each goes through the encoder by itself, queries in the
order in which they come, keys in an order drawn from torch's global generator, which is part of every checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def in_groups(encode: Callable[..., Tensor], splits: int, *batch: Tensor) -> Tensor:
    """`encode` the batch in `splits` groups of nearly equal size: [B, ...] each -> [B, D], rows in the order given.

    Several tensors, such as images and boxes, are split alike.
    """
    rows = len(batch[0])
    if rows < 2 * splits:
        raise ValueError(
            f"bn_splits {splits} needs a batch of at least {2 * splits}, two images per group, found {rows}"
        )
    groups = zip(*(part.tensor_split(splits) for part in batch), strict=True)
    return torch.cat([encode(*group) for group in groups])


def shuffled(encode: Callable[..., Tensor], splits: int, *batch: Tensor) -> Tensor:
    """As `in_groups`, with groups drawn at random. Row i of the result still belongs to row i of the batch."""
    order = torch.randperm(len(batch[0]))
    there, back = order.to(batch[0].device), order.argsort().to(batch[0].device)
    return in_groups(encode, splits, *(part[there] for part in batch))[back]
