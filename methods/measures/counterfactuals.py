"""Test images with their object or their background exchanged, after Xiao et al. 2020 ("Noise or Signal",
arXiv:2006.09994, section 2), the Backgrounds Challenge.

original         as it is
foreground       the object on black (Only-FG)
background_only  the object's box filled from the background (Only-BG-T; with the fill `mean`, near to Only-BG-B)
mixed_same       the object, at its place, on such a background of another image of its class (Mixed-Same)
mixed_rand       the same on a background of an image of another class (Mixed-Rand)

The object is what a saliency map says it is: the pixels above a threshold, inside the map's salient box. Differs from
the paper: there GrabCut inside annotated boxes cut out the objects; all images had one size, here the background is
fitted to cover the image; the class of Mixed-Rand was drawn from all classes, here never the image's own; images whose
map gives no box have no background to speak of and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from methods.views.batch import ImageSource
from methods.views.resampling import resample

CounterfactualKind = Literal["original", "foreground", "background_only", "mixed_same", "mixed_rand"]
COUNTERFACTUAL_KINDS: tuple[CounterfactualKind, ...] = get_args(CounterfactualKind)
Fill = Literal["tile", "mean"]
_Box = tuple[int, int, int, int]  # left, top, right, bottom (exclusive)


class Counterfactuals:
    """Those images of a source that have an object and a background, each of them also exchanged.

    Args:
        source: test images with their saliency maps.
        labels: int64 [N], the images' classes.
        threshold: share of the map's maximum from which on a pixel is object.
        fill: what takes the object's place in a background.
        seed: of the draw whose background each image gets.
    """

    def __init__(self, source: ImageSource, labels: Tensor, threshold: float, fill: Fill, seed: int) -> None:
        self._source, self._threshold = source, threshold
        self._fill = _FILLS[fill]
        self.positions = [index for index in range(len(source)) if not _covers(source, index)]
        self.labels = labels[self.positions]
        rng = torch.Generator().manual_seed(seed)
        self.partners = {
            "mixed_same": _draw_partners(self.labels, rng, own_class=True),
            "mixed_rand": _draw_partners(self.labels, rng, own_class=False),
        }

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def without_partner(self) -> int:
        """Number of images without another image of their class; in mixed_same they keep their filled background."""
        return sum(partner == index for index, partner in enumerate(self.partners["mixed_same"]))

    def make(self, index: int, kind: CounterfactualKind) -> Tensor:
        """uint8 [3, H, W], of the original's size."""
        image = self._source.image(self.positions[index])
        if kind == "original":
            return image
        if kind == "background_only":
            return self._background(index)
        if kind == "foreground":
            return torch.where(self.mask(index), image, 0)
        behind = cover(self._background(self.partners[kind][index]), (image.shape[1], image.shape[2]))
        return torch.where(self.mask(index), image, behind)

    def mask(self, index: int) -> Tensor:
        """bool [1, H, W]: what is object."""
        position = self.positions[index]
        saliency = self._source.saliency(position)
        left, top, right, bottom = self._source.salient_box(position)
        inside = torch.zeros_like(saliency, dtype=torch.bool)
        inside[:, top:bottom, left:right] = True
        return inside & (saliency >= self._threshold * int(saliency.max()))

    def _background(self, index: int) -> Tensor:
        position = self.positions[index]
        return self._fill(self._source.image(position), self._source.salient_box(position))


class CounterfactualsOfKind:
    """Counterfactuals of one kind; satisfies `suite.training.evaluation.EvaluationImages`."""

    def __init__(self, all_kinds: Counterfactuals, kind: CounterfactualKind) -> None:
        self._make, self._kind, self._length = all_kinds.make, kind, len(all_kinds)

    def __len__(self) -> int:
        return self._length

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        return self._make(index, self._kind)


def tile_box(image: Tensor, box: _Box) -> Tensor:
    """A copy of the image [3, H, W] whose box is filled by repeating the largest strip of background beside it: all
    that is left of it, right of it, above or below. The box must leave one of them."""
    left, top, right, bottom = box
    height, width = image.shape[1:]
    rows, columns = torch.arange(top, bottom), torch.arange(left, right)
    wide, high = right - left, bottom - top
    strips = [  # pixels, and the row and column each pixel of the box is taken from
        (left * height, rows, torch.arange(wide) % max(left, 1)),
        ((width - right) * height, rows, right + torch.arange(wide) % max(width - right, 1)),
        (top * width, torch.arange(high) % max(top, 1), columns),
        ((height - bottom) * width, bottom + torch.arange(high) % max(height - bottom, 1), columns),
    ]
    _, from_rows, from_columns = max(strips, key=lambda strip: strip[0])
    filled = image.clone()
    filled[:, top:bottom, left:right] = image[:, from_rows[:, None], from_columns]
    return filled


def mean_box(image: Tensor, box: _Box) -> Tensor:
    """A copy of the image [3, H, W] whose box has the mean colour of what is outside of it."""
    left, top, right, bottom = box
    outside = torch.ones(image.shape[1:], dtype=torch.bool)
    outside[top:bottom, left:right] = False
    filled = image.clone()
    filled[:, top:bottom, left:right] = image[:, outside].double().mean(dim=1).round().to(image.dtype)[:, None, None]
    return filled


_FILLS: dict[Fill, Callable[[Tensor, _Box], Tensor]] = {"tile": tile_box, "mean": mean_box}


def cover(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest central part of uint8 [3, H, W] with the aspect ratio of `size`, resized to uint8 [3, *size]."""
    height, width = image.shape[1:]
    scale = min(height / size[0], width / size[1])
    high, wide = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    left, top = (width - wide) // 2, (height - high) // 2
    return resample(image, (left, top, left + wide, top + high), size, "bilinear")


def _covers(source: ImageSource, index: int) -> bool:
    """Whether the salient box is the whole image: the map gave none."""
    height, width = source.image(index).shape[1:]
    return tuple(source.salient_box(index)) == (0, 0, width, height)


def _draw_partners(labels: Tensor, rng: torch.Generator, own_class: bool) -> list[int]:
    """For each image another one of its class, or one of another class, drawn evenly; itself where there is none."""
    partners = []
    for index, label in enumerate(labels.tolist()):
        able = ((labels == label) == own_class).nonzero()[:, 0]
        able = able[able != index]
        drawn = int(torch.randint(max(len(able), 1), (), generator=rng))
        partners.append(int(able[drawn]) if len(able) else index)
    return partners
