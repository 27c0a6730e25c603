"""Typed settings of the alignment and of the objectives and views of the paper's rows, without importing torch.

The others are in attention_guided_args.py, redundancy_reduction_args.py, multi_crop_args.py and, for backbones,
methods/backbones. Settings are not in the files that they configure, so that `suite plan` can check and hash a
configuration in milliseconds. The values come from the recipes in experiments/; a field has a default only where its
source fixes it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from methods.backbones.registry import BackboneArgs, ResNetArgs
from methods.base_args import Args

__all__ = ["Args", "BackboneArgs", "ResNetArgs"]  # re-exported; they are defined elsewhere to avoid circular imports


class ByolArgs(Args):
    """BYOL (arXiv:2006.07733)."""

    hidden_dim: int = Field(4096, ge=1, description="hidden width of projector and predictor (section 3.3)")
    projection_dim: int = Field(256, ge=1, description="output width of projector and predictor (section 3.3)")
    tau_base: float = Field(ge=0, le=1, description="target momentum at the first step")
    tau_schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="cosine: tau rises to 1 as a half cosine (section 3.2); constant: it stays at tau_base"
    )

    @model_serializer(mode="wrap")
    def _leave_out_the_papers_schedule(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `tau_schedule` if it is the paper's: keys of jobs from before the field existed stay valid."""
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name != "tau_schedule" or value != "cosine"}


class SimclrArgs(Args):
    """SimCLR (arXiv:2002.05709)."""

    hidden_dim: int = Field(ge=1, description="hidden width of the projector; the paper's is the feature's, 2048")
    projection_dim: int = Field(128, ge=1, description="output width of the projector (section 2.1)")
    temperature: float = Field(gt=0, description="of NT-Xent (section 2.1, equation 1)")


class SimsiamArgs(Args):
    """SimSiam (arXiv:2011.10566)."""

    projection_dim: int = Field(2048, ge=1, description="width of the projector's three layers (section 3)")
    hidden_dim: int = Field(512, ge=1, description="width of the predictor's bottleneck, a quarter (section 3)")


class KeyQueueArgs(Args):
    """What methods with a momentum encoder and a queue of keys have in common (MoCo, arXiv:1911.05722)."""

    hidden_dim: int = Field(ge=1, description="hidden width of a projection head; the paper's is the feature's, 2048")
    projection_dim: int = Field(128, ge=1, description="output width of a projection head (section 3.3)")
    temperature: float = Field(gt=0, description="of InfoNCE (equation 1)")
    momentum: float = Field(ge=0, le=1, description="m of the key encoder, constant (equation 2)")
    queue_size: int = Field(ge=1, description="K, keys in a queue; never more than half of the training images")
    bn_splits: int = Field(
        ge=1,
        description="number of groups that are normalised separately, in place of the devices of shuffle-BN (section "
        "3.3); keys are grouped at random, queries in the order of the batch; 1 normalises over the whole batch",
    )


class MocoV2Args(KeyQueueArgs):
    """MoCo v2 (arXiv:2003.04297)."""


class LoocArgs(KeyQueueArgs):
    """LooC (arXiv:2008.05659)."""

    augmentations: int = Field(
        ge=1, description="n, as many as the views share one by one; there are n + 1 embedding spaces"
    )


class RotPredArgs(Args):
    """Rot-Pred (arXiv:1803.07728)."""

    init_std: float = Field(0.01, gt=0, description="of the classifier's normal initialisation (mmselfsup)")


class RelLocArgs(Args):
    """Rel-Loc (arXiv:1505.05192), in the form of openmixup and mmselfsup."""

    hidden_dim: int = Field(ge=1, description="hidden width of the head; 4096 there, for two features of 2048")
    dropout: float = Field(0.5, ge=0, lt=1, description="before the last layer (mmselfsup)")
    hidden_std: float = Field(0.01, gt=0, description="normal initialisation of the hidden layer (mmselfsup)")
    head_std: float = Field(0.005, gt=0, description="normal initialisation of the last layer (mmselfsup)")


class InsLocArgs(KeyQueueArgs):
    """InsLoc (arXiv:2102.08318), C4 form."""

    roi_side: int = Field(ge=1, description="side of RoIAlign's output; as the map of layer3, 14 at 224 px")


class AlignmentArgs(Args):
    """CVSA's cross-view saliency alignment. The paper leaves every point here open but the weight (1:1)."""

    hidden_dim: int = Field(ge=1, description="channels inside g_conv, the convolutional projector")
    dim: int = Field(ge=1, description="channels C of its output, and of p_conv's")
    similarity: Literal["cosine", "raw", "sqrt"] = Field(
        description="what enters the sigmoid: cosine x scale, plain dot product, or dot product / sqrt(C)"
    )
    scale: float = Field(gt=0, description="factor of the cosine; without one A stays within [.27, .73]")
    mask: Literal["soft", "binary"] = Field(description="M as the saliency map is, or cut at one half")
    symmetric: bool = Field(description="both (query, key) directions, summed as BYOL sums its loss; or view 1 only")
    weight: float = Field(1.0, ge=0, description="of L_Align; the paper adds the two losses without a weight")


class PhotometryArgs(Args):
    """Colour changes of one view, in BYOL's order: jitter, greyscale, blur, solarise (arXiv:2006.07733, appendix B)."""

    brightness: float = Field(ge=0)
    contrast: float = Field(ge=0)
    saturation: float = Field(ge=0)
    hue: float = Field(ge=0, le=0.5)
    jitter_p: float = Field(ge=0, le=1)
    gray_p: float = Field(ge=0, le=1)
    blur_p: float = Field(ge=0, le=1)
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="pixels, drawn uniformly")
    blur_kernel: float = Field(0.1, gt=0, description="kernel side as a share of the image side (23 of 224)")
    solarize_p: float = Field(0.0, ge=0, le=1)


