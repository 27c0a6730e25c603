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

from methods.args import InsLocArgs
from methods.backbone import RegionBackbone
from methods.distributed import all_gather
from methods.heads import l2_normalize, mlp_head
from methods.objective import Objective, ema_update, embedding_std, frozen_copy
from methods.queue import KeyQueue, queue_length
from methods.shuffle_bn import cast_once, in_groups, shuffled
from methods.solo_learn import load_losses, moco_loss
from methods.sync_batchnorm import one_running_average
from methods.views.batch import Views


class InsLoc(Objective):
    """Needs two views with boxes. In training every call of `loss` moves the key encoder and the queue."""

    synchronise_bn = False

    def __init__(self, args: InsLocArgs, backbone: RegionBackbone, train_images: int) -> None:
        super().__init__()
        load_losses()
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
            feature = in_groups(encode, splits, view, box, network=self.backbone)  # [B, dim]
            query = l2_normalize(self.head(feature))  # [B, D]
        with torch.no_grad(), one_running_average(self.key_backbone, splits), cast_once(self.key_backbone):
            key_feature = shuffled(encode_key, splits, key_view, key_box, network=self.key_backbone)
            key = l2_normalize(self.key_head(key_feature))  # [B, D]
        contrastive = moco_loss(query, key, self.queue.negatives(), self.args.temperature)
        if self.training:
            self.queue.enqueue(all_gather(key))
        return {"loss": contrastive, "embedding_std": embedding_std(query.detach())}


def region_features(backbone: RegionBackbone, images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Images [B, 3, S, S] and one box of each, [B, 4] in its pixels -> [B, dim].

    The scale from pixels to layer3's map is that map's true size over the image's: 1/16 with the imagenet stem.
    """
    x = backbone.before_regions(images)  # [B, C, h, w]
    regions = align_regions(x, boxes * (x.shape[-1] / images.shape[-1]), side)
    return backbone.after_regions(regions).mean(dim=(2, 3))


def align_regions(maps: Tensor, boxes: Tensor, side: int) -> Tensor:
    """RoIAlign (arXiv:1703.06870) with one region per map: [B, C, h, w] and boxes [B, 4] -> [B, C, side, side].

    Boxes are left, top, right, bottom in pixels of the map, within it, single precision at least. The number of samples
    per bin adapts to the box, as torchvision's `roi_align(..., sampling_ratio=-1, aligned=True)` does.

    Bilinear samples and their averages are linear in rows and in columns, so a region is the product of two matrices
    with the map. Other than torchvision's kernel, this is deterministic on CUDA in the backward pass, keeps the memory
    format channels_last, and never waits for the device. Computed in single precision at least.
    """
    precise = torch.promote_types(maps.dtype, torch.float32)
    with torch.autocast(maps.device.type, enabled=False):
        pixels = maps.to(precise).permute(0, 2, 3, 1)  # [B, h, w, C], contiguous for channels_last
        batch, height, width, channels = pixels.shape
        left, top, right, bottom = boxes.to(precise).unbind(dim=1)
        rows = _sampling(top, bottom, height, side)  # [B, side, h]
        columns = _sampling(left, right, width, side)  # [B, side, w]
        cut = rows @ pixels.reshape(batch, height, width * channels)  # [B, side, w C]
        cut = columns[:, None] @ cut.view(batch, side, width, channels)  # [B, side, side, C]
    return cut.permute(0, 3, 1, 2)


def _sampling(start: Tensor, end: Tensor, size: int, side: int) -> Tensor:
    """Weights [B, side, size] of the pixels of an axis in the bins of the intervals start .. end, [B] each."""
    length = (end - start)[:, None, None] / side  # of a bin
    most = -(-size // side)  # samples per bin of the longest box
    samples = length.ceil().clamp(1, most)  # torchvision's adaptive number
    number = torch.arange(most, device=start.device, dtype=start.dtype)
    bins = torch.arange(side, device=start.device, dtype=start.dtype)[:, None]
    # Pixel i is centred at i + 0.5, so that a sample at x lies x - 0.5 pixels from the first centre.
    places = start[:, None, None] - 0.5 + length * (bins + (number + 0.5) / samples)  # [B, side, samples]
    pixels = torch.arange(size, device=start.device, dtype=start.dtype)
    weights = (1 - (places.clamp(0, size - 1)[..., None] - pixels).abs()).clamp_min(0)  # [B, side, samples, size]
    used = (number < samples) / samples
    return (weights * used[..., None]).sum(dim=2)
