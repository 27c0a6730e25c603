"""Patches on a 3 x 3 grid, the view of Rel-Loc (arXiv:1505.05192, in the form of openmixup and mmselfsup).

The image is resized, a square cut from it at random, and made grey with some probability; the square has 3 x 3 cells,
and a patch smaller than a cell is taken at a random place in each. Patches of neighbouring cells so never overlap,
and where lines and textures meet them changes from draw to draw; without that jitter the network would match edges
across the gap. Grey images are there against chromatic aberration, which otherwise shows where in a photograph a
patch was.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import PatchesArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource, Views, normalise, to_unit
from methods.views.geometry import resample, uniform
from methods.views.photometry import photometry

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
        place = uniform(rng, (count, 2)).tolist()
        shifts = (uniform(rng, (count, _CELLS**2, 2)) * (cell - side + 1)).long().tolist()
        squares = torch.stack([self._square(i, x, y) for i, (x, y) in zip(indices.tolist(), place, strict=True)])
        (squares,) = self._flip(rng, squares)

        patches = squares.new_empty(count, _CELLS**2, 3, side, side)
        for row in range(count):
            for number, (dx, dy) in enumerate(shifts[row]):
                top, left = number // _CELLS * cell + dy, number % _CELLS * cell + dx
                patches[row, number] = squares[row, :, top : top + side, left : left + side]
        around = [number for number in range(_CELLS**2) if number != _CENTRE]
        return Crops(
            [patches[:, around].flatten(0, 1), patches[:, _CENTRE].contiguous()],
            labels=torch.arange(len(around)).repeat(count),
        )

    def _square(self, index: int, x: float, y: float) -> Tensor:
        """The grid, uint8 [3, g, g]. Cutting from the stored image and resizing is resizing first, but cheaper."""
        image = self.source.image(index)
        height, width = image.shape[1:]
        side = max(1, round(min(height, width) / self.args.resize))
        left, top = int(x * (width - side + 1)), int(y * (height - side + 1))
        square = (self.args.grid_side, self.args.grid_side)
        return resample(image, (left, top, left + side, top + side), square, self.args.interpolation)

    def colours(self, crops: Crops, rng: Generator, device: torch.device) -> Views:
        """One draw of colour changes per image: its nine patches are changed as one tall picture.

        Were each patch grey on its own, colour would tell which pairs to compare.
        """
        neighbours, centres = (images.to(device) for images in crops.images)
        count, side = len(centres), self.args.patch_side
        nine = torch.cat([neighbours.view(count, -1, 3, side, side), centres[:, None]], dim=1)  # [B, 9, 3, p, p]
        tall = nine.transpose(1, 2).flatten(2, 3)  # [B, 3, 9p, p]
        tall = normalise(photometry(to_unit(tall), self.args.photometry[0], rng))
        nine = tall.view(count, 3, -1, side, side).transpose(1, 2)
        images = [nine[:, :-1].flatten(0, 1), nine[:, -1]]
        return Views(
            [image.contiguous(memory_format=torch.channels_last) for image in images],
            labels=None if crops.labels is None else crops.labels.to(device),
        )
