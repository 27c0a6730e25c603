"""The interface of a self-supervised objective, and helpers for momentum networks."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from methods.backbone import Backbone
from methods.distributed import all_gather
from methods.views.batch import Views


class Objective(nn.Module, ABC):
    """A backbone under training, with everything its loss needs. All state lives in the state_dict.

    `forward` is `loss`, so that a distributed wrapper around the module sees the call.
    """

    backbone: Backbone
    # Whether batch normalisation uses the rows of all ranks; False with shuffle-BN, which normalises groups separately.
    synchronise_bn: ClassVar[bool] = True

    def synchronised_parts(self) -> tuple[nn.Module, ...]:
        """The parts whose batch normalisation uses the statistics of all processes' rows.

        An alignment module normalises the whole batch also where the backbone is normalised in groups.
        """
        if self.synchronise_bn:
            return (self,)
        alignment = getattr(self, "alignment", None)
        return () if alignment is None else (alignment,)

    @abstractmethod
    def loss(self, views: Views) -> dict[str, Tensor]:
        """Scalars by name; "loss" is the one to minimise, the others are detached and logged.

        Each rank passes its shard of the batch (distributed.py). The mean over ranks of every scalar, and of the
        gradients, then equals the result of a single process on the whole batch.
        """

    def before_step(self, epoch: float) -> None:
        """Called once before every step k with the epochs done, k / steps per epoch: schedules that count epochs."""

    def after_step(self, progress: float) -> None:
        """Called once after every optimiser step k = 0 .. K-1 with progress = k / K: momentum targets, queues."""

    def forward(self, views: Views) -> dict[str, Tensor]:
        """The same as `loss`."""
        return self.loss(views)


def cosine_tau(tau_base: float, progress: float) -> float:
    """BYOL's momentum: tau_base at progress 0, rising as a half cosine to 1 (arXiv:2006.07733, section 3.2)."""
    return 1 - (1 - tau_base) * (math.cos(math.pi * progress) + 1) / 2


@torch.no_grad()
def ema_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- tau * target + (1 - tau) * online, for parameters. Running statistics are not moved."""
    pairs = list(zip(target.parameters(), online.parameters(), strict=True))
    if pairs:  # one call for all parameters: on a GPU a few kernels instead of one per parameter
        torch._foreach_lerp_([old for old, _ in pairs], [new.detach() for _, new in pairs], 1 - tau)


def frozen_copy(module: nn.Module) -> nn.Module:
    """A deep copy that gets no gradients."""
    target = copy.deepcopy(module)
    target.requires_grad_(False)
    return target


@torch.no_grad()
def embedding_std(embeddings: Tensor) -> Tensor:
    """Spread of embeddings [B, D]: 1 for directions uniform on the sphere, 0 if all are equal.

    The mean over dimensions of the standard deviation of L2-normalised embeddings, times sqrt(D)
    (Chen & He 2021, arXiv:2011.10566, figure 2); over the rows of all ranks.
    """
    directions = nn.functional.normalize(all_gather(embeddings).float(), dim=1)
    return directions.std(dim=0, correction=0).mean() * math.sqrt(embeddings.shape[1])
