"""LooC: What Should Not Be Contrastive in Contrastive Learning (Xiao et al. 2021, arXiv:2008.05659). No official code.

For n augmentations there are n + 1 embedding spaces over one backbone, each with a head h_i and a queue of its own,
as in MoCo with a momentum copy of backbone and heads. Space 0 is invariant to all augmentations, space i to all but
the i-th. Views: q, k_0 with nothing in common, k_i with the i-th augmentation in common with q. The loss (section 3.2)
is the mean over the spaces of InfoNCE of h_i(q), where

space 0: the positive is h_0(k_0), the negatives are queue 0; other keys of the same image take no part;
space i: the positive is h_i(k_i), the negatives are h_i(k_0) and h_i(k_j), j != i, of the same image, and queue i.

A key is thus projected by the head of the space in which it is compared: k_0 by every head, k_j by heads 1 to n.
Queue i receives h_i(k_0). This, the heads of MoCo v2 and its shuffle-BN for every key view are our reading, which two
public re-implementations share as far as they go. Differs from the paper in K, at most half of the training images.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from methods.args import LoocArgs
from methods.backbone import Backbone
from methods.distributed import all_gather
from methods.heads import l2_normalize, mlp_head
from methods.objective import Objective, ema_update, embedding_std, frozen_copy
from methods.queue import KeyQueue, queue_length
from methods.shuffle_bn import cast_once, in_groups, shuffled
from methods.sync_batchnorm import one_running_average
from methods.views.batch import Views


class Looc(Objective):
    """Needs n + 2 views, those of `shared_augmentation`. One call of `loss` per step, as in MoCo."""

    synchronise_bn = False

    def __init__(self, args: LoocArgs, backbone: Backbone, train_images: int) -> None:
        super().__init__()
        spaces = args.augmentations + 1
        length = queue_length(args.queue_size, train_images)
        self.args = args
        self.backbone = backbone
        self.heads = nn.ModuleList(mlp_head(backbone.dim, args.hidden_dim, args.projection_dim) for _ in range(spaces))
        self.key_backbone = cast(Backbone, frozen_copy(self.backbone))
        self.key_heads = cast(nn.ModuleList, frozen_copy(self.heads))
        self.queues = nn.ModuleList(KeyQueue(args.projection_dim, length) for _ in range(spaces))

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Mean over the spaces. View images q, k_0 .. k_n, [B, 3, S, S] each."""
        view, *key_views = views.images
        if len(key_views) != len(self.heads):
            raise ValueError(
                f"LooC with {self.args.augmentations} augmentations needs {len(self.heads) + 1} views, "
                f"found {len(views.images)}: objective.augmentations must be the number of views.shared"
            )
        if self.training:
            ema_update(self.key_backbone, self.backbone, self.args.momentum)
            ema_update(self.key_heads, self.heads, self.args.momentum)
        with one_running_average(self.backbone, self.args.bn_splits):
            feature = in_groups(self.backbone.pooled, self.args.bn_splits, view, network=self.backbone)  # [B, dim]
        with torch.no_grad(), cast_once(self.key_backbone):
            key_features = [self._key_features(key_view) for key_view in key_views]

        queries = [l2_normalize(head(feature)) for head in self.heads]  # per space [B, D]
        losses = [self._space(i, query, key_features) for i, query in enumerate(queries)]
        scalars = {f"space_{i}": value.detach() for i, value in enumerate(losses)}
        return {"loss": torch.stack(losses).mean(), **scalars, "embedding_std": embedding_std(queries[0].detach())}

    def _key_features(self, view: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, dim]."""
        with one_running_average(self.key_backbone, self.args.bn_splits):
            return shuffled(self.key_backbone.pooled, self.args.bn_splits, view, network=self.key_backbone)

    def _space(self, i: int, query: Tensor, key_features: list[Tensor]) -> Tensor:
        """Loss of space i for queries [B, D] and the features [B, dim] of k_0 .. k_n; then its queue moves on."""
        queue = cast(KeyQueue, self.queues[i])
        # Same-image keys are negatives in spaces 1 to n only.
        compared = key_features if i > 0 else key_features[:1]
        with torch.no_grad():
            keys = [l2_normalize(self.key_heads[i](feature)) for feature in compared]
        others = [key for j, key in enumerate(keys) if j != i]
        value = leave_one_out_loss(query, keys[i], others, queue.negatives(), self.args.temperature)
        if self.training:
            queue.enqueue(all_gather(keys[0]))
        return value


def leave_one_out_loss(
    query: Tensor, positive: Tensor, others: list[Tensor], queue: Tensor, temperature: float
) -> Tensor:
    """InfoNCE with negatives of each query's own beside the common queue; without `others` it is MoCo's loss.

    query, positive and each of others are [B, D], queue is [D, K]; all of unit length.
    """
    with torch.autocast(query.device.type, enabled=False):
        similarities = [(query * key).sum(dim=1, keepdim=True) for key in (positive, *others)]  # [B, 1] each
        logits = torch.cat([*similarities, query @ queue], dim=1) / temperature  # the positive is class 0
        return cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))
