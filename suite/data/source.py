"""The decoded store as the views see it: tensors by position within one split, with saliency where needed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from suite.data.images import ImageStore
from suite.data.maps import MapStore
from suite.data.record import Split


class SplitSource:
    """One split of a store; satisfies `methods.views.batch.ImageSource`. Nothing is copied until a view resamples."""

    def __init__(self, store: ImageStore, split: Split, maps: MapStore | None = None) -> None:
        self._first = store.indices(split).start
        self._count = len(store.indices(split))
        self._starts = store.starts.tolist()
        self._shapes = store.shapes.tolist()
        self._pixels = torch.from_numpy(store.pixels)
        self._maps = None if maps is None else torch.from_numpy(maps.values)
        self._boxes = None if maps is None else maps.boxes.tolist()
        self.labels = torch.from_numpy(store.labels[np.array(store.indices(split), dtype=np.int64)])

    def __len__(self) -> int:
        return self._count

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        at = self._first + index
        height, width = self._shapes[at]
        start = self._starts[at]
        return self._pixels[start : start + height * width * 3].view(height, width, 3).permute(2, 0, 1)

    def saliency(self, index: int) -> Tensor:
        """uint8 [1, H, W], the size of `image(index)`."""
        if self._maps is None:
            raise ValueError("this source was opened without saliency maps")
        at = self._first + index
        height, width = self._shapes[at]
        start = self._starts[at] // 3
        return self._maps[start : start + height * width].view(1, height, width)

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive), in pixels of `image(index)`."""
        if self._boxes is None:
            raise ValueError("this source was opened without saliency maps")
        left, top, right, bottom = self._boxes[self._first + index]
        return left, top, right, bottom
