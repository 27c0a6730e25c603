"""A view as a plugin: the whole image instead of a crop, to see how much the crops matter.

suite run --grid paper_table1 --profile small --method byol,byol_whole --plugin examples/whole_image_view.py
"""

import torch
from torch import Generator, Tensor

from methods.args import ViewArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops
from methods.views.resampling import resample
from suite.plugin import register_row, register_views


class WholeImageArgs(ViewArgs):
    """No settings beside `photometry`, the colour changes of each view."""


class WholeImage(ViewMaker):
    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> one uint8 [B, 3, S, S] per view: the image, resized to a square. Draws no random number."""
        images = [self.source.image(int(index)) for index in indices]  # uint8 [3, H, W] each
        side = (self.size, self.size)
        whole = [resample(image, (0, 0, image.shape[2], image.shape[1]), side, "bilinear") for image in images]
        return Crops([torch.stack(whole)] * len(self.view_args.photometry))


COLOURS = {
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.2,
    "hue": 0.1,
    "jitter_p": 0.8,
    "gray_p": 0.2,
    "blur_p": 0.0,
}
register_views("whole_image", WholeImage, WholeImageArgs, recipe={"photometry": [COLOURS, COLOURS]})
register_row("byol_whole", label="BYOL, whole images", objective="byol", views="whole_image")
