"""MoCo v2 (Chen et al. 2020, arXiv:2003.04297): MoCo (arXiv:1911.05722) with an MLP head and stronger colour changes.

Loss, equation 1 of MoCo: InfoNCE of a query, view 1, against its key, view 2, and K keys of earlier batches. One
direction only. The loss is solo-learn's; its MoCo v2+ is symmetric with a rising momentum, a different method.
Order of a step, as in MoCo's code: the key encoder moves by equation 2, keys are computed, the loss uses the queue as
it was, the keys enter the queue.
Differs from the paper: K is at most half of the training images; shuffle-BN works in groups of the batch, whatever the
number of devices (shuffle_bn.py).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from methods.args import MocoV2Args
from methods.backbone import Backbone
from methods.distributed import gathered
from methods.heads import mlp_head, unit
from methods.objective import Objective, ema_update, embedding_std, frozen_copy
from methods.queue import KeyQueue, queue_length
from methods.shuffle_bn import in_groups, shuffled
from methods.solo_learn import moco_loss
from methods.sync_batchnorm import one_running_average
from methods.views.batch import Views


class MocoV2(Objective):
    """Needs two views. In training every call of `loss` moves the key encoder and the queue: one call per step."""

    synchronise_bn = False

    def __init__(self, args: MocoV2Args, backbone: Backbone, train_images: int) -> None:
        super().__init__()
        self.args = args
        self.backbone = backbone
        self.head = mlp_head(backbone.dim, args.hidden_dim, args.projection_dim)
        self.key_backbone = cast(Backbone, frozen_copy(self.backbone))
        self.key_head = cast(nn.Sequential, frozen_copy(self.head))
        self.queue = KeyQueue(args.projection_dim, queue_length(args.queue_size, train_images))

    def loss(self, views: Views) -> dict[str, Tensor]:
        """InfoNCE of view 1 against view 2 and the queue. View images [B, 3, S, S]."""
        view, key_view = views.images
        if self.training:
            ema_update(self.key_backbone, self.backbone, self.args.momentum)
            ema_update(self.key_head, self.head, self.args.momentum)
        splits = self.args.bn_splits
        with one_running_average(self.backbone, splits):
            query = unit(self.head(in_groups(self.backbone.pooled, splits, view)))  # [B, D]
        with torch.no_grad(), one_running_average(self.key_backbone, splits):
            pooled = shuffled(self.key_backbone.pooled, splits, key_view)
            key = unit(self.key_head(pooled))  # [B, D]
        contrastive = moco_loss(query, key, self.queue.negatives(), self.args.temperature)
        if self.training:
            self.queue.enqueue(gathered(key))
        return {"loss": contrastive, "embedding_std": embedding_std(query.detach())}
