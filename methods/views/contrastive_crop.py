"""ContrastiveCrop: crops around the network's own heat map (Peng et al. 2022, arXiv:2202.03278).

Every few epochs the trained network sees each whole training image. Its heat map is the sum over the channels of the
last feature map, stretched to 0..1 and enlarged bilinearly; the box of an image is the extent of the values above
`threshold` (section 3.2). From then on a crop's centre lies within that box, and its place follows a symmetric beta
distribution with `alpha` below 1, which prefers the edges of the box to its middle: centre-suppressed sampling
(section 3.3). Sizes are those of random-resized crops. There is no saliency detector. Before the first update crops
are plain.

Differs from the official code (xyupeng/ContrastiveCrop): the box ends behind its last pixel, not at its start; updates
come after shares of the epochs, since their number differs between recipes. Crops of which none of 10 sizes fits are
placed by the box too.
"""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from methods.attention_guided_args import ContrastiveCropArgs
from methods.views.adaptive import AdaptiveViews
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import random_boxes, uniform
from methods.views.resampling import crop_batch


class ContrastiveCrop(AdaptiveViews):
    """`learnt` holds the box of each image: left, top, right, bottom as shares of its width and height."""

    columns = 4

    def __init__(self, args: ContrastiveCropArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def update_epochs(self, epochs: int) -> frozenset[int]:
        """After each `interval` of the epochs."""
        updates = (round(k * self.args.interval * epochs) for k in range(1, int(1 / self.args.interval) + 1))
        return frozenset(epoch for epoch in updates if 0 < epoch < epochs)

    def learn(self, maps: Tensor) -> Tensor:
        """Feature maps [n, dim, h, w] -> boxes float32 [n, 4]; the whole image where the map is the same everywhere."""
        heat = maps.float().sum(dim=1, keepdim=True)  # [n, 1, h, w]
        heat = heat - heat.amin(dim=(2, 3), keepdim=True)
        heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        heat = interpolate(heat, size=(self.size, self.size), mode="bilinear", align_corners=False)[:, 0]
        left, right = _extent(heat.amax(dim=1) > self.args.threshold)
        top, bottom = _extent(heat.amax(dim=2) > self.args.threshold)
        return torch.stack([left, top, right, bottom], dim=1) / self.size

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view."""
        images = [self.source.image(i) for i in indices.tolist()]
        sizes = torch.tensor([[image.shape[2], image.shape[1]] for image in images])  # width, height
        boxes = None if self.learnt is None else self.learnt[indices]
        return Crops([self._view(images, sizes, boxes, rng) for _ in self.args.photometry])

    def _view(self, images: list[Tensor], sizes: Tensor, boxes: Tensor | None, rng: Generator) -> Tensor:
        args = self.args
        crops = random_boxes(torch.cat([torch.zeros_like(sizes), sizes], dim=1), args.scale, args.ratio, rng)
        if boxes is not None:
            crops = centre_suppressed(crops, sizes, boxes, args.alpha, rng)
        flips = uniform(rng, (len(images),)) < args.flip_p
        return crop_batch(images, crops, (self.size, self.size), args.interpolation, flips)


def centre_suppressed(crops: Tensor, sizes: Tensor, boxes: Tensor, alpha: float, rng: Generator) -> Tensor:
    """Move crops so that their centres lie within boxes, as far as the images allow.

    Args:
        crops: int64 [B, 4], left, top, right, bottom in pixels.
        sizes: int64 [B, 2], width and height of the images.
        boxes: float [B, 4], shares of width and height.
        alpha: of the beta distribution; 1 is uniform, smaller values prefer the edges of the box.
        rng: CPU generator.
    """
    extent = crops[:, 2:] - crops[:, :2]  # [B, 2]
    room = sizes - extent
    first, last = ((sizes * edge).long() - extent // 2 for edge in (boxes[:, :2], boxes[:, 2:]))
    first, last = first.clamp(min=0).minimum(room), last.clamp(min=0).minimum(room)
    place = torch.from_numpy(betaincinv(alpha, alpha, uniform(rng, (len(crops), 2)).numpy()))
    start = first + ((last - first) * place).long()
    return torch.cat([start, start + extent], dim=1)


def _extent(hot: Tensor) -> tuple[Tensor, Tensor]:
    """Start and end (exclusive) of the true values of each row, bool [n, S]; the whole row where none is true."""
    side = hot.shape[1]
    numbers = torch.arange(side, device=hot.device)
    start = torch.where(hot, numbers, side).amin(dim=1)
    end = torch.where(hot, numbers + 1, 0).amax(dim=1)
    empty = end == 0
    return start.masked_fill(empty, 0), end.masked_fill(empty, side)
