"""What goes into a view (images on disk, decoded) and what comes out (a batch for the objective)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# ImageNet statistics, the convention of every method compared here (He et al. 2016).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageSource(Protocol):
    """Decoded training images by position. Views depend on this alone, not on any file format."""

    def __len__(self) -> int:
        """Number of images."""

    def image(self, index: int) -> Tensor:
        """Image as uint8 [3, H, W]; H and W differ between images."""

    def saliency(self, index: int) -> Tensor:
        """Saliency map of that image as uint8 [1, H, W]."""

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive) of the salient region, in pixels of that image; never empty."""


@dataclass(slots=True)
class Crops:
    """Views after geometry and before colour: what a loader process hands over."""

    images: list[Tensor]  # per view, uint8 [B, 3, S, S]
    masks: list[Tensor] | None = None  # per view, uint8 [B, 1, S, S]
    boxes: list[Tensor] | None = None  # per view, float32 [B, 4], left, top, right, bottom in pixels of the view
    labels: Tensor | None = None  # int64 [B'], where the pretext task has labels


@dataclass(slots=True)
class Views:
    """What an objective sees."""

    images: list[Tensor]  # per view, float32 [B, 3, S, S], normalised
    masks: list[Tensor] | None = None  # per view, float32 [B, 1, S, S] in [0, 1]
    boxes: list[Tensor] | None = None  # as in Crops
    labels: Tensor | None = None  # as in Crops


def normalise(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] -> the same, with ImageNet's mean and standard deviation removed."""
    mean = images.new_tensor(MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(STD).view(1, 3, 1, 1)
    return (images - mean) / std


def denormalised(images: Tensor) -> Tensor:
    """The inverse of `normalise`, for looking at: uint8."""
    mean = images.new_tensor(MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(STD).view(1, 3, 1, 1)
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def to_unit(images: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> float32 in [0, 1]."""
    return images.to(torch.float32) / 255
