"""Multi-crop views (SwAV, Caron et al. 2020, arXiv:2006.09882, section 3.3), as DINO uses them.

Two global crops of the network's input size show much of an image, several local crops of a smaller size show little.
A network without a fixed input size takes both; local crops cost a fraction of a global one.
"""

from __future__ import annotations

from torch import Generator, Tensor

from methods.multi_crop_args import MultiCropArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import random_boxes, uniform, whole_boxes
from methods.views.resampling import crop_batch


class MultiCrop(ViewMaker):
    """Views 1 and 2 are the global crops, all others the local ones. Each box is drawn on its own."""

    def __init__(self, args: MultiCropArgs, source: ImageSource, size: int) -> None:
        first, second, local = args.photometry
        per_view = (first, second, *[local] * args.local_crops)
        super().__init__(args.model_copy(update={"photometry": per_view}), source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> two global crops uint8 [B, 3, S, S], then local ones [B, 3, s, s]."""
        images = [self.source.image(i) for i in indices.tolist()]
        large = [self._crops(images, self.args.global_scale, self.size, rng) for _ in range(2)]
        small = [
            self._crops(images, self.args.local_scale, self.args.local_size, rng) for _ in range(self.args.local_crops)
        ]
        return Crops(large + small)

    def _crops(self, images: list[Tensor], scale: tuple[float, float], size: int, rng: Generator) -> Tensor:
        """One box of each uint8 [3, H, W] image, resized and maybe flipped: uint8 [B, 3, size, size]."""
        boxes = random_boxes(whole_boxes(images), scale[0], self.args.ratio, rng, largest=scale[1])
        flips = uniform(rng, (len(images),)) < self.args.flip_p
        return crop_batch(images, boxes, (size, size), self.args.interpolation, flips)
