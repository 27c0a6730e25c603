"""Random-resized crops, the views of SimCLR, MoCo v2 and BYOL."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import RandomResizedCropArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import mirror_where, random_boxes, resample_row, uniform

Box = tuple[int, int, int, int]


class RandomResizedCrop(ViewMaker):
    """Each view: a box of `scale` to 1 of the image's area (arXiv:1409.4842), resized to a square, maybe flipped."""

    def __init__(self, args: RandomResizedCropArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view."""
        images = [self.source.image(i) for i in indices.tolist()]
        return Crops([torch.cat(random_crops(images, self.args, self.size, rng)) for _ in self.args.photometry])


def random_crops(images: list[Tensor], args: RandomResizedCropArgs, size: int, rng: Generator) -> list[Tensor]:
    """One box of each uint8 [3, H, W] image, resized and maybe flipped: uint8 [1, 3, size, size] each."""
    boxes = image_boxes(images, args, rng)
    which = uniform(rng, (len(images),)) < args.flip_p
    square = (size, size)
    rows = [resample_row(image, box, square, args.interpolation) for image, box in zip(images, boxes, strict=True)]
    return mirror_where(rows, which)


def image_boxes(images: list[Tensor], args: RandomResizedCropArgs, rng: Generator) -> list[Box]:
    """One box inside each [C, H, W] image: left, top, right, bottom (exclusive)."""
    whole = torch.tensor([[0, 0, image.shape[2], image.shape[1]] for image in images])
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in random_boxes(whole, args.scale, args.ratio, rng).tolist()]
