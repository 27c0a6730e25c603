"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction (Zbontar et al. 2021, arXiv:2103.03230).

Loss, equation 1: the cross-correlation matrix of both views' embeddings, over the batch, should be the identity. The
arithmetic is solo-learn's. There are neither negatives, nor a momentum network, nor a predictor.
Differs from the paper: one learning rate for all parameters; `scale` brings biases and batch normalisation to theirs.
"""

from __future__ import annotations

from torch import Tensor

from methods.backbone import Backbone
from methods.distributed import all_gather_with_grad
from methods.heads import expander
from methods.objective import Objective, embedding_std
from methods.redundancy_reduction_args import BarlowTwinsArgs
from methods.solo_learn import barlow_loss
from methods.views.batch import Views


class BarlowTwins(Objective):
    """Needs two views."""

    def __init__(self, args: BarlowTwinsArgs, backbone: Backbone) -> None:
        super().__init__()
        self.args = args
        self.backbone = backbone
        self.projector = expander(backbone.dim, args.width)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """`scale` times equation 1, over the batch of all processes. View images [B, 3, S, S]."""
        first, second = (self.projector(self.backbone.pooled(images)) for images in views.images)  # [B, D] each
        # Every process computes the loss of the whole batch, whose correlations it needs.
        whole = all_gather_with_grad(first), all_gather_with_grad(second)
        loss = barlow_loss(*whole, self.args.off_diagonal, self.args.scale)
        return {"loss": loss, "embedding_std": embedding_std(first.detach())}
