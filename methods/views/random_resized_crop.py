"""Random-resized crops, the views of SimCLR, MoCo v2 and BYOL."""

from __future__ import annotations

from torch import Generator, Tensor

from methods.args import RandomResizedCropArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import random_boxes, uniform, whole_boxes
from methods.views.resampling import crop_batch

Box = tuple[int, int, int, int]


class RandomResizedCrop(ViewMaker):
    """Each view: a box of `scale` to 1 of the image's area (arXiv:1409.4842), resized to a square, maybe flipped."""

    def __init__(self, args: RandomResizedCropArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view."""
        images = [self.source.image(i) for i in indices.tolist()]
        return Crops([random_crops(images, self.args, self.size, rng) for _ in self.args.photometry])


def random_crops(images: list[Tensor], args: RandomResizedCropArgs, size: int, rng: Generator) -> Tensor:
    """One box of each uint8 [3, H, W] image, resized and maybe flipped: uint8 [B, 3, size, size]."""
    boxes = image_boxes(images, args, rng)
    flips = uniform(rng, (len(images),)) < args.flip_p
    return crop_batch(images, boxes, (size, size), args.interpolation, flips)


def image_boxes(images: list[Tensor], args: RandomResizedCropArgs, rng: Generator) -> Tensor:
    """One box inside each [C, H, W] image: int64 [B, 4], left, top, right, bottom (exclusive)."""
    return random_boxes(whole_boxes(images), args.scale, args.ratio, rng)
