"""Random-resized crops that carry the saliency map of their image, for L_Align without Saliency Swap.

The images are bit for bit those of `random_resized_crop` with the same settings and random numbers, so that a row with
these views and alignment differs from the plain row by L_Align alone. The mask of a view is the saliency map under the
view's crop and flip. The ablation is ours; the paper has no such row.
"""

from __future__ import annotations

from torch import Generator, Tensor

from methods.attention_guided_args import CropWithMaskArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import uniform
from methods.views.random_resized_crop import image_boxes
from methods.views.resampling import crop_batch


class CropWithMask(ViewMaker):
    """Views with masks; see the module's docstring."""

    def __init__(self, args: CropWithMaskArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> per view uint8 images [B, 3, S, S] and masks [B, 1, S, S]."""
        positions = indices.tolist()
        images = [self.source.image(i) for i in positions]
        maps = [self.source.saliency(i) for i in positions]
        views = []
        for _ in self.args.photometry:
            boxes = image_boxes(images, self.args, rng)
            flips = uniform(rng, (len(images),)) < self.args.flip_p
            views.append(cut_with_masks(images, maps, boxes, flips, self.size, self.args.interpolation))
        return Crops([view for view, _ in views], [mask for _, mask in views])


def cut_with_masks(
    images: list[Tensor], maps: list[Tensor], boxes: Tensor, flips: Tensor, size: int, mode: str
) -> tuple[Tensor, Tensor]:
    """One view: the box of each image and of its map, resized and flipped together.

    Args:
        images: uint8 [3, H, W] each.
        maps: uint8 [1, H, W] each.
        boxes: int64 [B, 4], one per image.
        flips: bool [B].
        size: side of the view, S.
        mode: resampling of the images. Maps are resampled bilinearly: bicubic would overshoot them.

    Returns:
        uint8 [B, 3, S, S] and [B, 1, S, S].
    """
    square = (size, size)
    return crop_batch(images, boxes, square, mode, flips), crop_batch(maps, boxes, square, "bilinear", flips)
