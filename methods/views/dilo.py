"""DiLo's views: now and then the object on plain grey (Zhao et al. 2021, arXiv:2004.06638).

Before a view's ordinary crop, with probability `composite_p`, the whole image is laid over one random level of grey,
the saliency map being its opacity: a * image + (1 - a) * level, with a soft. In some of these, with probability
`blur_p`, the map is blurred first, which softens the silhouette. The views draw independently of each other, and the
loss stays what it was. The official code is MoCo's; in front of BYOL's crops this is the baseline BYOL+DiLo.

Differs from the official code in the blur's width, which follows the image's size (there 5 px whatever the size), and
in being a true Gaussian, which Pillow approximates by three box blurs.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, pad

from methods.args import DiloArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import uniform
from methods.views.random_resized_crop import random_crops

_REACH = 4  # standard deviations; beyond lies 6e-5 of the kernel's weight


class Dilo(ViewMaker):
    """Random-resized crops of images that may have lost their background; see the module's text."""

    def __init__(self, args: DiloArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view."""
        rows = indices.tolist()
        images = [self.source.image(i) for i in rows]
        views = []
        for _ in self.args.photometry:
            views += self._flip(rng, random_crops(self._composed(rows, images, rng), self.args, self.size, rng))
        return Crops(views)

    def _composed(self, indices: list[int], images: list[Tensor], rng: Generator) -> list[Tensor]:
        """The images as one view sees them: uint8 [3, H, W] each, most of them untouched."""
        chance = uniform(rng, (len(images), 2))
        levels = (uniform(rng, (len(images),)) * 256).long().tolist()
        softened = (chance[:, 1] < self.args.blur_p).tolist()
        composed = list(images)
        for row in (chance[:, 0] < self.args.composite_p).nonzero()[:, 0].tolist():
            alpha = self.source.saliency(indices[row]).to(torch.float32) / 255
            if softened[row]:
                alpha = blurred(alpha, self.args.blur_sigma * min(alpha.shape[1:]))
            composed[row] = composite(images[row], alpha, levels[row])
        return composed


def composite(image: Tensor, alpha: Tensor, level: int) -> Tensor:
    """uint8 [3, H, W] over a uniform grey `level` of 0..255, with opacity `alpha` [1, H, W] in [0, 1] -> uint8."""
    return torch.lerp(torch.full_like(alpha, level), image.to(alpha.dtype), alpha).round_().to(torch.uint8)


def blurred(alpha: Tensor, sigma: float) -> Tensor:
    """A float [1, H, W] map under a Gaussian of `sigma` pixels; beyond its borders it continues as at the border."""
    reach = max(1, math.ceil(_REACH * sigma))
    x = torch.arange(-reach, reach + 1, dtype=alpha.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    wide = pad(alpha[None], (reach, reach, reach, reach), mode="replicate")
    return conv2d(conv2d(wide, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0].clamp(0, 1)
