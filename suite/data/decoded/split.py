"""The decoded store as the views see it: tensors by position within one split, or a part of one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from suite.data.decoded.images import ImageStore
from suite.data.decoded.saliency import MapStore
from suite.data.record import Split


class SplitSource:
    """One split of a store; satisfies `methods.views.batch.ImageSource`. Nothing is copied until a view resamples.

    `maps`, where given, are those of the same split.
    """

    def __init__(self, store: ImageStore, split: Split, maps: MapStore | None = None) -> None:
        self._places = store.indices(split)
        self._starts = store.starts.tolist()
        self._shapes = store.shapes.tolist()
        self._pixels = torch.from_numpy(store.pixels)
        self._maps = None if maps is None else torch.from_numpy(maps.values)
        self._first = self._starts[self._places[0]] if self._places else 0  # maps are stored by split
        self._boxes = None if maps is None else maps.boxes.tolist()
        places = np.array(store.indices(split), dtype=np.int64)
        self.labels = torch.from_numpy(store.labels[places])
        self.official_boxes = torch.from_numpy(store.boxes[places])  # float32 [N, 4], in pixels of `image`; or NaN

    def __len__(self) -> int:
        return len(self._places)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        at = self._places[index]
        height, width = self._shapes[at]
        start = self._starts[at]
        return self._pixels[start : start + height * width * 3].view(height, width, 3).permute(2, 0, 1)

    def saliency(self, index: int) -> Tensor:
        """uint8 [1, H, W], the size of `image(index)`."""
        if self._maps is None:
            raise ValueError("this source was opened without saliency maps")
        at = self._places[index]
        height, width = self._shapes[at]
        start = (self._starts[at] - self._first) // 3
        return self._maps[start : start + height * width].view(1, height, width)

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive), in pixels of `image(index)`."""
        if self._boxes is None:
            raise ValueError("this source was opened without saliency maps")
        left, top, right, bottom = self._boxes[index]
        return left, top, right, bottom


class Part:
    """Some images of a source, in the order given."""

    def __init__(self, source: SplitSource, positions: Tensor) -> None:
        self._source = source
        self._positions = positions.tolist()
        self.labels = source.labels[positions]

    def slice(self, start: int, end: int) -> Part:
        """A part of this part."""
        return Part(self._source, torch.tensor(self._positions[start:end]))

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
    """Part the images into those to train on and those to choose on: `share` of every class, drawn by `rng`.

    Args:
        labels: int64 [N].
        share: of each class, rounded, at least one image and never all; a class of one image stays in training.

    Returns:
        Two int64 tensors of positions, both ascending and together 0 .. N - 1.
    """
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        places = (labels == label).nonzero()[:, 0]
        count = min(max(1, round(share * len(places))), len(places) - 1)
        chosen[places[torch.randperm(len(places), generator=rng)[:count]]] = True
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]
