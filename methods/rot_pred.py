"""Rot-Pred: which of four rotations was applied (Gidaris et al. 2018, arXiv:1803.07728).

Loss, equations 2 and 3: the mean, over images and over all four rotations of each, of -log p(true rotation).
As openmixup and mmselfsup have it, the classifier is one linear layer on the average-pooled last feature map; the
paper itself reads an earlier layer of an AlexNet or NIN. Their step schedule is replaced by the suite's cosine.
"""

from __future__ import annotations

from torch import Tensor, nn

from methods.args import RotPredArgs
from methods.backbone import Backbone
from methods.heads import classification_loss
from methods.objective import Objective, embedding_std
from methods.views.batch import Views

ROTATIONS = 4  # 0, 90, 180, 270 degrees


class RotPred(Objective):
    """Needs one view with labels, such as `rotations`."""

    def __init__(self, args: RotPredArgs, backbone: Backbone) -> None:
        super().__init__()
        self.args = args
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, ROTATIONS)
        nn.init.normal_(self.head.weight, std=args.init_std)
        nn.init.zeros_(self.head.bias)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Cross-entropy over all rotated images [4B, 3, S, S] with labels [4B]; accuracy in percent."""
        if views.labels is None:
            raise ValueError("Rot-Pred needs a view with labels, such as rotations")
        (images,) = views.images
        features = self.backbone.pooled(images)  # [4B, dim]
        scalars = classification_loss(self.head(features), views.labels)
        return {**scalars, "embedding_std": embedding_std(features.detach())}
