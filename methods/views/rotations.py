"""All four rotations of a random-resized crop, the view of Rot-Pred (arXiv:1803.07728)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.args import RotationsArgs
from methods.views.batch import Crops, ImageSource
from methods.views.random_resized_crop import RandomResizedCrop
from methods.views.resampling import four_turns


class Rotations(RandomResizedCrop):
    """Cropped and flipped as in RandomResizedCrop, then rotated by 0, 90, 180 and 270 degrees, counter-clockwise.

    The rotations move pixels without interpolation, which would give 0 degrees away. No other rotation is applied.
    The published recipe has no colour changes; where a recipe sets some, each of the four images draws its own.
    """

    def __init__(self, args: RotationsArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> one view uint8 [4B, 3, S, S], the four of an image in a row, with labels 0..3 [4B]."""
        return Crops([four_turns(super().crops(indices, rng).images[0])], labels=torch.arange(4).repeat(len(indices)))
