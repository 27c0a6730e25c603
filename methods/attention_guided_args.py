"""Settings of other methods that saliency or Grad-CAM guides: CAST, ContrastiveCrop, LCR; and crops with a mask.

As in methods/args.py, nothing here imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from methods.args import MocoV2Args, RandomResizedCropArgs


class CropWithMaskArgs(RandomResizedCropArgs):
    """Random-resized crops that carry the saliency map of their image."""


class CastCropArgs(RandomResizedCropArgs):
    """CAST's saliency-constrained crops (arXiv:2012.04630). Defaults are the paper's and the official code's."""

    coverage: float = Field(0.2, ge=0, le=1, description="smallest share of the salient area inside a crop")
    threshold: int = Field(128, ge=0, le=254, description="saliency above it, of 255, is salient")
    centre: Literal["gaussian", "uniform"] = Field(
        "gaussian",
        description="of a crop: gaussian around the centroid of the salient area, with a deviation of the image's side "
        "(official code), or uniform",
    )


class CastArgs(MocoV2Args):
    """CAST (arXiv:2012.04630): MoCo v2 and the attention loss."""

    weight: float = Field(3.0, ge=0, description="of the attention loss; the contrastive loss has 1")


class ContrastiveCropArgs(RandomResizedCropArgs):
    """ContrastiveCrop (arXiv:2202.03278). Defaults are the official code's for ImageNet."""

    threshold: float = Field(0.1, ge=0, lt=1, description="heat above it, of 0..1, is inside an image's box")
    alpha: float = Field(
        0.6, gt=0, le=1, description="of the beta distribution of a crop's place in the box; 1 is uniform"
    )
    interval: float = Field(
        0.2, gt=0, le=1, description="share of the epochs before the first update of the boxes, and between updates"
    )


class LcrArgs(MocoV2Args):
    """LCR (arXiv:2303.01669), on MoCo v2. Where the paper's text and its code differ or are silent, fields."""

    detectors: int = Field(32, ge=1, description="K, convolutional detectors whose maximum is the fitted map")
    weight: float = Field(
        1.28,
        ge=0,
        description="of the divergence, a mean over images; official code: .01 of the sum over a batch of 128",
    )
    softness: float = Field(
        0.4, gt=0, description="both maps are divided by it before the softmax (official BYOL code)"
    )
    softmax: Literal["places", "rows"] = Field(
        "places", description="over all places of a map (official BYOL code) or each row by itself (its MoCo code)"
    )
    score: Literal["loss", "similarity"] = Field(
        "loss", description="whose Grad-CAM is fitted: the contrastive loss (official code), or the query with its key"
    )
    stretch: bool = Field(
        True,
        description="the Grad-CAM of each image to 0..1, as the fitted map; without it (official code) the gradient of "
        "a batch's mean is so small that its softmax is nearly the same everywhere",
    )
