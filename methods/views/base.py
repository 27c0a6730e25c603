"""What every kind of view shares: geometry on uint8 images first, then colour on the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from methods.args import ViewArgs
from methods.distributed import rank, share, world
from methods.views.batch import Crops, ImageSource, Views, normalise, to_unit
from methods.views.geometry import SharedGenerator, flipped, uniform
from methods.views.photometry import photometry


class ViewMaker(ABC):
    """Turns positions in a set of images into views. All randomness comes from the generator handed in."""

    def __init__(self, args: ViewArgs, source: ImageSource, size: int) -> None:
        self.view_args = args
        self.source = source
        self.size = size

    @abstractmethod
    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """Geometry: int64 [B] -> one uint8 batch per entry of `photometry`, with masks where the view has them."""

    def colours(self, crops: Crops, rng: Generator, device: torch.device) -> Views:
        """Colour changes and normalisation, on `device`. Masks are only brought to [0, 1]: no colour touches them."""
        images = [
            normalise(photometry(to_unit(crop.to(device)), change, rng))
            for crop, change in zip(crops.images, self.view_args.photometry, strict=True)
        ]
        return Views(
            [image.contiguous(memory_format=torch.channels_last) for image in images],
            None if crops.masks is None else [to_unit(mask.to(device)) for mask in crops.masks],
            None if crops.boxes is None else [boxes.to(device) for boxes in crops.boxes],
            None if crops.labels is None else crops.labels.to(device),
        )

    def __call__(self, indices: Tensor, rng: Generator, device: torch.device) -> Views:
        """Geometry, then colour."""
        return self.colours(self.crops(indices, rng), rng, device)

    def mine(self, indices: Tensor, rng: Generator, device: torch.device, by_row: bool = True) -> Views:
        """What this process has to see of the batch `indices`, int64 [B]: its rows of what one process would make.

        `by_row`: every random number comes from `uniform`, as in all views here, so that only these rows are made.
        Otherwise the whole batch is, and then cut: right whatever the view does, but W times the work.
        """
        if world() == 1:
            return self(indices, rng, device)
        if not by_row:
            return slice_views(self(indices, rng, device), rank(), world())
        return self(share(indices), SharedGenerator.of(rng, rank(), world()), device)

    def _flip(self, rng: Generator, *batches: Tensor) -> list[Tensor]:
        """Mirror image and mask of the same sample together."""
        which = uniform(rng, (batches[0].shape[0],)) < self.view_args.flip_p
        return [flipped(batch, which) for batch in batches]


def slice_views(views: Views, rank: int, world: int) -> Views:
    """What process `rank` of `world` sees of the views of a whole batch of B images, B a multiple of `world`.

    Every tensor of every kind of view lists the images one after the other, with the same number of rows for each: one
    row, or the four rotations or eight patches of an image together. So the share of the images is the same share of
    the rows of each tensor, labels included, and nothing of an image goes to another process.
    """

    def part(tensors: list[Tensor] | None) -> list[Tensor] | None:
        return None if tensors is None else [share(tensor, rank, world) for tensor in tensors]

    return Views(
        [share(images, rank, world) for images in views.images],
        part(views.masks),
        part(views.boxes),
        None if views.labels is None else share(views.labels, rank, world),
    )
