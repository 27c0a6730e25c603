"""An image store as the views see it: tensors by position within one split, or a part of one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from suite.data.decoded.images import DecodedStore, ImageStore
from suite.data.decoded.saliency import MapStore
from suite.data.record import Split


class SplitSource:
    """One split of a store; satisfies `methods.views.batch.ImageSource`. Several threads may call it at once.

    Images of a decoded store are views into its memory map, copied when a view resamples. Images of an index of files
    are decoded here, in the thread that asks.

    Args:
        store: of the images.
        split: of the dataset.
        maps: saliency maps of the same split.
    """

    def __init__(self, store: ImageStore, split: Split, maps: MapStore | None = None) -> None:
        self._store = store
        self._store_positions = store.indices(split)
        self._maps = maps
        self._mapped: tuple[Tensor, list[int], list[list[int]]] | None = None
        if isinstance(store, DecodedStore):  # lists are read faster than arrays
            self._mapped = torch.from_numpy(store.pixels), store.starts.tolist(), store.shapes.tolist()
        positions = slice(self._store_positions.start, self._store_positions.stop)
        self.labels = torch.from_numpy(np.array(store.labels[positions]))
        self.official_boxes = torch.from_numpy(np.array(store.boxes[positions]))  # float32 [N, 4] in pixels, or NaN

    def __len__(self) -> int:
        return len(self._store_positions)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]. Raises ImageError where the image's file cannot be decoded."""
        position = self._store_positions[index]
        if self._mapped is None:
            return torch.from_numpy(self._store.image(position)).permute(2, 0, 1)
        pixels, starts, shapes = self._mapped
        height, width = shapes[position]
        start = starts[position]
        return pixels[start : start + height * width * 3].view(height, width, 3).permute(2, 0, 1)

    @property
    def has_maps(self) -> bool:
        """Whether the source was opened with saliency maps."""
        return self._maps is not None

    def saliency(self, index: int) -> Tensor:
        """uint8 [1, H, W], the size of `image(index)`."""
        return torch.from_numpy(self._with_maps().map(self._split_position(index)))[None]

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive), in pixels of `image(index)`."""
        left, top, right, bottom = self._with_maps().boxes[self._split_position(index)].tolist()
        return left, top, right, bottom

    def _split_position(self, index: int) -> int:
        """Position within the split, also of a negative index; IndexError outside."""
        return self._store_positions[index] - self._store_positions.start

    def _with_maps(self) -> MapStore:
        if self._maps is None:
            raise ValueError("this source was opened without saliency maps")
        return self._maps


class Subset:
    """Some images of a source, in the order given."""

    def __init__(self, source: SplitSource | Subset, positions: Tensor) -> None:
        self._source = source
        self._positions = positions.tolist()
        self.labels: Tensor = source.labels[positions]

    def slice(self, start: int, end: int) -> Subset:
        """The subset's images from `start` to before `end`."""
        return Subset(self._source, torch.tensor(self._positions[start:end]))

    def __len__(self) -> int:
        return len(self._positions)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        return self._source.image(self._positions[index])

    def saliency(self, index: int) -> Tensor:
        """uint8 [1, H, W]."""
        return self._source.saliency(self._positions[index])

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive)."""
        return self._source.salient_box(self._positions[index])


def held_out(labels: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Divide the images into those to train on and those held out: `share` of every class, sampled with `rng`.

    Args:
        labels: int64 [N].
        share: of each class, rounded, at least one image and never all; a class of one image stays in training.

    Returns:
        Two int64 tensors of positions, both ascending and together 0 .. N - 1.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        positions = (labels == label).nonzero()[:, 0]
        count = min(max(1, round(share * len(positions))), len(positions) - 1)
        held[positions[torch.randperm(len(positions), generator=rng)[:count]]] = True
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def labelled_positions(labels: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Positions of the images that keep their label: `share` of every class, sampled with `rng`.

    For the same state of `rng`, the positions of a smaller share are among those of a larger one.

    Args:
        labels: int64 [N].
        share: of each class, above 0 and at most 1; rounded, at least one image.

    Returns:
        int64, ascending.
    """
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        positions = (labels == label).nonzero()[:, 0]
        count = max(1, round(share * len(positions)))
        kept[positions[torch.randperm(len(positions), generator=rng)[:count]]] = True
    return kept.nonzero()[:, 0]
