"""Random numbers, crop boxes and resampling shared by the views. Boxes are drawn for a whole batch at once.

Images are resampled by torch's uint8 kernel. It releases the interpreter's lock, so that several threads can make
batches, and is fastest with the channels of a pixel side by side, as images are stored: 140 us for a box of
300 x 300 px to 224 px, 215 us with one plane per channel, 490 us in Pillow, whose pixels differ by 1 of 255.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from methods.distributed import shard

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


def resample(image: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], mode: str) -> Tensor:
    """Cut `box` out of a uint8 [C, H, W] image and resize it, antialiased, to uint8 [C, size[0], size[1]]."""
    return resample_row(image, box, size, mode)[0].contiguous()


def resample_row(image: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], mode: str) -> Tensor:
    """As `resample`, but as a batch of one, [1, C, size[0], size[1]], in the memory format of `image`.

    For images stored as rows of pixels (strides of [C, H, W]: 1, C W, C) the result is channels_last.
    """
    left, top, right, bottom = box
    # The axis of the batch is added to [H, W, C], not to [C, H, W]: only so do its strides tell torch the format.
    crop = image[:, top:bottom, left:right].permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return interpolate(crop, size=size, mode=mode, antialias=True, align_corners=False)


def mirror_where(rows: list[Tensor], which: Tensor) -> list[Tensor]:
    """Images [1, C, S, S], mirrored left to right where `which`, bool [B], is true.

    To be joined by `torch.cat`, which keeps their memory format. Several times faster than mirroring the whole batch
    and selecting by `torch.where`.
    """
    return [row.flip(-1) if turn else row for row, turn in zip(rows, which.tolist(), strict=True)]
