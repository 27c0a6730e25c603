"""SimSiam: Exploring Simple Siamese Representation Learning (Chen & He 2021, arXiv:2011.10566).

Loss, equation 2: -1/2 cos(p_1, sg(z_2)) - 1/2 cos(p_2, sg(z_1)), mean over the batch, with z = g(f(view)) and p = h(z).
The cosines are solo-learn's. There are neither negatives nor a momentum network.
Differs from the paper: the predictor's learning rate falls with the rest (facebookresearch/simsiam keeps it constant
with --fix-pred-lr; table 1 has both).
"""

from __future__ import annotations

from torch import Tensor, nn

from methods.alignment import SaliencyAlignment, add_alignment
from methods.args import SimsiamArgs
from methods.backbone import Backbone
from methods.objective import Objective, embedding_std
from methods.solo_learn import load_losses, simsiam_loss
from methods.views.batch import Views


def _projector(inputs: int, width: int) -> nn.Sequential:
    """Section 3: three linear layers, each with BN, ReLU after the first two. The last BN has no affine parameters."""
    return nn.Sequential(
        nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True),
        nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True),
        nn.Linear(width, width, bias=False), nn.BatchNorm1d(width, affine=False),
    )  # fmt: skip


def _predictor(width: int, hidden: int) -> nn.Sequential:
    """Section 3: a bottleneck of two linear layers; BN and ReLU on the hidden one, nothing on the output."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width)
    )


class Simsiam(Objective):
    """Needs two views; masks too where an alignment module is given."""

    def __init__(self, args: SimsiamArgs, backbone: Backbone, alignment: SaliencyAlignment | None = None) -> None:
        super().__init__()
        load_losses()
        self.args = args
        self.backbone = backbone
        self.alignment = alignment
        self.projector = _projector(backbone.dim, args.projection_dim)
        self.predictor = _predictor(args.projection_dim, args.hidden_dim)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Mean of both directions, plus weight x L_Align with an alignment module. View images [B, 3, S, S]."""
        maps = [self.backbone(view) for view in views.images]  # [B, dim, h, w] each
        first, second = (self.projector(features.mean(dim=(2, 3))) for features in maps)  # [B, D] each
        contrastive = (
            simsiam_loss(self.predictor(first), second) + simsiam_loss(self.predictor(second), first)
        ) / 2  # [] in [-1, 1]
        scalars = {"loss": contrastive, "embedding_std": embedding_std(first.detach())}
        if self.alignment is None:
            return scalars
        scalars["contrastive"] = contrastive.detach()
        return add_alignment(self.alignment, scalars, maps, maps[::-1], views.masks)

    def after_step(self, progress: float) -> None:
        """Copy the alignment's g_conv to its key branch: SimSiam has one network for both views."""
        if self.alignment is not None:
            self.alignment.update_target(0.0)
