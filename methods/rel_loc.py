"""Rel-Loc: where a patch lies relative to another (Doersch et al. 2015, arXiv:1505.05192).

In the form of openmixup and mmselfsup: all eight (neighbour, centre) pairs of an image, both patches through the
shared backbone, average pooling, the two features side by side, then linear - BN - ReLU - dropout - linear and
cross-entropy over eight positions. Doersch's own network (fc6 features of an AlexNet) and patch sizes differ.

The centre is encoded once per image and its feature repeated for the eight pairs. Neighbours and centres pass through
the backbone in two separate calls, as there, where the centres' batch holds each of them eight times. Repeating a
batch changes neither its mean nor its variance, so loss and gradients are the same for 9 instead of 16 patches an
image; only batch normalisation's running variance differs, by the factor (n - 1) / n of n samples against eight times
as many. There the head's layers also have a weight decay (5e-4) and a step schedule of their own; here one recipe
holds for all parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.args import RelLocArgs
from methods.backbone import Backbone
from methods.heads import classification_loss
from methods.objective import Objective, embedding_std
from methods.sync_batchnorm import Dropout
from methods.views.batch import Views

POSITIONS = 8  # neighbours of the centre of a 3 x 3 grid


class RelLoc(Objective):
    """Needs the two batches of `patches`, neighbours and centres, with labels."""

    def __init__(self, args: RelLocArgs, backbone: Backbone) -> None:
        super().__init__()
        self.args = args
        self.backbone = backbone
        hidden = nn.Linear(2 * backbone.dim, args.hidden_dim)
        last = nn.Linear(args.hidden_dim, POSITIONS)
        for layer, std in ((hidden, args.hidden_std), (last, args.head_std)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.head = nn.Sequential(
            hidden, nn.BatchNorm1d(args.hidden_dim), nn.ReLU(inplace=True), Dropout(args.dropout), last
        )

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Neighbours [8B, 3, p, p], an image's eight in a row, centres [B, 3, p, p], labels [8B]; accuracy in %."""
        if views.labels is None:
            raise ValueError("Rel-Loc needs a view with labels, such as patches")
        neighbours, centres = (self.backbone.pooled(patches) for patches in views.images)  # [8B, dim], [B, dim]
        pairs = torch.cat([neighbours, centres.repeat_interleave(POSITIONS, dim=0)], dim=1)  # [8B, 2 dim]
        scalars = classification_loss(self.head(pairs), views.labels)
        return {**scalars, "embedding_std": embedding_std(neighbours.detach())}
