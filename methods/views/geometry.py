"""Random numbers and crop boxes shared by the views, drawn for a whole batch at once; and the square of evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from methods.distributed import shard
from methods.views.resampling import compiled

_TRIES = 10  # as torchvision's RandomResizedCrop


class SharedGenerator(Generator):
    """Generator of one of W processes: `uniform` draws for the whole batch and returns the rows of this process.

    So the views of W processes are together, bit for bit, those that one process makes of the whole batch.
    """

    rank: int
    world: int

    @classmethod
    def of(cls, rng: Generator, rank: int, world: int) -> SharedGenerator:
        """Generator in the state of `rng`, for process `rank` of `world`."""
        shared = cls()
        shared.set_state(rng.get_state())
        shared.rank, shared.world = rank, world
        return shared


def uniform(
    rng: Generator,
    shape: tuple[int, ...],
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Values in [low, high); the first axis is the image's. All random numbers of the views come from here."""
    if isinstance(rng, SharedGenerator):
        whole = torch.rand((rng.world * shape[0], *shape[1:]), generator=rng, dtype=dtype)
        return low + (high - low) * shard(whole, rng.rank, rng.world)
    return low + (high - low) * torch.rand(shape, generator=rng, dtype=dtype)


@compiled
def whole_boxes(images: list[Tensor]) -> Tensor:
    """The boxes of whole [C, H, W] images: int64 [B, 4], left, top, right, bottom (exclusive)."""
    boxes: list[list[int]] = []
    for image in images:
        boxes.append([0, 0, image.size(2), image.size(1)])
    return torch.tensor(boxes)


def random_boxes(
    regions: Tensor, scale: float, ratio: tuple[float, float], rng: Generator, largest: float = 1.0
) -> Tensor:
    """One random-resized-crop box inside each region, distributed as torchvision's RandomResizedCrop draws them.

    Args:
        regions: int64 [B, 4], left, top, right, bottom (exclusive).
        scale: smallest area as a share of the region.
        ratio: smallest and largest width / height, drawn log-uniformly.
        rng: CPU generator; the amount drawn does not depend on the regions.
        largest: largest area as a share of the region.

    Returns:
        int64 [B, 4] inside the regions, at least one pixel wide and high. A region in which none of 10 draws fits
        gives the largest centred box whose ratio is within bounds.
    """
    batch = regions.shape[0]
    width, height = regions[:, 2] - regions[:, 0], regions[:, 3] - regions[:, 1]  # [B]
    area = (width * height)[:, None] * uniform(rng, (batch, _TRIES), scale, largest)
    low, high = torch.log(torch.tensor(ratio, dtype=torch.float64)).tolist()
    aspect = torch.exp(uniform(rng, (batch, _TRIES), low, high))
    place = uniform(rng, (batch, 2))

    w = torch.round(torch.sqrt(area * aspect)).long()  # [B, tries]
    h = torch.round(torch.sqrt(area / aspect)).long()
    fits = (w >= 1) & (h >= 1) & (w <= width[:, None]) & (h <= height[:, None])
    first = fits.long().argmax(dim=1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]

    # Fallback: the whole region, narrowed to the nearest permitted ratio.
    wide = width.double() / height > ratio[1]
    narrow = width.double() / height < ratio[0]
    fallback_w = torch.where(wide, torch.round(height * ratio[1]).long(), width)
    fallback_h = torch.where(narrow, torch.round(width / ratio[0]).long(), height)
    any_fits = fits.any(dim=1)
    w = torch.where(any_fits, w, fallback_w).clamp(min=1)
    h = torch.where(any_fits, h, fallback_h).clamp(min=1)

    free_x, free_y = width - w, height - h
    offset_x = torch.where(any_fits, (place[:, 0] * (free_x + 1)).long(), free_x // 2)
    offset_y = torch.where(any_fits, (place[:, 1] * (free_y + 1)).long(), free_y // 2)
    left, top = regions[:, 0] + offset_x, regions[:, 1] + offset_y
    return torch.stack([left, top, left + w, top + h], dim=1)


def central_square(shape: Sequence[int], eval_resize: float) -> tuple[int, int, int, int]:
    """What evaluation sees of an image of `shape` (height, width): left, top, right, bottom (exclusive).

    The same region as resizing the short side to size x eval_resize and cutting out the central size x size pixels.
    """
    height, width = shape
    side = max(1, round(min(height, width) / eval_resize))
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def mirrored(boxes: Tensor, size: int) -> Tensor:
    """Boxes [B, 4] after a left-right flip of their views."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack([size - right, top, size - left, bottom], dim=1)
