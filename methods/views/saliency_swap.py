"""Saliency Swap, the views of CVSA (arXiv:2106.15788, figure 1): the same object on another background.

For each view of a reference image a crop is taken inside its salient region and pasted, resized, over the salient box
of another training image. The two views have different backgrounds, neither is the reference itself, and the paste is
a plain rectangle: no silhouette, no blending, the aspect ratio follows the background's box.

Open in the paper and decided here: the crop's area is a share (scale, 1) of the salient box; backgrounds are sampled
from the whole training split, not from the batch, so that no negative shares pixels with its query; the background is
made square around its box (`canvas`); M is the reference's saliency inside the pasted box and zero outside (`mask`).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import SaliencySwapArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import mirrored, random_boxes, uniform
from methods.views.resampling import empty_batch, paste_batch, paste_maps


def other_indices(indices: Tensor, total: int, how_many: int, rng: Generator) -> Tensor:
    """For each index [B], `how_many` others: different from it and from each other, uniform. int64 [how_many, B].

    Needs total > how_many. A draw from the n values not yet taken is shifted past each taken one, in rising order.
    """
    taken = indices[None]
    for k in range(1, how_many + 1):
        draw = (uniform(rng, (len(indices),)) * (total - k)).long()
        for value in taken.sort(dim=0).values:
            draw = draw + (draw >= value)
        taken = torch.cat([taken, draw[None]])
    return taken[1:]


class SaliencySwap(ViewMaker):
    """Views with masks; see the module's docstring."""

    def __init__(self, args: SaliencySwapArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args
        needed = len(args.photometry) + 1
        if len(source) < needed:
            raise ValueError(f"saliency_swap needs at least {needed} training images, the dataset has {len(source)}")

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> per view uint8 images [B, 3, S, S] and masks [B, 1, S, S]."""
        images, masks = [], []
        references = indices.tolist()
        regions = torch.tensor([self.source.salient_box(i) for i in references])
        pictures = [self.source.image(i) for i in references]
        maps = [self.source.saliency(i) for i in references]
        for others in other_indices(indices, len(self.source), len(self.args.photometry), rng):
            boxes = random_boxes(regions, self.args.scale, self.args.ratio, rng)
            shifts = uniform(rng, (len(references),)).tolist()
            flips = uniform(rng, (len(references),)) < self.args.flip_p
            backgrounds = [self.source.image(i) for i in others.tolist()]
            canvases, places = self._canvases(backgrounds, others.tolist(), shifts)
            # Each crop is resampled once, from the reference at full resolution straight to its final size.
            images.append(
                paste_batch(backgrounds, canvases, pictures, boxes, places, flips, self.size, self.args.interpolation)
            )
            masks.append(self._masks(maps, boxes, places, flips))
        return Crops(images, masks)

    def _canvases(self, backgrounds: list[Tensor], indices: list[int], shifts: list[float]) -> tuple[Tensor, Tensor]:
        """`_canvas` of every background: int64 [B, 4] twice."""
        pairs = [
            self._canvas(tuple(behind.shape[1:]), self.source.salient_box(index), shift)
            for behind, index, shift in zip(backgrounds, indices, shifts, strict=True)
        ]
        return torch.tensor([canvas for canvas, _ in pairs]), torch.tensor([place for _, place in pairs])

    def _masks(self, maps: list[Tensor], boxes: Tensor, places: Tensor, flips: Tensor) -> Tensor:
        """M of every view: uint8 [B, 1, S, S]."""
        if self.args.mask == "saliency":
            return paste_maps(maps, boxes, places, flips, self.size)
        masks = empty_batch(len(maps), 1, self.size, self.size).zero_()
        placed = torch.where(flips[:, None], mirrored(places, self.size), places)
        for mask, (left, top, right, bottom) in zip(masks, placed.tolist(), strict=True):
            mask[:, top:bottom, left:right] = 255
        return masks

    def _canvas(
        self, shape: tuple[int, ...], salient: tuple[int, int, int, int], shift: float
    ) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
        """The part of the background [H, W] that becomes the view, and the place of its salient box in the view.

        `shift` in [0, 1) places the square. The box is clipped to it and is at least one pixel wide and high.
        """
        height, width = shape
        if self.args.canvas == "squash":
            left, top, right, bottom = 0, 0, width, height
        else:
            side = min(height, width)
            left = _slide(width, side, salient[0], salient[2], shift)
            top = _slide(height, side, salient[1], salient[3], shift)
            right, bottom = left + side, top + side
        scale_x, scale_y = self.size / (right - left), self.size / (bottom - top)
        x0, x1 = _span((salient[0] - left) * scale_x, (salient[2] - left) * scale_x, self.size)
        y0, y1 = _span((salient[1] - top) * scale_y, (salient[3] - top) * scale_y, self.size)
        return (left, top, right, bottom), (x0, y0, x1, y1)


def _slide(length: int, side: int, low: int, high: int, shift: float) -> int:
    """Start of a window of `side` in [0, length) that contains [low, high), or lies inside it where that is longer."""
    first, last = sorted((max(0, high - side), min(length - side, low)))
    first, last = max(0, first), min(length - side, last)
    return first + int(shift * (last - first + 1))


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """[low, high) rounded to pixels and clipped to [0, size), at least one pixel long."""
    start = min(max(round(low), 0), size - 1)
    return start, min(max(round(high), start + 1), size)
