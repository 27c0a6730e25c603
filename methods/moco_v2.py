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

from methods.alignment import SaliencyAlignment, add_alignment
from methods.args import MocoV2Args
from methods.backbone import Backbone
from methods.distributed import all_gather
from methods.heads import l2_normalize, mlp_head
from methods.objective import Objective, ema_update, embedding_std, frozen_copy
from methods.queue import KeyQueue, queue_length
from methods.shuffle_bn import cast_once, in_groups, shuffled
from methods.solo_learn import load_losses, moco_loss
from methods.sync_batchnorm import one_running_average
from methods.views.batch import Views


class MocoV2(Objective):
    """Needs two views, and masks with an alignment module.

    In training every call of `loss` moves the key encoder and the queue: one call per step.
    """

    synchronise_bn = False

    def __init__(
        self, args: MocoV2Args, backbone: Backbone, train_images: int, alignment: SaliencyAlignment | None = None
    ) -> None:
        super().__init__()
        load_losses()
        self.args = args
        self.backbone = backbone
        self.alignment = alignment
        self.head = mlp_head(backbone.dim, args.hidden_dim, args.projection_dim)
        self.key_backbone = cast(Backbone, frozen_copy(self.backbone))
        self.key_head = cast(nn.Sequential, frozen_copy(self.head))
        self.queue = KeyQueue(args.projection_dim, queue_length(args.queue_size, train_images))

    def loss(self, views: Views) -> dict[str, Tensor]:
        """InfoNCE of view 1 against view 2 and the queue. View images [B, 3, S, S].

        An alignment module adds L_Align in the direction of the loss: view 1 is the query, view 2 the key.
        """
        view, key_view = views.images
        self.update_keys()
        # Feature maps are large, and shuffling sends them between processes: only the alignment needs them.
        query_encoded, query = self.encode_query(view, maps=self.alignment is not None)
        key_encoded, key = self.encode_key(key_view, maps=self.alignment is not None)
        scalars = self.contrast(query, key)
        if self.alignment is None:
            return scalars
        scalars["contrastive"] = scalars["loss"].detach()
        return add_alignment(self.alignment, scalars, [query_encoded], [key_encoded], views.masks)

    def update_keys(self) -> None:
        """Move the key encoder towards the query encoder (equation 2); in training only."""
        if self.training:
            ema_update(self.key_backbone, self.backbone, self.args.momentum)
            ema_update(self.key_head, self.head, self.args.momentum)
            if self.alignment is not None:
                self.alignment.update_target(self.args.momentum)

    def encode_query(self, view: Tensor, maps: bool) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] -> features [B, dim] or feature maps [B, dim, h, w], and embeddings [B, D] of unit length."""
        encode, splits = self.backbone.forward if maps else self.backbone.pooled, self.args.bn_splits
        with one_running_average(self.backbone, splits):
            encoded = in_groups(encode, splits, view, network=self.backbone)
            return encoded, l2_normalize(self.head(_pooled(encoded)))

    @torch.no_grad()
    def encode_key(self, view: Tensor, maps: bool) -> tuple[Tensor, Tensor]:
        """As `encode_query`, with the key encoder and in random groups."""
        encode, splits = self.key_backbone.forward if maps else self.key_backbone.pooled, self.args.bn_splits
        with one_running_average(self.key_backbone, splits), cast_once(self.key_backbone):
            encoded = shuffled(encode, splits, view, network=self.key_backbone)
            return encoded, l2_normalize(self.key_head(_pooled(encoded)))

    def contrast(self, query: Tensor, key: Tensor) -> dict[str, Tensor]:
        """Scalars with the InfoNCE loss of embeddings [B, D]; in training the keys enter the queue."""
        contrastive = moco_loss(query, key, self.queue.negatives(), self.args.temperature)
        if self.training:
            self.queue.enqueue(all_gather(key))
        return {"loss": contrastive, "embedding_std": embedding_std(query.detach())}


def _pooled(encoded: Tensor) -> Tensor:
    """[B, dim] or [B, dim, h, w] -> [B, dim]."""
    return encoded.flatten(2).mean(dim=2) if encoded.dim() == 4 else encoded
