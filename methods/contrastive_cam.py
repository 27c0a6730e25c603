"""Grad-CAM (arXiv:1610.02391) of a score between embeddings, as an expression that autograd can differentiate again.

Between the last feature map and an embedding there are an average, two linear layers with a ReLU, and a normalisation.
Their derivative is written out here, so that a loss on the map needs one backward pass, works under DDP and mixed
precision, and compiles.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


def grad_cam(maps: Tensor, head: nn.Sequential, direction: Tensor, constant_weights: bool = False) -> Tensor:
    """Grad-CAM of the score q . direction, with q = z / |z| and z = head(mean of the map): [B, h, w], never negative.

    The map is pooled before the head, so that the gradient is the same at every place: 1 / (h w) of that of the mean.
    In single precision at least, also under mixed precision.

    Args:
        maps: [B, dim, h, w].
        head: linear - ReLU - linear.
        direction: [B, D], a constant: a key, or the derivative of a loss by q.
        constant_weights: no gradient reaches the weights of the channels, as if autograd had computed them once.
    """
    precise = torch.promote_types(maps.dtype, torch.float32)
    with torch.autocast(maps.device.type, enabled=False):
        places = maps.to(precise).flatten(2)  # [B, dim, hw]
        weights = score_gradient(head, places.mean(dim=2), direction.to(precise)) / places.shape[2]  # [B, dim]
        weights = weights.detach() if constant_weights else weights
        return torch.einsum("bcn,bc->bn", places, weights).relu().view(-1, *maps.shape[2:])


def score_gradient(head: nn.Sequential, features: Tensor, direction: Tensor) -> Tensor:
    """d(z . direction / |z|) / d(features) with z = head(features): [B, dim]. Differentiable in features and head.

    Args:
        head: linear - ReLU - linear.
        features: [B, dim].
        direction: [B, D], a constant.
    """
    first, last = cast(nn.Linear, head[0]), cast(nn.Linear, head[2])
    hidden = linear(features, first.weight, first.bias)
    z = linear(hidden.relu(), last.weight, last.bias)
    length: Tensor = torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(1e-12)
    unit = z / length
    by_z = (direction - (unit * direction).sum(dim=1, keepdim=True) * unit) / length
    return ((by_z @ last.weight) * (hidden > 0)) @ first.weight
