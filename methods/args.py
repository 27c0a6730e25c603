"""The typed settings of every backbone, objective, view and alignment, without importing torch.

They stand here, not in the files they configure, so that `suite plan` can check and hash a configuration in
milliseconds. The values come from the recipes in experiments/; a field has a default only where its source fixes it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Args(BaseModel):
    """Settings of one building block: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneArgs(Args):
    """A residual network with torchvision's key names (He et al. 2016, arXiv:1512.03385)."""

    arch: Literal["resnet10", "resnet18", "resnet50"] = Field(
        description="resnet10: one basic block per stage; the other two are torchvision's"
    )
    width: int = Field(64, ge=8, description="channels of the first stage; 64 is the published network")
    stem: Literal["imagenet", "small"] = Field(
        "imagenet",
        description="imagenet: 7x7 stride 2 and max-pooling; small: 3x3 stride 1, no pooling, for inputs below 96 px "
        "(He et al. 2016, section 4.2)",
    )
