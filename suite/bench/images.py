"""Random images in place of a dataset's, so that `suite bench` needs no data."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suite.bench.cases import ImageSizes
from suite.data.decoded.pixels import load_resized
from suite.training.schedule import generator

_DISTINCT = 64  # images in memory, which are repeated; 512 x 683 px: 67 MB
_JPEG_QUALITY = 92


class RandomImages:
    """As many images as a training split, of the dataset's sizes, with a saliency map in the middle.

    Pixels are smooth noise with grain, so that a JPEG of them is about as large as a photograph's. Images of a set that
    is decoded on demand are kept as JPEGs and decoded whenever they are read, as in training.

    Args:
        image_sizes: sizes, and whether images are decoded ahead.
        count: images that the split pretends to have.
        classes: labels are 0 to classes - 1, in turn.
    """

    def __init__(self, image_sizes: ImageSizes, count: int, classes: int = 1) -> None:
        self._count, self._decoded_ahead = count, image_sizes.decoded_ahead
        self.labels = torch.arange(count) % max(1, classes)
        pixels, files = _distinct(image_sizes, min(_DISTINCT, max(1, count)))
        self._maps = [_ellipse(height, width) for height, width, _ in (image.shape for image in pixels)]
        self._pixels, self._files = [] if files else pixels, files

    def __len__(self) -> int:
        return self._count

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        number = index % len(self._maps)
        if self._decoded_ahead:
            pixels = self._pixels[number]
        else:
            data, side = self._files[number]
            decoded, _ = load_resized(Path("random.jpg"), 0, side, data, checked=True)
            pixels = torch.from_numpy(np.array(decoded))
        return pixels.permute(2, 0, 1)

    def saliency(self, index: int) -> Tensor:
        """uint8 [1, H, W]: an ellipse with a soft edge."""
        return self._maps[index % len(self._maps)]

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive): the middle 60 % of both sides."""
        _, height, width = self._maps[index % len(self._maps)].shape
        return width // 5, height // 5, max(width // 5 + 1, 4 * width // 5), max(height // 5 + 1, 4 * height // 5)


@cache
def _distinct(image_sizes: ImageSizes, count: int) -> tuple[list[Tensor], list[tuple[bytes, int]]]:
    """Pixels of `count` images, uint8 [H, W, 3] each, and the JPEGs with their short sides where these are decoded."""
    rng = generator(0, "bench")
    indices = np.linspace(0, len(image_sizes.shapes) - 1, count).round().astype(int)
    pixels = [_noise(height, width, rng) for height, width in (image_sizes.shapes[number] for number in indices)]
    files = [] if image_sizes.decoded_ahead else [(_jpeg(image), min(image.shape[:2])) for image in pixels]
    return pixels, files


def _noise(height: int, width: int, rng: torch.Generator) -> Tensor:
    """uint8 [H, W, 3]."""
    coarse = torch.rand((1, 3, max(2, height // 32), max(2, width // 32)), generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0)
    grain = torch.randint(-12, 13, (height, width, 3), generator=rng)
    return (255 * smooth + grain).clamp(0, 255).to(torch.uint8).contiguous()


def _ellipse(height: int, width: int) -> Tensor:
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return (255 * torch.sigmoid(20 * (0.4 - x**2 - y**2))).to(torch.uint8)[None]


def _jpeg(pixels: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()
