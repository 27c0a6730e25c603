"""Shared by all measurements: central crops in batches, arithmetic precision, top-1 accuracy.

Everything is measured in float32, with TF32 off, whatever the precision of training, so that a number does not depend
on the device. Images are read, cropped and passed through the network batch by batch: memory does not grow with the
size of a split.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from methods.views.batch import normalise, to_unit
from methods.views.geometry import central_square
from methods.views.resampling import resample
from suite.data.decoded.split import SplitSource, Subset, held_out
from suite.training.feed import Ahead, Loading
from suite.training.schedule import generator

BATCH = 128  # images that are read at a time, and per forward pass on a GPU
_CPU_BATCH = 16  # images per forward pass on a CPU, whose caches hold no more of the first layers' maps


def held_out_subsets(source: SplitSource | Subset, share: float, seed: int) -> tuple[Subset, Subset]:
    """Images to train on, and images to choose on: the same `share` of every class, whatever is trained or measured."""
    fit_on, choose_on = held_out(source.labels, share, generator(seed, "held-out"))
    return Subset(source, fit_on), Subset(source, choose_on)


class EvaluationImages(Protocol):
    """All that evaluation reads of a split. Background loaders call it from several threads at once."""

    def __len__(self) -> int:
        """Number of images."""

    def image(self, index: int) -> Tensor:
        """Image as uint8 [3, H, W]; H and W differ between images."""


def centre_crop(image: Tensor, size: int, eval_resize: float) -> Tensor:
    """`central_square` of an image, in one resampling: uint8 [3, H, W] -> uint8 [3, size, size]."""
    return resample(image, central_square(image.shape[1:], eval_resize), (size, size), "bilinear")


def centre_crops(
    source: EvaluationImages,
    size: int,
    eval_resize: float,
    loading: Loading | None = None,
    before_batch: Callable[[], None] = lambda: None,
) -> Generator[Tensor, None, None]:
    """Central crops of all images, in order: uint8 [B, 3, size, size] per batch, B = 128 except in the last one.

    Args:
        source: the images.
        size: side of the crops, pixels.
        eval_resize: see `centre_crop`.
        loading: background loaders; None: crops are made when they are asked for.
        before_batch: called before each batch; may raise, such as `Session.raise_if_stopped`.

    Close the generator, or exhaust it, to end the loaders.
    """
    starts = range(0, len(source), BATCH)

    def batch(start: int) -> Tensor:
        places = range(start, min(start + BATCH, len(source)))
        return torch.stack([centre_crop(source.image(place), size, eval_resize) for place in places])

    with Ahead(batch, starts, loading or Loading()) as ahead:
        for _ in starts:
            before_batch()
            yield ahead.take()


def forward_parts(crops: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """A batch, divided on a CPU: the same bits in less time (ResNet-18 at 224 px: 37 images a second, not 30)."""
    return torch.split(crops, _CPU_BATCH) if device.type == "cpu" else (crops,)


def network_input(crops: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, 3, S, S] -> normalised float32 [B, 3, S, S], channels last, on `device`."""
    return normalise(to_unit(crops.to(device))).contiguous(memory_format=torch.channels_last)


@contextmanager
def measuring_precision() -> Iterator[None]:
    """float32 without TF32, as on a CPU. cudnn uses TF32 for convolutions by default."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def top1_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """100 x correct / N, of classes int64 [N]."""
    return 100 * int((predicted == labels).sum()) / len(labels)
