"""Random numbers, crop boxes and resampling shared by the views. Boxes are drawn for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from methods.distributed import share

_TRIES = 10  # as torchvision's RandomResizedCrop


class SharedGenerator(Generator):
    """What one of several processes draws from: `uniform` draws for the whole batch and gives it its own rows.

    So W processes that each make the views of their rows make together, bit for bit, what one makes of the batch.
    """

    rank: int
    world: int

    @classmethod
    def of(cls, rng: Generator, rank: int, world: int) -> SharedGenerator:
        """One that goes on where `rng` stands, for process `rank` of `world`."""
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
    """Values in [low, high), a row for each image first. All randomness of the views comes from here."""
    if isinstance(rng, SharedGenerator):
        whole = torch.rand((rng.world * shape[0], *shape[1:]), generator=rng, dtype=dtype)
        return low + (high - low) * share(whole, rng.rank, rng.world)
    return low + (high - low) * torch.rand(shape, generator=rng, dtype=dtype)


def random_boxes(regions: Tensor, scale: float, ratio: tuple[float, float], rng: Generator) -> Tensor:
    """One random-resized-crop box inside each region, distributed as torchvision's RandomResizedCrop draws them.

    Args:
        regions: int64 [B, 4], left, top, right, bottom (exclusive).
        scale: smallest area as a share of the region; the largest is 1.
        ratio: smallest and largest width / height, drawn log-uniformly.
        rng: CPU generator; the amount drawn does not depend on the regions.

    Returns:
        int64 [B, 4] inside the regions, at least one pixel wide and high. A region in which none of 10 draws fits
        gives the largest centred box whose ratio is within bounds.
    """
    batch = regions.shape[0]
    width, height = regions[:, 2] - regions[:, 0], regions[:, 3] - regions[:, 1]  # [B]
    area = (width * height)[:, None] * uniform(rng, (batch, _TRIES), scale, 1.0)
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
    found = fits.any(dim=1)
    w = torch.where(found, w, fallback_w).clamp(min=1)
    h = torch.where(found, h, fallback_h).clamp(min=1)

    free_x, free_y = width - w, height - h
    offset_x = torch.where(found, (place[:, 0] * (free_x + 1)).long(), free_x // 2)
    offset_y = torch.where(found, (place[:, 1] * (free_y + 1)).long(), free_y // 2)
    left, top = regions[:, 0] + offset_x, regions[:, 1] + offset_y
    return torch.stack([left, top, left + w, top + h], dim=1)


def resample(image: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], mode: str) -> Tensor:
    """Cut `box` out of a uint8 [C, H, W] image and resize it, antialiased, to uint8 [C, size[0], size[1]]."""
    left, top, right, bottom = box
    crop = image[None, :, top:bottom, left:right]
    return interpolate(crop, size=size, mode=mode, antialias=True, align_corners=False)[0]


def flipped(batch: Tensor, which: Tensor) -> Tensor:
    """Mirror left-right the images of a [B, ...] batch where `which` [B] is true."""
    return torch.where(which.view(-1, 1, 1, 1), batch.flip(-1), batch)
