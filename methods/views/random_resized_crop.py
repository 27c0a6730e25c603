"""Random-resized crops, the views of SimCLR, MoCo v2 and BYOL."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import RandomResizedCropArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import random_boxes, resample


class RandomResizedCrop(ViewMaker):
    """Each view: a box of `scale` to 1 of the image's area (arXiv:1409.4842), resized to a square, flipped at random."""

    def __init__(self, args: RandomResizedCropArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view."""
        images = [self.source.image(i) for i in indices.tolist()]
        whole = torch.tensor([[0, 0, image.shape[2], image.shape[1]] for image in images])
        views = []
        for _ in self.args.photometry:
            boxes = random_boxes(whole, self.args.scale, self.args.ratio, rng).tolist()
            square = (self.size, self.size)
            batch = torch.stack(
                [
                    resample(image, tuple(box), square, self.args.interpolation)
                    for image, box in zip(images, boxes, strict=True)
                ]
            )
            views += self._flip(rng, batch)
        return Crops(views)
