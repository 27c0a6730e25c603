"""Cutting, resizing and pasting the images of a whole batch, outside of the interpreter's lock.

Images are resampled by torch's uint8 kernel. It is fastest with the channels of a pixel side by side, as images are
stored: 140 us for a box of 300 x 300 px to 224 px, 215 us with one plane per channel, 490 us in Pillow, whose pixels
differ by 1 of 255.

Background loaders are threads. Called one by one from Python, the operations on an image take the interpreter's lock
some twenty times per view, and on a GPU machine the thread that launches the kernels waits for it each time: on an H100
five loaders slowed MoCo v2's loop to 61 % of the device's rate (docs/throughput.md). The loops below are compiled by
TorchScript, which runs them without the lock. They call the same kernels in the same order: no pixel differs.

TorchScript is deprecated in newer releases of torch, and not supported with Python 3.14. Where it is missing, the loops
run as they are written here, with the same pixels and more waiting.

Batches are written row by row into one tensor: on a GPU machine into page-locked memory (`page_locked`), which torch
keeps and reuses, otherwise into memory that a loader keeps (`reused`). Joining rows afterwards would write them twice,
and into new memory each time: the system would have to map every page of it, and the training thread to return it.
"""

from __future__ import annotations

import math
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

F = TypeVar("F", bound=Callable[..., object])


class _Blocks:
    """Memory of one thread's batches: a block serves again once no tensor refers to it."""

    def __init__(self) -> None:
        self._blocks: list[tuple[NDArray[np.uint8], weakref.ref[NDArray[np.uint8]]]] = []

    def empty(self, size: int) -> Tensor:
        """uint8 [size], not initialised."""
        free = [block for block, user in self._blocks if user() is None]
        block = next((block for block in free if len(block) == size), None)
        if block is None:  # the free ones have sizes that are asked for no longer, or will be made once more
            self._blocks = [pair for pair in self._blocks if pair[1]() is not None]
            block = np.empty(size, np.uint8)
        part = block[:]
        self._blocks = [pair for pair in self._blocks if pair[0] is not block] + [(block, weakref.ref(part))]
        return torch.from_numpy(part)  # which refers to `part` for as long as a tensor uses its memory


class _Memory(threading.local):
    page_locked = False
    blocks: _Blocks | None = None


_memory = _Memory()


@contextmanager
def page_locked() -> Iterator[None]:
    """Within it, this thread's batches are made in page-locked memory. Needs CUDA."""
    before, _memory.page_locked = _memory.page_locked, True
    try:
        yield
    finally:
        _memory.page_locked = before


@contextmanager
def reused() -> Iterator[None]:
    """Within it, the memory of this thread's batches is used again for later ones. It is kept until the end."""
    before, _memory.blocks = _memory.blocks, _Blocks()
    try:
        yield
    finally:
        _memory.blocks = before


def empty_batch(count: int, channels: int, height: int, width: int) -> Tensor:
    """uint8 [count, channels, height, width], the channels of a pixel side by side; not initialised."""
    return _empty(count, height, width, channels).permute(0, 3, 1, 2)


def _empty(*shape: int) -> Tensor:
    """uint8 of this shape, not initialised, in the memory that this thread is to use."""
    if _memory.blocks is None or _memory.page_locked:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=_memory.page_locked)
    return _memory.blocks.empty(math.prod(shape)).view(shape)


def crop_batch(
    images: list[Tensor],
    boxes: Tensor,
    size: tuple[int, int],
    mode: str,
    flips: Tensor | None = None,
    turns: Tensor | None = None,
) -> Tensor:
    """The box of each image, resized, antialiased.

    Args:
        images: uint8 [C, H, W] each.
        boxes: int64 [B, 4], left, top, right, bottom (exclusive).
        size: height and width of the result.
        mode: "bilinear" or "bicubic".
        flips: bool [B], which ones to mirror left to right; None: none.
        turns: int64 [B], counter-clockwise turns by 90 degrees after the flip, of square results; None: none.

    Returns:
        uint8 [B, C, *size].
    """
    count = len(images)
    flips = torch.zeros(count, dtype=torch.bool) if flips is None else flips
    turns = torch.zeros(count, dtype=torch.long) if turns is None else turns
    out = empty_batch(count, images[0].shape[0], *size)
    _crop_rows(images, boxes, flips, turns, mode, out)
    return out


def paste_batch(
    backgrounds: list[Tensor],
    canvases: Tensor,
    images: list[Tensor],
    boxes: Tensor,
    places: Tensor,
    flips: Tensor,
    size: int,
    mode: str,
) -> Tensor:
    """The box of each image, resized and pasted into its place of a background.

    Args:
        backgrounds: uint8 [C, H, W] each.
        canvases: int64 [B, 4], the part of each background that is resized to the square.
        images: uint8 [C, H, W] each.
        boxes: int64 [B, 4] in the images.
        places: int64 [B, 4] in the square.
        flips: bool [B], which results to mirror left to right.
        size: side of the square.
        mode: "bilinear" or "bicubic", of image and background.

    Returns:
        uint8 [B, C, size, size].
    """
    out = empty_batch(len(images), images[0].shape[0], size, size)
    _paste_rows(backgrounds, canvases, images, boxes, places, flips, mode, out)
    return out


