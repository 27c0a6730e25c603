"""Learning rate, data order and random streams: pure functions of the seed and the step."""

from __future__ import annotations

import hashlib
import math

import torch

from suite.jobs.sections import OptimizerArgs


def effective_lr(optimizer: OptimizerArgs, batch_size: int) -> float:
    """Linear scaling rule (Goyal et al. 2017, arXiv:1706.02677): base_lr x batch_size / reference_batch.

    `batch_size` is that of one optimiser step over all devices. This is the only place that scales a learning rate.
    """
    return optimizer.base_lr * batch_size / optimizer.reference_batch


def lr_factor(step: int, total: int, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine down to 0 at step `total` (arXiv:1608.03983).

    Step 0 of a warm-up uses 1 / warmup, its last step 1.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def derived_seed(seed: int, *purpose: str | int) -> int:
    """An independent 63-bit seed for a purpose, such as ("views", step)."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for a purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


class Batches:
    """Which images each step uses: a new permutation per epoch, the incomplete last batch left out."""

    def __init__(self, images: int, batch_size: int, epochs: int, seed: int, section: str) -> None:
        """`section` of the recipe that states the batch, for the error that names the field."""
        if images < batch_size:
            raise ValueError(
                f"a batch of {batch_size} is larger than the {images} images that this job trains on: choose a smaller "
                f"one, such as --set {section}.batch_size={images}"
            )
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.per_epoch = images // batch_size
        self.total = self.per_epoch * epochs
        self._order = (-1, torch.empty(0, dtype=torch.long))  # epoch and permutation; replaced as one, for threads

    def indices(self, step: int) -> torch.Tensor:
        """int64 [batch_size]: a pure function of (seed, step). May be called by several threads."""
        epoch, position = divmod(step, self.per_epoch)
        cached, order = self._order
        if cached != epoch:
            order = torch.randperm(self.images, generator=generator(self.seed, "order", epoch))
            self._order = (epoch, order)
        return order[position * self.batch_size : (position + 1) * self.batch_size]
