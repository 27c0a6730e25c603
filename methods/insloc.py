"""InsLoc: instance localisation (Yang et al. 2021, arXiv:2102.08318), in its C4 form.

MoCo v2's loss (moco_v2.py) between pooled regions instead of whole images: RoIAlign (arXiv:1703.06870) cuts the box of
the pasted object out of layer3's map, layer4 goes over that cut, and its average is the region's feature. So every
parameter of the backbone is trained, and all of it is handed on. The query's box is augmented by the view
(views/instance_composition.py), the key's is the true one; wherever the keys' images are shuffled, their boxes are too.

The official code has the FPN form, whose head and four queues a classifier would throw away; of the C4 form it shows
that layer4 is the head over the regions. That RoIAlign's output is 14 x 14 and that a head of MoCo v2's follows is our
reading of it. Weights are decayed and momentum is Nesterov's there; both belong to the recipe.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from methods.args import InsLocArgs
from methods.backbone import RegionBackbone
from methods.distributed import gathered
from methods.heads import mlp_head, unit
from methods.objective import Objective, ema_update, embedding_std, frozen_copy
from methods.queue import KeyQueue, queue_length
from methods.shuffle_bn import in_groups, shuffled
from methods.solo_learn import moco_loss
from methods.sync_batchnorm import one_running_average
from methods.views.batch import Views


class InsLoc(Objective):
    """Needs two views with boxes. In training every call of `loss` moves the key encoder and the queue."""

    synchronise_bn = False

    def __init__(self, args: InsLocArgs, backbone: RegionBackbone, train_images: int) -> None:
        super().__init__()
        self.args = args
        self.backbone: RegionBackbone = backbone
        self.head = mlp_head(backbone.dim, args.hidden_dim, args.projection_dim)
        self.key_backbone = cast(RegionBackbone, frozen_copy(self.backbone))
        self.key_head = cast(nn.Sequential, frozen_copy(self.head))
        self.queue = KeyQueue(args.projection_dim, queue_length(args.queue_size, train_images))

    def loss(self, views: Views) -> dict[str, Tensor]:
        """InfoNCE of view 1's region against view 2's and the queue. Images [B, 3, S, S], boxes [B, 4] in pixels."""
        if views.boxes is None:
            raise ValueError("InsLoc needs views with boxes, such as instance_composition")
        (view, key_view), (box, key_box) = views.images, views.boxes
        if self.training:
            ema_update(self.key_backbone, self.backbone, self.args.momentum)
            ema_update(self.key_head, self.head, self.args.momentum)
        encode, encode_key = (
            partial(region_features, network, side=self.args.roi_side) for network in (self.backbone, self.key_backbone)
        )
        splits = self.args.bn_splits
        with one_running_average(self.backbone, splits):
            query = unit(self.head(in_groups(encode, splits, view, box)))  # [B, D]
        with torch.no_grad(), one_running_average(self.key_backbone, splits):
            key = unit(self.key_head(shuffled(encode_key, splits, key_view, key_box)))  # [B, D]
        contrastive = moco_loss(query, key, self.queue.negatives(), self.args.temperature)
        if self.training:
            self.queue.enqueue(gathered(key))
        return {"loss": contrastive, "embedding_std": embedding_std(query.detach())}


def region_features(backbone: RegionBackbone, images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Images [B, 3, S, S] and one box of each, [B, 4] in its pixels -> [B, dim].

    The scale from pixels to layer3's map is that map's true size over the image's: 1/16 with the imagenet stem.
    """
    x = backbone.before_regions(images)  # [B, C, h, w]
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # half precision would round the boxes
    index = torch.arange(len(boxes), device=boxes.device)[:, None]
    rois = torch.cat([index, boxes], dim=1).to(x)  # [B, 5]
    regions = roi_align(x, rois, side, spatial_scale=x.shape[-1] / images.shape[-1], aligned=True)
    return backbone.after_regions(regions).mean(dim=(2, 3))