def paste_maps(maps: list[Tensor], boxes: Tensor, places: Tensor, flips: Tensor, size: int) -> Tensor:
    """As `paste_batch`, of maps uint8 [1, H, W] onto zero, resized bilinearly: bicubic would overshoot them."""
    out = empty_batch(len(maps), 1, size, size)
    _paste_map_rows(maps, boxes, places, flips, out)
    return out


def four_turns(images: Tensor) -> Tensor:
    """Each image and its turns by 90, 180 and 270 degrees, counter-clockwise, in a row.

    Args:
        images: uint8 [B, C, S, S].

    Returns:
        uint8 [4 B, C, S, S], one plane per channel: planes are cheaper to turn than rows of pixels.
    """
    out = _empty(4 * images.shape[0], *images.shape[1:])
    _copy_turns(images, out)
    return out


def parts_batch(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Squares cut out of images.

    Args:
        images: uint8 [B, C, H, W].
        corners: int64 [B, n, 2], left and top of each square.
        side: of the squares, pixels.

    Returns:
        uint8 [B, n, C, side, side], one plane per channel.
    """
    out = torch.empty((*corners.shape[:2], images.shape[1], side, side), dtype=torch.uint8)
    _copy_parts(images, corners, out)
    return out


def resample(image: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], mode: str) -> Tensor:
    """Cut `box` out of a uint8 [C, H, W] image and resize it, antialiased, to uint8 [C, size[0], size[1]]."""
    return _cut(image, list(box), *size, mode)[0].contiguous()


def compiled(loop: F) -> F:
    """The loop as TorchScript; itself, where torch or Python (from 3.14 on) do not support that."""
    if sys.version_info >= (3, 14):
        return loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its deprecation
        try:
            return torch.jit.script(loop)  # type: ignore[no-any-return]
        except (AttributeError, NotImplementedError, OSError, RuntimeError, TypeError):
            return loop


# Imported names are compiled along with the loops that use them, so that only plain functions stand here. Lists of
# lists come from tensors, which are converted outside of the lock.


def _cut(image: Tensor, box: list[int], height: int, width: int, mode: str) -> Tensor:
    """[C, H, W] -> [1, C, height, width], in the memory format of the image.

    The axis of the batch is added to [H, W, C], not to [C, H, W]: only so do its strides tell torch the format.
    """
    crop = image[:, box[1] : box[3], box[0] : box[2]].permute(1, 2, 0).unsqueeze(0).permute(0, 3, 1, 2)
    return interpolate(crop, [height, width], mode=mode, align_corners=False, antialias=True)


@compiled
def _crop_rows(images: list[Tensor], boxes: Tensor, flips: Tensor, turns: Tensor, mode: str, out: Tensor) -> None:
    all_boxes: list[list[int]] = boxes.tolist()
    all_flips: list[bool] = flips.tolist()
    all_turns: list[int] = turns.tolist()
    for i in range(len(images)):
        row = _cut(images[i], all_boxes[i], out.size(2), out.size(3), mode)
        if all_flips[i]:
            row = row.flip([-1])
        if all_turns[i] != 0:
            row = torch.rot90(row, all_turns[i], [2, 3])
        out[i].copy_(row[0])


@compiled
def _paste_rows(
    backgrounds: list[Tensor],
    canvases: Tensor,
    images: list[Tensor],
    boxes: Tensor,
    places: Tensor,
    flips: Tensor,
    mode: str,
    out: Tensor,
) -> None:
    all_canvases: list[list[int]] = canvases.tolist()
    all_boxes: list[list[int]] = boxes.tolist()
    all_places: list[list[int]] = places.tolist()
    all_flips: list[bool] = flips.tolist()
    for i in range(len(images)):
        row = _cut(backgrounds[i], all_canvases[i], out.size(2), out.size(3), mode)
        place = all_places[i]
        patch = _cut(images[i], all_boxes[i], place[3] - place[1], place[2] - place[0], mode)
        row[:, :, place[1] : place[3], place[0] : place[2]] = patch
        if all_flips[i]:
            row = row.flip([-1])
        out[i].copy_(row[0])


@compiled
def _paste_map_rows(maps: list[Tensor], boxes: Tensor, places: Tensor, flips: Tensor, out: Tensor) -> None:
    all_boxes: list[list[int]] = boxes.tolist()
    all_places: list[list[int]] = places.tolist()
    all_flips: list[bool] = flips.tolist()
    out.zero_()
    for i in range(len(maps)):
        place = all_places[i]
        patch = _cut(maps[i], all_boxes[i], place[3] - place[1], place[2] - place[0], "bilinear")
        left, right = place[0], place[2]
        if all_flips[i]:
            patch = patch.flip([-1])
            left, right = out.size(3) - place[2], out.size(3) - place[0]
        out[i, :, place[1] : place[3], left:right] = patch[0]


@compiled
def _copy_parts(images: Tensor, corners: Tensor, out: Tensor) -> None:
    all_corners: list[list[list[int]]] = corners.tolist()
    side = out.size(4)
    for i in range(len(all_corners)):
        for number in range(len(all_corners[i])):
            left, top = all_corners[i][number]
            out[i, number].copy_(images[i, :, top : top + side, left : left + side])


@compiled
def _copy_turns(images: Tensor, out: Tensor) -> None:
    for i in range(images.size(0)):
        planes = images[i].contiguous()
        for turns in range(4):
            out[4 * i + turns].copy_(torch.rot90(planes, turns, [1, 2]))
