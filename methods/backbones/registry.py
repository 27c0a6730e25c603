"""All backbone families. A new family is one more name in `add_family`'s loop. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from methods.backbones.base import BackboneArgs, Cost, add_family, family_of
from methods.backbones.resnet import ResNetArgs, ResNetFamily

if TYPE_CHECKING:
    from methods.backbone import Backbone

__all__ = ["BackboneArgs", "ResNetArgs", "build_backbone", "cost_of", "dim_of"]

for _family in (ResNetFamily(),):
    add_family(_family)


def build_backbone(args: BackboneArgs) -> Backbone:
    """The network of these settings, with random weights of the current torch seed."""
    return family_of(args.arch).network(args)


def cost_of(args: BackboneArgs, side: int) -> Cost:
    """Multiply-adds of one forward pass for a square image of `side` pixels, and trainable parameters."""
    return family_of(args.arch).cost(args, side)


def dim_of(args: BackboneArgs) -> int:
    """Features per image."""
    return family_of(args.arch).dim(args)
