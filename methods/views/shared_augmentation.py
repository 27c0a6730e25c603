"""Leave-one-out views, those of LooC (Xiao et al. 2021, arXiv:2008.05659, section 3.1).

The views are [q, k_0, k_1 .. k_n]. Every view draws all of its augmentations anew, with one exception: k_i has the
i-th augmentation exactly as q has it, with the parameters drawn for q and not merely switched on like it. What an
augmentation consists of is decided here, since the paper has no public code:

rotation: by 0, 90, 180 or 270 degrees with equal chance, without interpolation; the last geometric step.
colour:   whether the jitter is applied, its four amounts and their order, and whether the image turns grey. Blur and
          solarisation are no colour: they stay independent, as crop and flip do.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import SharedAugmentationArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource, Views, normalise, to_unit
from methods.views.geometry import uniform
from methods.views.photometry import apply, draw
from methods.views.random_resized_crop import random_crops


class SharedAugmentation(ViewMaker):
    """n + 2 views for n shared augmentations; see the module's text."""

    def __init__(self, args: SharedAugmentationArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args
        # Per view, the augmentation it has from the query.
        self._from_query: tuple[str | None, ...] = (None, None, *args.shared)

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view: random-resized crop, flip, rotation."""
        images = [self.source.image(i) for i in indices.tolist()]
        views: list[Tensor] = []
        of_query = torch.zeros(len(images), dtype=torch.long)
        for view, shared in enumerate(self._from_query):
            (batch,) = self._flip(rng, random_crops(images, self.args, self.size, rng))
            if "rotation" in self.args.shared:
                turns = (4 * uniform(rng, (len(images),))).long()  # drawn even where the query's are used
                if view == 0:
                    of_query = turns
                batch = rotated(batch, of_query if shared == "rotation" else turns)
            views.append(batch)
        return Crops(views)

    def colours(self, crops: Crops, rng: Generator, device: torch.device) -> Views:
        """Colour changes and normalisation on `device`."""
        (change,) = self.args.photometry
        drawn = [draw(len(batch), change, rng) for batch in crops.images]
        views = []
        for batch, own, shared in zip(crops.images, drawn, self._from_query, strict=True):
            parameters = own.with_colour_of(drawn[0]) if shared == "colour" else own
            image = normalise(apply(to_unit(batch.to(device)), change, parameters))
            views.append(image.contiguous(memory_format=torch.channels_last))
        return Views(views)


def rotated(batch: Tensor, turns: Tensor) -> Tensor:
    """Turn each image of [B, C, S, S] counter-clockwise by 90 degrees times its entry of `turns`, int64 [B]."""
    return torch.stack([torch.rot90(image, int(k), dims=(1, 2)) for image, k in zip(batch, turns, strict=True)])
