"""CVSA's cross-view saliency alignment, L_Align (arXiv:2106.15788; the learning-paradigm figure, part b).

For every position i of the query's feature map the best match among the key's positions is taken, squashed by a
sigmoid and compared with the query's saliency mask:

    A_i = max_j sigmoid(<p_conv(g_conv(f(q)))_i, g'_conv(f'(k))_j>)        L_Align = mean_i (A_i - M_q,i)^2

f and g_conv are trained, f' and g'_conv are their moving averages, and no gradient reaches the key or the mask.
The published figure gives these shapes and operations; depth and width of g_conv and p_conv, normalisation of the
features, soft or binary masks and symmetry are not stated and are settings here (methods/args.py).

L_Align can be added to every objective that computes feature maps of queries and keys (`add_alignment`). f' is then
that objective's key network: BYOL's target, MoCo's key encoder. SimCLR and SimSiam have none, so f' is f and g'_conv is
g_conv, both without gradient. The paper shows L_Align with BYOL only; the other combinations are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from methods.args import AlignmentArgs
from methods.distributed import all_gather
from methods.objective import ema_update, frozen_copy


def _conv_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """BYOL's two-layer perceptron as 1x1 convolutions: conv - BN - ReLU - conv."""
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, kernel_size=1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, outputs, kernel_size=1),
    )


class SaliencyAlignment(nn.Module):
    """g_conv and p_conv of the online branch, g'_conv of the target branch, and the loss between them."""

    def __init__(self, args: AlignmentArgs, dim: int) -> None:
        super().__init__()
        self.args = args
        self.projector = _conv_mlp(dim, args.hidden_dim, args.dim)
        self.predictor = _conv_mlp(args.dim, args.hidden_dim, args.dim)
        self.target_projector = frozen_copy(self.projector)

    def update_target(self, tau: float) -> None:
        """Move g'_conv towards g_conv."""
        ema_update(self.target_projector, self.projector, tau)

    def attention(self, query: Tensor, key: Tensor) -> Tensor:
        """Feature maps of query [B, dim, h, w] and key [B, dim, h', w'] -> A [B, h, w] in (0, 1)."""
        predicted = self.predictor(self.projector(query)).flatten(2)  # [B, C, hw]
        with torch.no_grad():
            matched = self.target_projector(key.detach()).flatten(2)  # [B, C, h'w']
        return match(predicted, matched, self.args).reshape(-1, *query.shape[2:])

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """L_Align of one direction.

        Args:
            query: [B, dim, h, w], the online backbone's map of one view.
            key: [B, dim, h', w'], the target backbone's map of the other view.
            mask: [B, 1, S, S] in [0, 1], saliency of the query view; averaged over areas down to h x w.

        Returns:
            The loss and the statistics of A that show a dead alignment (constant .5, 0 or 1).
        """
        attention = self.attention(query, key)
        loss = (attention - mask_on_grid(mask, query.shape[2:], self.args)).square().mean()
        values = all_gather(attention)
        stats = {"attention_min": values.min(), "attention_mean": values.mean(), "attention_max": values.max()}
        return loss, stats


def add_alignment(
    alignment: SaliencyAlignment | None,
    scalars: dict[str, Tensor],
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    masks: Sequence[Tensor] | None,
) -> dict[str, Tensor]:
    """Add weight x L_Align to an objective's loss. Without an alignment module the scalars stay as they are.

    Args:
        alignment: the module, or None.
        scalars: the objective's scalars, with "loss".
        queries: feature maps [B, dim, h, w] of the trained network, one per direction of the objective.
        keys: feature map of the other view for each of the queries. No gradient reaches them.
        masks: saliency [B, 1, S, S] of each query's view, and possibly of further views.

    Raises:
        ValueError: the views carry no masks.
    """
    if alignment is None:
        return scalars
    if masks is None:
        raise ValueError("L_Align needs views with masks, such as saliency_swap")
    align, stats = alignment(queries[0], keys[0], masks[0])
    if alignment.args.symmetric:
        for query, key, mask in zip(queries[1:], keys[1:], masks[1:], strict=False):
            align = align + alignment(query, key, mask)[0]
    total = scalars["loss"] + alignment.args.weight * align
    return {**scalars, "loss": total, "align": align.detach(), **stats}


def match(query: Tensor, key: Tensor, args: AlignmentArgs) -> Tensor:
    """A: [B, C, n] and [B, C, m] -> [B, n], the maximum over key positions of the sigmoid of the similarity.

    In float32 even under autocast: half precision would saturate the sigmoid early.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key = query.float(), key.detach().float()
        if args.similarity == "cosine":
            query, key = normalize(query, dim=1) * args.scale, normalize(key, dim=1)
        elif args.similarity == "sqrt":
            query = query / math.sqrt(query.shape[1])
        # The sigmoid rises monotonically, so taking the maximum first is the same and cheaper.
        return (query.transpose(1, 2) @ key).amax(dim=2).sigmoid()


def mask_on_grid(mask: Tensor, grid: torch.Size | tuple[int, ...], args: AlignmentArgs) -> Tensor:
    """[B, 1, S, S] -> [B, h, w] by averaging over areas, so that small objects do not vanish. Never has a gradient."""
    mask = mask.detach().float()
    if args.mask == "binary":
        mask = (mask >= 0.5).float()
    return adaptive_avg_pool2d(mask, (grid[0], grid[1]))[:, 0]
