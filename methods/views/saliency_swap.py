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
from methods.views.geometry import mirrored, random_boxes, uniform, whole_boxes
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
            shifts = uniform(rng, (len(references),))
            flips = uniform(rng, (len(references),)) < self.args.flip_p
            backgrounds = [self.source.image(i) for i in others.tolist()]
            salient = torch.tensor([self.source.salient_box(i) for i in others.tolist()])
            canvases, places = self._canvases(whole_boxes(backgrounds), salient, shifts)
            # Each crop is resampled once, from the reference at full resolution straight to its final size.
            images.append(
                paste_batch(backgrounds, canvases, pictures, boxes, places, flips, self.size, self.args.interpolation)
            )
            masks.append(self._masks(maps, boxes, places, flips))
        return Crops(images, masks)

    def _canvases(self, whole: Tensor, salient: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """The part of each background that becomes the view, and the place of its salient box in the view.

        Args:
            whole: the boxes of the backgrounds, int64 [B, 4], left, top, right, bottom (exclusive).
            salient: their salient boxes, int64 [B, 4].
            shifts: float64 [B] in [0, 1), where the square is placed.

        Returns:
            canvases, int64 [B, 4] in the backgrounds; places, int64 [B, 4] in the view. A salient box is clipped to
            the canvas, and its place is at least one pixel wide and high.
        """
        if self.args.canvas == "squash":
            canvases = whole
        else:
            lengths = whole[:, 2:]  # [B, 2] width, height
            sides = lengths.min(dim=1, keepdim=True).values
            starts = _square_corners(lengths, sides, salient, shifts[:, None])
            canvases = torch.cat([starts, starts + sides], dim=1)
        starts = canvases[:, :2]
        # Of a number and a tensor, torch would multiply by the reciprocal, which rounds differently.
        factors = torch.tensor(self.size, dtype=torch.float64) / (canvases[:, 2:] - starts)
        low = torch.round((salient[:, :2] - starts) * factors).long().clamp(0, self.size - 1)
        high = torch.round((salient[:, 2:] - starts) * factors).long()
        return canvases, torch.cat([low, high.maximum(low + 1).clamp(max=self.size)], dim=1)

    def _masks(self, maps: list[Tensor], boxes: Tensor, places: Tensor, flips: Tensor) -> Tensor:
        """M of every view: uint8 [B, 1, S, S]."""
        if self.args.mask == "saliency":
            return paste_maps(maps, boxes, places, flips, self.size)
        masks = empty_batch(len(maps), 1, self.size, self.size).zero_()
        placed = torch.where(flips[:, None], mirrored(places, self.size), places)
        for mask, (left, top, right, bottom) in zip(masks, placed.tolist(), strict=True):
            mask[:, top:bottom, left:right] = 255
        return masks


def _square_corners(lengths: Tensor, sides: Tensor, salient: Tensor, shifts: Tensor) -> Tensor:
    """Left and top of a square in each image.

    Along each axis the square contains the salient box, or lies inside of it where the box is longer.

    Args:
        lengths: width and height of the images, int64 [B, 2].
        sides: of the squares, int64 [B, 1].
        salient: boxes, int64 [B, 4].
        shifts: float64 [B, 1] in [0, 1), where between the first and the last possible place.

    Returns:
        int64 [B, 2].
    """
    ends = torch.stack([salient[:, 2:] - sides, salient[:, :2]]).clamp(min=0).minimum(lengths - sides)
    first, last = ends.amin(dim=0), ends.amax(dim=0)
    return first + (shifts * (last - first + 1)).long()
