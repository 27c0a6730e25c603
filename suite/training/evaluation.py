"""What every protocol shares when it measures: which pixels, and how correct answers become a percentage."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from methods.views.geometry import resample
from suite.data.decoded.split import Part, SplitSource, held_out
from suite.training.schedule import generator


def held_out_parts(source: SplitSource, share: float, seed: int) -> tuple[Part, Part]:
    """What to train on and what to choose on: the same `share` of every class whatever is trained or measured."""
    fit_on, choose_on = held_out(source.labels, share, generator(seed, "held-out"))
    return Part(source, fit_on), Part(source, choose_on)


class Pictures(Protocol):
    """All that evaluation reads of a split."""

    def __len__(self) -> int:
        """Number of images."""

    def image(self, index: int) -> Tensor:
        """Image as uint8 [3, H, W]; H and W differ between images."""


def centre_crops(source: Pictures, size: int, eval_resize: float) -> Tensor:
    """Every image's central square, uint8 [N, 3, size, size].

    The same picture as resizing the short side to size x eval_resize and cutting out the centre, in one resampling.
    """
    crops = []
    for index in range(len(source)):
        image = source.image(index)
        height, width = image.shape[1:]
        side = max(1, round(min(height, width) / eval_resize))
        left, top = (width - side) // 2, (height - side) // 2
        crops.append(resample(image, (left, top, left + side, top + side), (size, size), "bilinear"))
    return torch.stack(crops)


def percent(predicted: Tensor, labels: Tensor) -> float:
    """Top-1: 100 x correct / N."""
    return 100 * int((predicted == labels).sum()) / len(labels)
