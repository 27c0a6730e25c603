"""Leave-one-out views of LooC (Xiao et al. 2021, arXiv:2008.05659, section 3.1).

The views are [q, k_0, k_1 .. k_n]. Every view draws all of its augmentations independently, with one exception: k_i
uses the i-th augmentation with the very parameters drawn for q. The paper has no public code; the augmentations are
defined here as follows:

rotation: by 0, 90, 180 or 270 degrees with equal chance, without interpolation; the last geometric step.
colour:   whether the jitter is applied, its four amounts and their order, and whether the image turns grey. Blur and
          solarisation do not belong to it: they stay independent, as crop and flip do.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import SharedAugmentationArgs
from methods.views import color_jitter
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.color_jitter import ColourParameters
from methods.views.geometry import uniform
from methods.views.random_resized_crop import image_boxes
from methods.views.resampling import crop_batch


class SharedAugmentation(ViewMaker):
    """n + 2 views for n shared augmentations; see the module's text."""

    def __init__(self, args: SharedAugmentationArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args
        # Per view, the augmentation that it shares with the query.
        self._shared: tuple[str | None, ...] = (None, None, *args.shared)

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> uint8 [B, 3, S, S] per view: random-resized crop, flip, rotation."""
        images = [self.source.image(i) for i in indices.tolist()]
        views: list[Tensor] = []
        of_query = torch.zeros(len(images), dtype=torch.long)
        for view, shared in enumerate(self._shared):
            boxes, turns = image_boxes(images, self.args, rng), None
            flips = uniform(rng, (len(images),)) < self.args.flip_p
            if "rotation" in self.args.shared:
                turns = (4 * uniform(rng, (len(images),))).long()  # drawn also where the query's are used
                if view == 0:
                    of_query = turns
                turns = of_query if shared == "rotation" else turns
            views.append(crop_batch(images, boxes, (self.size, self.size), self.args.interpolation, flips, turns))
        return Crops(views)

    def draw_colours(self, crops: Crops, rng: Generator) -> ColourParameters:
        """Parameters of all views; a key that shares `colour` has the query's jitter and greyscale."""
        (change,) = self.args.photometry
        draws = [color_jitter.draw(len(batch), change, rng) for batch in crops.images]
        draws = [
            view.with_colour_of(draws[0]) if shared == "colour" else view
            for view, shared in zip(draws, self._shared, strict=True)
        ]
        return color_jitter.parameters(draws, [change] * len(draws))
