"""The queue of keys of MoCo (He et al. 2020, arXiv:1911.05722, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


def queue_length(requested: int, train_images: int) -> int:
    """K: as requested, but at most half of the training images.

    MoCo's 65,536 is a twentieth of ImageNet. A queue longer than the training set holds old keys of the query's own
    image and treats them as negatives.
    """
    if train_images < 2:
        raise ValueError(f"a queue of keys needs at least 2 training images, the dataset has {train_images}")
    return min(requested, train_images // 2)


class KeyQueue(nn.Module):
    """Ring buffer of the last K keys. Keys and pointer are buffers, so they are part of every checkpoint.

    K and the batch size are independent: batches wrap around, and of a batch longer than K the last K keys are kept.
    Columns that no key has filled yet hold noise on the unit sphere, as in MoCo's code.
    """

    keys: Tensor  # [D, K], unit columns, the layout that the loss wants
    pointer: Tensor  # int64 []; the column of the oldest key, which the next one replaces

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("keys", normalize(torch.randn(dim, length), dim=0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def negatives(self) -> Tensor:
        """A copy [D, K], because the backward pass needs the keys after `enqueue` has changed them."""
        return self.keys.clone()

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys with [B, D] new ones, in the order of the rows."""
        batch = len(keys)
        columns = (self.pointer + torch.arange(batch, device=keys.device)) % self.length
        self.keys[:, columns[-self.length :]] = keys[-self.length :].T.to(self.keys.dtype)
        self.pointer.copy_((self.pointer + batch) % self.length)
