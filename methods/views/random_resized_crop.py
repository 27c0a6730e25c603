"""Random-resized crops, the views of SimCLR, MoCo v2 and BYOL."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import RandomResizedCropArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import random_boxes, resample


class RandomResizedCrop(ViewMaker):
    """Each view: a box of `scale` to 1 of the image's area (arXiv:1409.4842), resized to a square, maybe flipped."""

    def __init__(self, args: RandomResizedCropArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view."""
        images = [self.source.image(i) for i in indices.tolist()]
        views = []
        for _ in self.args.photometry:
            views += self._flip(rng, random_crops(images, self.args, self.size, rng))
        return Crops(views)


def random_crops(images: list[Tensor], args: RandomResizedCropArgs, size: int, rng: Generator) -> Tensor:
    """One box of each uint8 [3, H, W] image, resized: uint8 [B, 3, size, size]."""
    whole = torch.tensor([[0, 0, image.shape[2], image.shape[1]] for image in images])
    boxes = random_boxes(whole, args.scale, args.ratio, rng).tolist()
    pairs = zip(images, boxes, strict=True)
    return torch.stack([resample(image, tuple(box), (size, size), args.interpolation) for image, box in pairs])
