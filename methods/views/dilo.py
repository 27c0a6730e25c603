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
from methods.views.geometry import mirror_where, resample_row, uniform
from methods.views.random_resized_crop import Box, image_boxes

_REACH = 4  # standard deviations; beyond lies 6e-5 of the kernel's weight


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
        args, count, square = self.args, len(images), (self.size, self.size)
        chance = uniform(rng, (count, 2))
        levels = (uniform(rng, (count,)) * 256).long().tolist()
        composited = (chance[:, 0] < args.composite_p).tolist()
        softened = (chance[:, 1] < args.blur_p).tolist()
        boxes = image_boxes(images, args, rng)
        flips = uniform(rng, (count,)) < args.flip_p
        rows = []
        for row, (image, box) in enumerate(zip(images, boxes, strict=True)):
            picture = cut(image, box)
            if composited[row]:
                sigma = args.blur_sigma * min(image.shape[1:]) if softened[row] else None
                picture = composite(picture, opacity(self.source.saliency(indices[row]), box, sigma), levels[row])
            whole = (0, 0, picture.shape[2], picture.shape[1])
            rows.append(resample_row(picture, whole, square, args.interpolation))
        return torch.cat(mirror_where(rows, flips))


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
    """Pixels from the kernel's centre to its end."""
    return max(1, math.ceil(_REACH * sigma))


def _banded(kernel: Tensor, length: int) -> Tensor:
    """[length, length + k - 1] with the kernel [k] shifted by one column per row."""
    columns = length + len(kernel) - 1
    matrix = torch.zeros(length, columns, dtype=kernel.dtype)
    matrix.as_strided((length, len(kernel)), (columns + 1, 1)).copy_(kernel.expand(length, -1))
    return matrix
