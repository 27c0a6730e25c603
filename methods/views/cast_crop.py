"""CAST's saliency-constrained random crops, with masks (Selvaraju et al. 2021, arXiv:2012.04630).

A pixel is salient where the saliency map is above `threshold`. Each of the two crops has to contain `coverage` of the
salient pixels, and is redrawn up to 10 times until it does. If none of the 10 does, the crop becomes the box of the
salient pixels, extended at random on every side and shortened to the permitted ratio. An image without a salient pixel
is replaced by another training image. These steps, and the distribution of a crop's centre, are the official code's
(salesforce/CAST); the paper states the constraint.

M is the salient area under the crop and flip of its view: 0 or 1.
Differs from the official code: the number of random numbers does not depend on the images, so at most 10 replacements
are drawn for an image without a salient pixel; if none of those has one, all of the image counts as salient.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Generator, Tensor

from methods.attention_guided_args import CastCropArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.crop_with_mask import cut_with_masks
from methods.views.geometry import uniform
from methods.views.random_resized_crop import Box

_TRIES = 10  # of a crop, and of another image; official code: 10 of a crop, no limit for images
_NORMAL = NormalDist()


class CastCrop(ViewMaker):
    """Views with masks; see the module's docstring."""

    def __init__(self, args: CastCropArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> per view uint8 images [B, 3, S, S] and masks [B, 1, S, S] of 0 and 255."""
        others = (uniform(rng, (len(indices), _TRIES)) * len(self.source)).long().tolist()
        chosen = [self._salient(index, more) for index, more in zip(indices.tolist(), others, strict=True)]
        images = [self.source.image(index) for index, _ in chosen]
        salient = [mask for _, mask in chosen]
        maps = [mask.to(torch.uint8)[None] * 255 for mask in salient]
        views = []
        for _ in self.args.photometry:
            boxes = torch.tensor(covering_boxes(salient, self.args, rng))
            flips = uniform(rng, (len(images),)) < self.args.flip_p
            views.append(cut_with_masks(images, maps, boxes, flips, self.size, self.args.interpolation))
        return Crops([view for view, _ in views], [(mask >= 128).to(torch.uint8) * 255 for _, mask in views])

    def _salient(self, index: int, others: list[int]) -> tuple[int, Tensor]:
        """The first of `index` and `others` with a salient pixel, and its salient pixels, bool [H, W]."""
        for candidate in (index, *others):
            salient = self.source.saliency(candidate)[0] > self.args.threshold
            if salient.any():
                return candidate, salient
        return index, torch.ones_like(self.source.saliency(index)[0], dtype=torch.bool)


def covering_boxes(salient: list[Tensor], args: CastCropArgs, rng: Generator) -> list[Box]:
    """One box per image that contains enough of its salient pixels, bool [H, W] each with at least one of them.

    Where the salient area is so large that a crop of the smallest area cannot contain `coverage` of it, what such a
    crop can contain is enough.
    """
    count = len(salient)
    areas = uniform(rng, (count, _TRIES), args.scale, 1.0).tolist()
    low, high = (math.log(bound) for bound in args.ratio)
    aspects = uniform(rng, (count, _TRIES), low, high).exp().tolist()
    places = uniform(rng, (count, _TRIES, 2)).tolist()
    margins = uniform(rng, (count, 4)).tolist()
    boxes = []
    for mask, area, aspect, place, margin in zip(salient, areas, aspects, places, margins, strict=True):
        box = _covering(mask, list(zip(area, aspect, place, strict=True)), args)
        boxes.append(_around(mask, margin, args.ratio) if box is None else box)
    return boxes


def _covering(mask: Tensor, draws: list[tuple[float, float, list[float]]], args: CastCropArgs) -> Box | None:
    """The first crop that fits into the image and contains enough salient pixels; None where no draw does."""
    height, width = mask.shape
    total = int(mask.sum())
    enough = min(args.coverage, args.scale * height * width / total) * total
    centroid_x, centroid_y = (int(mask.sum(dim=axis) @ torch.arange(mask.shape[1 - axis])) / total for axis in (0, 1))
    for share, aspect, (across, down) in draws:
        w = round(math.sqrt(share * height * width * aspect))
        h = round(math.sqrt(share * height * width / aspect))
        if not (0 < w <= width and 0 < h <= height):
            continue
        if args.centre == "gaussian":
            left, top = _start(across, centroid_x, width, w), _start(down, centroid_y, height, h)
        else:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
        if int(mask[top : top + h, left : left + w].sum()) >= enough:
            return left, top, left + w, top + h
    return None


def _start(share: float, centroid: float, side: int, length: int) -> int:
    """Start of a crop of `length` in [0, side), whose centre is normal around `centroid` and truncated to fit.

    `share` in [0, 1) is the quantile; the standard deviation is `side`.
    """
    low = _NORMAL.cdf((length / 2 - centroid) / side)
    high = _NORMAL.cdf((side - length / 2 - centroid) / side)
    if high <= low:  # the crop is as long as the image
        return 0
    centre = centroid + side * _NORMAL.inv_cdf(low + share * (high - low))
    return min(max(int(centre - length / 2), 0), side - length)


def _around(mask: Tensor, margin: list[float], ratio: tuple[float, float]) -> Box:
    """The box of the salient pixels, extended on each side by a share of the room there, within the permitted ratio."""
    height, width = mask.shape
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    x0, y0 = left - int(margin[0] * (left + 1)), top - int(margin[1] * (top + 1))
    x1, y1 = right + int(margin[2] * (width - right + 1)), bottom + int(margin[3] * (height - bottom + 1))
    x0, x1 = _shortened(x0, x1, right, int((y1 - y0) * ratio[1]))
    y0, y1 = _shortened(y0, y1, bottom, int((x1 - x0) / ratio[0]))
    return x0, y0, x1, y1


def _shortened(start: int, end: int, salient_end: int, longest: int) -> tuple[int, int]:
    """[start, end), cut at its end to `longest` pixels, or at its start where the cut would reach the salient area."""
    longest = max(1, longest)
    if end - start <= longest:
        return start, end
    end = max(start + longest, salient_end)
    return end - longest, end
