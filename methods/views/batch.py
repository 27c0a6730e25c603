"""Data types of the views: decoded images in, crops between geometry and colour, and batches out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

# ImageNet statistics, the convention of every method compared here (He et al. 2016).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageSource(Protocol):
    """Decoded training images by position. Views depend on this protocol only, not on a file format.

    Background loaders call it from several threads at once.
    """

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
    """Views after the geometric changes and before the colour changes."""

    images: list[Tensor]  # per view, uint8 [B, 3, S, S], in any memory format
    masks: list[Tensor] | None = None  # per view, uint8 [B, 1, S, S]
    boxes: list[Tensor] | None = None  # per view, float32 [B, 4], left, top, right, bottom in pixels of the view
    labels: Tensor | None = None  # int64 [B'], where the pretext task has labels

    def pin_memory(self) -> Crops:
        """A copy in page-locked memory, from which `to(device, non_blocking=True)` does not block. Needs CUDA."""
        return Crops(
            [images.pin_memory() for images in self.images],
            None if self.masks is None else [masks.pin_memory() for masks in self.masks],
            None if self.boxes is None else [boxes.pin_memory() for boxes in self.boxes],
            None if self.labels is None else self.labels.pin_memory(),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> Crops:
        """The same crops on `device`, one copy per tensor. Tensors that are there already are not copied."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return Crops(
            [move(images) for images in self.images],
            None if self.masks is None else [move(masks) for masks in self.masks],
            None if self.boxes is None else [move(boxes) for boxes in self.boxes],
            None if self.labels is None else move(self.labels),
        )


class Boxes:
    """The boxes of a batch, one tensor [B, 4] per view, kept in single precision.

    Mixed precision casts every floating-point tensor that it finds in a batch, and bfloat16 rounds 201.37 px to 201 px.
    It looks into lists, mappings and dataclasses; this class is none of them.
    """

    def __init__(self, views: Iterable[Tensor]) -> None:
        self._views = tuple(views)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, view: int) -> Tensor:
        return self._views[view]


@dataclass(slots=True)
class Views:
    """One batch as an objective receives it."""

    images: list[Tensor]  # per view, float32 [B, 3, S, S], normalised
    masks: list[Tensor] | None = None  # per view, float32 [B, 1, S, S] in [0, 1]
    boxes: Boxes | list[Tensor] | None = None  # as in Crops; a list becomes `Boxes`
    labels: Tensor | None = None  # as in Crops

    def __post_init__(self) -> None:
        if isinstance(self.boxes, list):
            self.boxes = Boxes(self.boxes)


@cache
def _statistics(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, [1, 3, 1, 1] each: copied to a device once, since every such copy blocks."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used outside of it
        mean, std = (torch.tensor(values, dtype=dtype).view(1, 3, 1, 1).to(device) for values in (MEAN, STD))
    return mean, std


def normalise(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] -> the same shape, standardised with ImageNet's mean and standard deviation."""
    mean, std = _statistics(images.device, images.dtype)
    return (images - mean) / std


def denormalised(images: Tensor) -> Tensor:
    """The inverse of `normalise`, for display: uint8."""
    mean, std = _statistics(images.device, images.dtype)
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def to_unit(images: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> float32 in [0, 1]."""
    return images.to(torch.float32) / 255
