"""VICReg: Variance-Invariance-Covariance Regularization (Bardes et al. 2021, arXiv:2105.04906).

Loss, equation 6, in the form of algorithm 1: 25 times the squared distance of both views' embeddings, a mean over
images and dimensions; 25 times a hinge that keeps the standard deviation of every dimension above 1; the squared
covariances of different dimensions. Variance and covariance are summed over the views. The arithmetic is solo-learn's.
"""

from __future__ import annotations

from torch import Tensor

from methods.backbone import Backbone
from methods.distributed import all_gather_with_grad
from methods.heads import expander
from methods.objective import Objective, embedding_std
from methods.redundancy_reduction_args import VicregArgs
from methods.solo_learn import load_losses, vicreg_loss
from methods.views.batch import Views


class Vicreg(Objective):
    """Needs two views."""

    def __init__(self, args: VicregArgs, backbone: Backbone) -> None:
        super().__init__()
        load_losses()
        self.args = args
        self.backbone = backbone
        self.expander = expander(backbone.dim, args.width)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """The weighted sum of the three terms, over the batch of all processes. View images [B, 3, S, S]."""
        first, second = (self.expander(self.backbone.pooled(images)) for images in views.images)  # [B, D] each
        # Every process computes the loss of the whole batch, whose variances and covariances it needs.
        whole = all_gather_with_grad(first), all_gather_with_grad(second)
        args = self.args
        loss = vicreg_loss(*whole, args.invariance, args.variance, args.covariance)
        return {"loss": loss, "embedding_std": embedding_std(first.detach())}
