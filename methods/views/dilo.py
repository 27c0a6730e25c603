"""DiLo's views: random-resized crops of images, some composited onto grey (Zhao et al. 2021, arXiv:2004.06638).

With probability `composite_p` the image is composited onto one random level of grey before it is cropped. The saliency
map a in [0, 1] is its opacity: a * image + (1 - a) * level. In a share `blur_p` of these the map is blurred first,
which softens the silhouette. The views draw independently of each other, and the objective's loss does not change. The
official code builds on MoCo; with BYOL this is the baseline BYOL+DiLo.

Only the part of the image inside the crop is composited and only that part of the map, with the kernel's reach around
it, is blurred. The pixels are those of the whole composite, except for the rounding of the blur (at most 1 of 255).

Differs from the official code in the blur's width, which is relative to the image's size (5 px there), and in that
the blur is a true Gaussian, which Pillow approximates by three box blurs.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from methods.args import DiloArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import uniform, whole_boxes
from methods.views.random_resized_crop import Box, image_boxes
from methods.views.resampling import compiled, crop_batch

_NO_MAP = torch.zeros((1, 1, 1), dtype=torch.uint8)


class Dilo(ViewMaker):
    """Random-resized crops of images with or without their background; see the module's docstring."""

    def __init__(self, args: DiloArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view."""
        positions = indices.tolist()
        images = [self.source.image(i) for i in positions]
        return Crops([self._view(positions, images, rng) for _ in self.args.photometry])

    def _view(self, indices: list[int], images: list[Tensor], rng: Generator) -> Tensor:
        """One view of every image: uint8 [B, 3, S, S]."""
        args, count = self.args, len(images)
        chance = uniform(rng, (count, 2))
        levels = (uniform(rng, (count,)) * 256).long()
        composited = chance[:, 0] < args.composite_p
        blurs = torch.where(chance[:, 1] < args.blur_p, args.blur_sigma, 0.0)
        boxes = image_boxes(images, args, rng)
        flips = uniform(rng, (count,)) < args.flip_p
        maps = [
            self.source.saliency(index) if chosen else _NO_MAP
            for index, chosen in zip(indices, composited.tolist(), strict=True)
        ]
        pictures = composites(images, maps, boxes, composited, blurs, levels)
        return crop_batch(pictures, whole_boxes(pictures), (self.size, self.size), args.interpolation, flips)


def cut(image: Tensor, box: Box) -> Tensor:
    """The part of a [C, H, W] image inside `box`, without a copy."""
    left, top, right, bottom = box
    return image[:, top:bottom, left:right]


def opacity(saliency: Tensor, box: Box, sigma: float | None) -> Tensor:
    """The map uint8 [1, H, W], blurred by `sigma` pixels if given, inside `box`: float32 [1, h, w] in [0, 1]."""
    if sigma is None:
        return cut(saliency, box).to(torch.float32) / 255
    reach, (left, top, right, bottom) = _reach(sigma), box
    x0, y0 = max(0, left - reach), max(0, top - reach)
    around = saliency[:, y0 : bottom + reach, x0 : right + reach].to(torch.float32) / 255
    return cut(blurred(around, sigma), (left - x0, top - y0, right - x0, bottom - y0))


def composite(image: Tensor, alpha: Tensor, level: int) -> Tensor:
    """Composite an image onto grey.

    Args:
        image: uint8 [3, h, w].
        alpha: opacity, float [1, h, w] in [0, 1].
        level: of the grey, 0..255.

    Returns:
        uint8 [3, h, w], stored as rows of pixels.
    """
    pixels = image.permute(1, 2, 0).to(alpha.dtype)  # [h, w, 3]
    weight = alpha[0, :, :, None].expand_as(pixels).contiguous()  # broadcasting it would cost twice the time
    background = torch.full((), level, dtype=alpha.dtype).expand_as(pixels).contiguous()
    return torch.lerp(background, pixels, weight).round_().to(torch.uint8).permute(2, 0, 1)


def blurred(alpha: Tensor, sigma: float) -> Tensor:
    """A float [1, H, W] map under a Gaussian of `sigma` pixels; beyond its borders it continues as at the border.

    Computed as two matrix products, V alpha H, with banded matrices that hold the kernel: torch's convolution of a
    single channel takes twice as long.
    """
    reach = _reach(sigma)
    x = torch.arange(-reach, reach + 1, dtype=alpha.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    wide = pad(alpha[None], (reach, reach, reach, reach), mode="replicate")[0, 0]
    height, width = alpha.shape[1:]
    return (_banded(kernel, height) @ wide @ _banded(kernel, width).T)[None].clamp(0, 1)


def _reach(sigma: float) -> int:
    """Pixels from the kernel's centre to its end, four standard deviations: beyond lies 6e-5 of its weight."""
    return max(1, math.ceil(4 * sigma))


def _banded(kernel: Tensor, length: int) -> Tensor:
    """[length, length + k - 1] with the kernel [k] shifted by one column per row."""
    columns = length + len(kernel) - 1
    matrix = torch.zeros(length, columns, dtype=kernel.dtype)
    matrix.as_strided((length, len(kernel)), (columns + 1, 1)).copy_(kernel.expand(length, -1))
    return matrix


@compiled
def composites(
    images: list[Tensor], maps: list[Tensor], boxes: Tensor, chosen: Tensor, blurs: Tensor, levels: Tensor
) -> list[Tensor]:
    """What the crops show: the box of every image, `chosen` ones composited onto grey.

    Args:
        images: uint8 [3, H, W] each.
        maps: uint8 [1, H, W] each; read where `chosen`.
        boxes: int64 [B, 4].
        chosen: bool [B].
        blurs: float64 [B], the blur's standard deviation as a share of the image's short side; 0: none.
        levels: int64 [B], of the grey, 0..255.

    Returns:
        uint8 [3, h, w] each.
    """
    all_boxes: list[list[int]] = boxes.tolist()
    all_chosen: list[bool] = chosen.tolist()
    all_blurs: list[float] = blurs.tolist()
    all_levels: list[int] = levels.tolist()
    pictures: list[Tensor] = []
    for i in range(len(images)):
        box = (all_boxes[i][0], all_boxes[i][1], all_boxes[i][2], all_boxes[i][3])
        picture = cut(images[i], box)
        if all_chosen[i]:
            sigma: float | None = None
            if all_blurs[i] > 0:
                sigma = all_blurs[i] * min(images[i].size(1), images[i].size(2))
            picture = composite(picture, opacity(maps[i], box, sigma), all_levels[i])
        pictures.append(picture)
    return pictures
