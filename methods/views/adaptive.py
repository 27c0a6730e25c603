"""Views that depend on the network under training: between epochs it is shown every training image.

What the views learn from it is part of the training state. It changes before fixed epochs only and is a function of
the network's weights at that moment, so that the views of a step do not depend on when they are made.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor

from methods.backbone import Backbone, evaluating
from methods.distributed import all_gather, rank, world_size
from methods.views.base import ViewMaker, as_input, planar_unit
from methods.views.geometry import whole_boxes
from methods.views.resampling import crop_batch

_CHUNK = 64  # images in one pass of the network, whatever the number of ranks


# Calls a function for each chunk of images and yields the results in order; possibly ahead, in other threads.
Reader = Callable[[Callable[[range], Tensor], list[range]], Iterable[Tensor]]


def _one_by_one(make: Callable[[range], Tensor], chunks: list[range]) -> Iterable[Tensor]:
    return map(make, chunks)


class AdaptiveViews(ViewMaker):
    """A subclass implements `update_epochs`, `learn`, and `crops` for both cases: before and after the first update.

    `learnt` may be replaced while no batch is being made.
    """

    columns: ClassVar[int]  # k, numbers per training image
    learnt: Tensor | None = None  # float32 [N, k]; None before the first update

    @abstractmethod
    def update_epochs(self, epochs: int) -> frozenset[int]:
        """Of epochs 0 .. `epochs` - 1, those before which the views are updated. Never 0."""

    @abstractmethod
    def learn(self, maps: Tensor) -> Tensor:
        """Feature maps [n, dim, h, w] of whole images -> rows of `learnt`, float32 [n, k]."""

    def state(self) -> dict[str, Tensor]:
        """`learnt`, once there is any."""
        return {} if self.learnt is None else {"learnt": self.learnt}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.learnt = state.get("learnt")

    def whole(self, indices: range) -> Tensor:
        """Whole images, resized to the view's square without regard to their ratio: uint8 [n, 3, S, S]."""
        images = [self.source.image(index) for index in indices]
        return crop_batch(images, whole_boxes(images), (self.size, self.size), "bilinear")

    @torch.no_grad()
    def update(self, backbone: Backbone, device: torch.device, read: Reader = _one_by_one) -> None:
        """Show all images to the backbone, in evaluation mode and without autocast, and keep what `learn` returns.

        Each rank does a part of the work; all of them end with the same bits, whatever their number.
        """
        chunks = [range(start, min(start + _CHUNK, len(self.source))) for start in range(0, len(self.source), _CHUNK)]
        local_chunks = chunks[rank() :: world_size()]
        rows = torch.zeros(len(self.source), self.columns, device=device)
        precision = next((parameter.dtype for parameter in backbone.parameters()), torch.float32)
        with evaluating(backbone), torch.autocast(device.type, enabled=False):
            for chunk, images in zip(local_chunks, read(self.whole, local_chunks), strict=True):
                maps = backbone(as_input(planar_unit(images.to(device))).to(precision))
                rows[chunk.start : chunk.stop] = self.learn(maps)
        self.learnt = all_gather(rows[None]).sum(dim=0).cpu()  # every row is zero in all ranks but one
