"""Pooled features of a frozen backbone, and the kNN classifier on them (arXiv:1805.01978, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.backbone import Backbone
from suite.kinds.probe import KnnArgs
from suite.training.evaluation import forward_parts, measuring_precision, network_input


@torch.no_grad()
def features(backbone: Backbone, batches: Iterable[Tensor], device: torch.device) -> Tensor:
    """Pooled features float32 [N, dim], on `device`, of batches uint8 [B, 3, S, S]. Sets evaluation mode."""
    backbone.eval()
    with measuring_precision():
        parts = (crops for batch in batches for crops in forward_parts(batch, device))
        return torch.cat([backbone.pooled(network_input(crops, device)) for crops in parts])


def knn_predict(train: Tensor, labels: Tensor, test: Tensor, args: KnnArgs, batch: int = 1024) -> Tensor:
    """Predicted classes int64 [M] of `test` [M, D] by weighted vote of `train` [N, D] with `labels` int64 [N].

    With fewer than k training images all of them vote. Of classes with equal votes the lowest wins.
    """
    train, test = normalize(train, dim=1), normalize(test, dim=1)
    votes_for = torch.nn.functional.one_hot(labels).to(train.dtype)  # [N, C]
    predicted = []
    for start in range(0, len(test), batch):
        cosine, nearest = (test[start : start + batch] @ train.T).topk(min(args.k, len(train)), dim=1)
        # The largest exponent is taken out: exp(1 / T) would overflow where T is small, and the order stays.
        weights = ((cosine - cosine[:, :1]) / args.temperature).exp()
        predicted.append((weights.unsqueeze(2) * votes_for[nearest]).sum(dim=1).argmax(dim=1))
    return torch.cat(predicted)
