"""Small building blocks that several objectives share."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from methods.backbone import Backbone


def mlp_head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """MoCo v2's: linear - ReLU - linear, without normalisation."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


def expander(inputs: int, width: int) -> nn.Sequential:
    """Barlow Twins' projector and VICReg's expander: three linear layers, BN and ReLU after the first two.

    As the official code of Barlow Twins, without biases; VICReg's stand before BN, where they have no effect.
    """
    return nn.Sequential(
        nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True),
        nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True),
        nn.Linear(width, width, bias=False),
    )  # fmt: skip


def pooled_by_size(backbone: Backbone, views: list[Tensor]) -> Tensor:
    """V views [B, 3, S, S] -> pooled features [V B, dim].

    Neighbouring views of one size pass the backbone together, and are normalised together, as in the official code of
    SwAV and DINO.
    """
    groups = [torch.cat(list(group)) for _, group in groupby(views, key=lambda view: view.shape[-1])]
    return torch.cat([backbone.pooled(images) for images in groups])


def l2_normalize(embeddings: Tensor) -> Tensor:
    """[B, D] with rows of unit length; single precision at least, also under mixed precision."""
    return normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)


def classification_loss(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of logits [N, classes] with labels int64 [N], and `pretext_top1`, the share of hits in percent."""
    with torch.no_grad():
        hits = (logits.argmax(dim=1) == labels).float().mean()
    return {"loss": cross_entropy(logits, labels), "pretext_top1": 100 * hits}
