"""Patches on a 3 x 3 grid, the view of Rel-Loc (arXiv:1505.05192, in the form of openmixup and mmselfsup).

The image is resized, a random square is cut from it, and made grey with some probability. The square has 3 x 3 cells,
and a patch smaller than a cell is taken at a random place in each. So patches of neighbouring cells never overlap, and
the gap between them varies; without this jitter the network would match lines across the gap. Grey images prevent the
network from using chromatic aberration, which depends on the position in the photograph.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import PatchesArgs
from methods.views import color_jitter
from methods.views.base import ViewMaker, planar_unit
from methods.views.batch import Crops, ImageSource, Views, normalise
from methods.views.color_jitter import ColourParameters
from methods.views.geometry import uniform, whole_boxes
from methods.views.resampling import crop_batch, parts_batch

_CELLS = 3  # per side
_CENTRE = 4  # in raster order


class Patches(ViewMaker):
    """Two batches: the eight neighbours of each image, and its centre. See the module's text.

    The sides of grid and patch are the recipe's and do not follow the network's input size.
    """

    def __init__(self, args: PatchesArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> neighbours uint8 [8B, 3, p, p], centres [B, 3, p, p], labels 0..7 [8B] in raster order."""
        count, cell, side = len(indices), self.args.grid_side // _CELLS, self.args.patch_side
        place = uniform(rng, (count, 2))
        shifts = (uniform(rng, (count, _CELLS**2, 2)) * (cell - side + 1)).long()  # [B, 9, 2]
        images = [self.source.image(i) for i in indices.tolist()]
        boxes = self._squares(whole_boxes(images)[:, 2:], place)
        flips = uniform(rng, (count,)) < self.args.flip_p
        # Cut, then resized, which is cheaper than resizing first.
        squares = crop_batch(images, boxes, (self.args.grid_side, self.args.grid_side), self.args.interpolation, flips)

        cells = torch.arange(_CELLS**2)
        corners = shifts + cell * torch.stack([cells % _CELLS, cells // _CELLS], dim=1)
        patches = parts_batch(squares, corners, side)
        around = [number for number in range(_CELLS**2) if number != _CENTRE]
        return Crops(
            [patches[:, around].flatten(0, 1), patches[:, _CENTRE].contiguous()],
            labels=torch.arange(len(around)).repeat(count),
        )

    def _squares(self, lengths: Tensor, place: Tensor) -> Tensor:
        """The boxes that become the squares with the grids.

        Args:
            lengths: width and height of the images, int64 [B, 2].
            place: float64 [B, 2] in [0, 1).

        Returns:
            int64 [B, 4], left, top, right, bottom (exclusive).
        """
        sides = torch.round(lengths.min(dim=1, keepdim=True).values.double() / self.args.resize).long().clamp(min=1)
        starts = (place * (lengths - sides + 1)).long()
        return torch.cat([starts, starts + sides], dim=1)

    def draw_colours(self, crops: Crops, rng: Generator) -> ColourParameters:
        """One draw of colour changes per image, for all of its patches."""
        changes = self.args.photometry
        return color_jitter.parameters([color_jitter.draw(len(crops.images[1]), changes[0], rng)], changes)

    def apply_colours(self, crops: Crops, parameters: ColourParameters, device: torch.device) -> Views:
        """The nine patches of an image are changed as one tall picture.

        If each patch turned grey on its own, a network could compare colours to tell pairs apart.
        """
        crops, (changes,) = crops.to(device), parameters.to(device).of_views()
        neighbours, centres = crops.images
        count, side = len(centres), self.args.patch_side
        nine = torch.cat([neighbours.view(count, -1, 3, side, side), centres[:, None]], dim=1)  # [B, 9, 3, p, p]
        tall = planar_unit(nine.transpose(1, 2).flatten(2, 3))  # [B, 3, 9p, p]
        tall = normalise(color_jitter.apply(tall, changes, self.args.photometry[0].blur_kernel))
        nine = tall.view(count, 3, -1, side, side).transpose(1, 2)
        images = [nine[:, :-1].flatten(0, 1), nine[:, -1]]
        return Views(
            [image.contiguous(memory_format=torch.channels_last) for image in images],
            labels=crops.labels,
        )
