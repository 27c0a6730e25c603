"""Base class of all views: geometry on uint8 images on the CPU first, then colour changes of the batch on a device.

`prepare` does the part that needs no device (crops and the random numbers of the colour changes), so that background
loaders can run it ahead; `finish` does the rest on the device. Both together give what a call of the maker gives, bit
for bit, because the random numbers are drawn in the same order: geometry first, then colour view by view, from the
same generator. `prepare` keeps no state in the maker and may run in several threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from methods.args import PhotometryArgs, ViewArgs
from methods.distributed import rank, shard, world_size
from methods.views import color_jitter
from methods.views.batch import Crops, ImageSource, Views, normalise, to_unit
from methods.views.color_jitter import ColourParameters
from methods.views.geometry import SharedGenerator


@dataclass(slots=True)
class PreparedBatch:
    """One batch on its way from `prepare` to `finish`.

    `parameters` is None for plugin views that override `colours`, and `crops` too for those that override `__call__`:
    `finish` then calls their own method with `rng`, which stands where the last random number drawn left it.
    """

    indices: Tensor  # int64 [B]: this process's rows, or the whole batch if not `by_row`
    rng: Generator
    by_row: bool
    crops: Crops | None = None  # of `indices`
    parameters: ColourParameters | None = None

    def pin_memory(self) -> PreparedBatch:
        """A copy in page-locked memory, from which `to(device, non_blocking=True)` does not block. Needs CUDA."""
        return self._with(
            None if self.crops is None else self.crops.pin_memory(),
            None if self.parameters is None else self.parameters.pin_memory(),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> PreparedBatch:
        """The same batch on `device`. Crops stay on the CPU where a plugin's `colours` still has to see them."""
        if self.crops is None or self.parameters is None:
            return self
        return self._with(self.crops.to(device, non_blocking), self.parameters.to(device, non_blocking))

    def _with(self, crops: Crops | None, parameters: ColourParameters | None) -> PreparedBatch:
        return PreparedBatch(self.indices, self.rng, self.by_row, crops, parameters)


class ViewMaker(ABC):
    """Turns positions in a set of images into views. All random numbers come from the generator passed in.

    A subclass implements `crops`. It may also override `draw_colours` and `apply_colours` together, which keeps the
    work of both parts apart, or `colours`, which then runs as one piece in `finish`.
    """

    def __init__(self, args: ViewArgs, source: ImageSource, size: int) -> None:
        self.view_args = args
        self.source = source
        self.size = size

    @abstractmethod
    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """Geometric changes, on the CPU: int64 [B] -> one uint8 batch per entry of `photometry`, with masks if any."""

    def state(self) -> dict[str, Tensor]:
        """The part of the training state that belongs to the views; most have none."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - most views have none
        """Continue from a `state`."""

    def draw_colours(self, crops: Crops, rng: Generator) -> ColourParameters:
        """Parameters of the colour changes of these crops, on the CPU. To be called after `crops`, with its `rng`."""
        changes = self.view_args.photometry
        draws = [color_jitter.draw(len(crop), args, rng) for crop, args in zip(crops.images, changes, strict=True)]
        return color_jitter.parameters(draws, changes)

    def apply_colours(self, crops: Crops, parameters: ColourParameters, device: torch.device) -> Views:
        """Colour changes and normalisation on `device`. Draws nothing and does not wait for the device.

        Crops and parameters may be on the device already. Masks are only scaled to [0, 1], not changed.
        """
        crops, parameters = crops.to(device), parameters.to(device)
        return Views(
            [
                as_input(color_jitter.apply(planar_unit(crop), changes, args.blur_kernel))
                for crop, changes, args in zip(
                    crops.images, parameters.of_views(), self._colour_args(len(crops.images)), strict=True
                )
            ],
            None if crops.masks is None else [to_unit(mask) for mask in crops.masks],
            crops.boxes,
            crops.labels,
        )

    def _colour_args(self, views: int) -> tuple[PhotometryArgs, ...]:
        """Colour settings per view: one entry each, or a single entry for all."""
        changes = self.view_args.photometry
        return changes * views if len(changes) == 1 else changes

    def colours(self, crops: Crops, rng: Generator, device: torch.device) -> Views:
        """`draw_colours` and `apply_colours` in one call."""
        return self.apply_colours(crops, self.draw_colours(crops, rng), device)

    def __call__(self, indices: Tensor, rng: Generator, device: torch.device) -> Views:
        """Views of the images at `indices`, int64 [B]: `crops`, then `colours`."""
        return self.colours(self.crops(indices, rng), rng, device)

    def prepare(self, indices: Tensor, rng: Generator, by_row: bool = True) -> PreparedBatch:
        """Of this process's share of the views, the part that needs no device; for background loaders.

        Args:
            indices: int64 [B], the batch of all processes; their shares together are the views of one process.
            rng: belongs to the prepared batch from now on: do not draw from it elsewhere.
            by_row: make only this process's rows; needs every random number to come from `uniform`, as in all views
                here. Otherwise the whole batch is made, then cut: correct for every kind of view, at W times the work.
        """
        if by_row and world_size() > 1:
            indices, rng = shard(indices), SharedGenerator.of(rng, rank(), world_size())
        batch = PreparedBatch(indices, rng, by_row)
        if type(self).__call__ is ViewMaker.__call__:
            batch.crops = self.crops(indices, rng)
            if type(self).colours is ViewMaker.colours:
                batch.parameters = self.draw_colours(batch.crops, rng)
        return batch

    def finish(self, batch: PreparedBatch, device: torch.device) -> Views:
        """The views of a `prepare`d batch: the part that runs on `device`. `batch` may have been moved there before."""
        if batch.crops is None:
            views = self(batch.indices, batch.rng, device)
        elif batch.parameters is None:
            views = self.colours(batch.crops, batch.rng, device)
        else:
            views = self.apply_colours(batch.crops, batch.parameters, device)
        return views if batch.by_row or world_size() == 1 else slice_views(views, rank(), world_size())


def planar_unit(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] in any memory format -> float32 in [0, 1], one plane per channel.

    The colour changes take channels apart, which is fast on planes; and sums over an image have one order.
    """
    return to_unit(images.contiguous())


def as_input(images: Tensor) -> Tensor:
    """float32 [B, 3, H, W] in [0, 1] -> normalised, in the memory format of the networks."""
    return normalise(images).contiguous(memory_format=torch.channels_last)


def slice_views(views: Views, rank: int, world: int) -> Views:
    """The part of a whole batch of B images that process `rank` of `world` sees, B a multiple of `world`.

    Every tensor of every kind of view lists the images one after the other, with the same number of rows for each: one
    row, or the four rotations or eight patches of an image together. So a share of the images is the same share of the
    rows of each tensor, labels included, and no image is split between processes.
    """

    def part(tensors: Iterable[Tensor] | None) -> list[Tensor] | None:
        return None if tensors is None else [shard(tensor, rank, world) for tensor in tensors]

    return Views(
        [shard(images, rank, world) for images in views.images],
        part(views.masks),
        part(views.boxes),
        None if views.labels is None else shard(views.labels, rank, world),
    )
