"""Settings of multi-crop views and of the objectives that were published with them: DINO, SwAV.

As in methods/args.py, nothing here imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from methods.args import Args, PhotometryArgs, ViewArgs


class MultiCropArgs(ViewArgs):
    """Multi-crop (SwAV, arXiv:2006.09882, section 3.3): two global crops and several local, smaller ones."""

    photometry: tuple[PhotometryArgs, PhotometryArgs, PhotometryArgs] = Field(
        description="of the first global crop, of the second one, and of every local crop"
    )
    global_scale: tuple[float, float] = Field(description="area of a global crop, as a share of the image")
    local_scale: tuple[float, float] = Field(description="area of a local crop, as a share of the image")
    local_crops: int = Field(ge=1, description="number of local crops")
    local_size: int = Field(ge=1, description="side of a local crop, px; a global crop has the network's input size")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="width / height, drawn log-uniformly")
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    @field_validator("global_scale", "local_scale")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= 1:
            raise ValueError(f"expected a smallest and a largest share within (0, 1], found {value}")
        return value


class DinoArgs(Args):
    """DINO (arXiv:2104.14294) with convolutional backbones."""

    hidden_dim: int = Field(2048, ge=1, description="of the head's two hidden layers (appendix C)")
    bottleneck_dim: int = Field(256, ge=1, description="of the head's normalised output (appendix C)")
    outputs: int = Field(ge=1, description="K, outputs of the last layer; 65536 in the paper")
    head_bn: bool = Field(False, description="batch normalisation in the hidden layers (official code: use_bn_in_head)")
    student_temperature: float = Field(0.1, gt=0, description="tau_s (section 3.1)")
    teacher_temperature: float = Field(0.07, gt=0, description="tau_t after the warm-up (section 3.1)")
    warmup_temperature: float = Field(0.04, gt=0, description="tau_t of the first epoch (section 3.1)")
    warmup_temperature_epochs: int = Field(30, ge=0, description="epochs in which tau_t rises; 0: no warm-up")
    freeze_epochs: int = Field(1, ge=0, description="epochs in which the last layer is not trained (official code)")
    center_momentum: float = Field(0.9, ge=0, le=1, description="m of the centre (equation 4)")
    tau_base: float = Field(ge=0, le=1, description="teacher momentum at the first step; a half cosine brings it to 1")


class SwavArgs(Args):
    """SwAV (arXiv:2006.09882)."""

    hidden_dim: int = Field(2048, ge=1, description="of the projector (official code)")
    projection_dim: int = Field(128, ge=1, description="of the embeddings (appendix A)")
    prototypes: int = Field(3000, ge=2, description="K (appendix A)")
    temperature: float = Field(0.1, gt=0, description="tau of equation 2")
    epsilon: float = Field(0.05, gt=0, description="of equation 3")
    iterations: int = Field(3, ge=1, description="of the Sinkhorn-Knopp algorithm (section 3.1)")
    queue_size: int = Field(
        0, ge=0, description="earlier embeddings of each global crop that codes are made with; 0: none"
    )
    queue_start: int = Field(15, ge=0, description="epochs after which the queue is filled; it is used once it is full")
    freeze_epochs: int = Field(1, ge=0, description="epochs in which the prototypes are not trained (official code)")
