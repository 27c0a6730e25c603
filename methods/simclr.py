"""SimCLR (Chen et al. 2020, arXiv:2002.05709): the other view of an image against all other images of the batch.

Loss, equation 1: NT-Xent over the 2N views of a batch, each once the anchor, its other view the positive, the 2N - 2
views of other images the negatives; itself it is neither. The loss is solo-learn's. It needs the whole batch at once:
accumulating gradients over parts would leave out negatives.
Differs from the paper in the batch (4,096 there) and in batch normalisation: google-research/simclr concatenates both
views and normalises them together, here each view is a forward pass of its own, as in solo-learn (docs/deviations.md).
"""

from __future__ import annotations

from torch import Tensor, nn

from methods.alignment import SaliencyAlignment, add_alignment
from methods.args import SimclrArgs
from methods.backbone import Backbone
from methods.distributed import all_gather_with_grad
from methods.objective import Objective, embedding_std
from methods.solo_learn import load_losses, simclr_loss
from methods.views.batch import Views


def _projector(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear - BN - ReLU - linear - BN, as google-research/simclr, whose last BN scales and does not shift."""
    last = nn.BatchNorm1d(outputs)
    last.bias.requires_grad_(False)  # stays 0
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs, bias=False),
        last,
    )


class Simclr(Objective):
    """Needs two views; masks too where an alignment module is given."""

    def __init__(self, args: SimclrArgs, backbone: Backbone, alignment: SaliencyAlignment | None = None) -> None:
        super().__init__()
        load_losses()
        self.args = args
        self.backbone = backbone
        self.alignment = alignment
        self.projector = _projector(backbone.dim, args.hidden_dim, args.projection_dim)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """NT-Xent of two views [B, 3, S, S], plus weight x L_Align with an alignment module."""
        maps = [self.backbone(view) for view in views.images]  # [B, dim, h, w] each
        first, second = (self.projector(features.mean(dim=(2, 3))) for features in maps)  # [B, D] each
        # Every process computes the loss of the whole batch: the negatives of the others with their gradients.
        whole = all_gather_with_grad(first), all_gather_with_grad(second)
        contrastive = simclr_loss(*whole, self.args.temperature)
        scalars = {"loss": contrastive, "embedding_std": embedding_std(first)}
        if self.alignment is None:
            return scalars
        scalars["contrastive"] = contrastive.detach()
        return add_alignment(self.alignment, scalars, maps, maps[::-1], views.masks)

    def after_step(self, progress: float) -> None:
        """Copy the alignment's g_conv to its key branch: SimCLR has one network for both views."""
        if self.alignment is not None:
            self.alignment.update_target(0.0)