class ViewArgs(Args):
    """What every kind of view has: colour changes, one entry per view, and the flip."""

    photometry: tuple[PhotometryArgs, ...] = Field(min_length=1, description="colour changes, one entry per view")
    flip_p: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")


class RandomResizedCropArgs(ViewArgs):
    """Random-resized crops (Szegedy et al. 2015, arXiv:1409.4842)."""

    scale: float = Field(gt=0, le=1, description="smallest area of a crop, as a share of the image")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="width / height, drawn log-uniformly")
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"


class SharedAugmentationArgs(RandomResizedCropArgs):
    """LooC's views: query, k_0, and one key for each augmentation that it shares with the query."""

    photometry: tuple[PhotometryArgs] = Field(description="one entry, the same distribution for every view")
    shared: tuple[Literal["rotation", "colour"], ...] = Field(
        min_length=1,
        description="the n augmentations, in the order of k_1 .. k_n. rotation: by 0, 90, 180 or 270 degrees, absent "
        "from all views where not listed; colour: jitter and greyscale. All others are sampled for every view",
    )

    @field_validator("shared")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"expected each augmentation once, found {', '.join(value)}")
        return value


class RotationsArgs(RandomResizedCropArgs):
    """All four rotations of a random-resized crop (arXiv:1803.07728)."""

    photometry: tuple[PhotometryArgs] = Field(description="one entry; the published recipe changes no colours")


class PatchesArgs(ViewArgs):
    """Patches on a 3 x 3 grid (arXiv:1505.05192). Lengths in pixels, whatever the network's input size."""

    photometry: tuple[PhotometryArgs] = Field(description="one entry, drawn once per image for all of its patches")
    flip_p: float = Field(0.0, ge=0, le=1, description="of the image before it is cut; the published recipe has none")
    resize: float = Field(ge=1, description="short side of the image over the side of the grid's square")
    grid_side: int = Field(ge=3, description="side of the square of 3 x 3 cells, px")
    patch_side: int = Field(ge=1, description="px; what a cell is larger by is the room for the jitter")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _consistent(self) -> PatchesArgs:
        if self.grid_side % 3 or self.patch_side > self.grid_side // 3:
            raise ValueError(
                f"expected grid_side, a multiple of 3, to hold 3 x 3 patches, found {self.grid_side} and patch_side "
                f"{self.patch_side}"
            )
        if self.photometry[0].blur_p > 0:
            raise ValueError("expected blur_p 0: patches are changed side by side, and a blur would mix them")
        return self


class DiloArgs(RandomResizedCropArgs):
    """DiLo's views (arXiv:2004.06638): crops of images that may have lost their background."""

    composite_p: float = Field(ge=0, le=1, description="of a grey background, per view")
    blur_p: float = Field(ge=0, le=1, description="of a blurred saliency map, among those with a grey background")
    blur_sigma: float = Field(gt=0, description="of that blur, as a share of the image's short side")


class BoxAugmentationArgs(Args):
    """InsLoc's anchors in place of the query's box. Defaults are the official code's, for 256 px and a stride of 16."""

    grid: int = Field(16, ge=1, description="anchors' places per side of the view; their distance is the stride")
    scales: tuple[float, ...] = Field(
        (2.0, 4.0, 8.0, 16.0), min_length=1, description="sides of square anchors, in strides"
    )
    ratios: tuple[float, ...] = Field((0.5, 0.75, 1.0, 1.5, 2.0), min_length=1, description="height / width")
    iou: float = Field(0.5, ge=0, lt=1, description="overlap with the true box that an anchor has to pass")
    fallback: int = Field(4000, ge=1, description="anchors with the highest IoU that are kept if none passes, of 5120")
    nms: float = Field(0.7, ge=0, le=1, description="IoU above which non-maximum suppression removes an anchor")


class InstanceCompositionArgs(ViewArgs):
    """InsLoc's views (arXiv:2102.08318): a crop pasted into another image, with its box."""

    scale: float = Field(gt=0, le=1, description="smallest area of a crop, as a share of the image")
    ratio: tuple[float, float] = Field((0.5, 2.0), description="width / height of the crop, drawn log-uniformly")
    paste: tuple[float, float] = Field(
        (128 / 256, 255 / 256), description="width and height the crop is fitted to, as shares of the view's side"
    )
    augment_boxes: tuple[bool, ...] = Field((True, False), description="per view; the query's box, not the key's")
    anchors: BoxAugmentationArgs = BoxAugmentationArgs()
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _consistent(self) -> InstanceCompositionArgs:
        if len(self.augment_boxes) != len(self.photometry):
            raise ValueError(
                f"expected one augment_boxes per view, found {len(self.augment_boxes)} for {len(self.photometry)} views"
            )
        if not 0 < self.paste[0] <= self.paste[1] < 1:
            raise ValueError(f"expected paste to rise within (0, 1), found {self.paste}")
        return self


class SaliencySwapArgs(ViewArgs):
    """CVSA's Saliency Swap. Points the paper leaves open are fields."""

    scale: float = Field(gt=0, le=1, description="s: smallest area of a crop, as a share of the salient box")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="width / height of the crop, log-uniform")
    canvas: Literal["square", "squash"] = Field(
        "square",
        description="background becomes square by a random largest square crop that keeps as much of its salient box "
        "as fits, or by resizing the whole image",
    )
    mask: Literal["saliency", "rectangle"] = Field(
        "saliency", description="M inside the pasted box: the reference's saliency, or all ones (ablation)"
    )
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
