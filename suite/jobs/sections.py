"""Building blocks of recipes: an immutable section, an optimiser, a training stage."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


class Section(BaseModel):
    """A part of a recipe: immutable, an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptimizerArgs(Section):
    """Optimiser of one stage."""

    name: Literal["sgd", "lars", "adam"]
    base_lr: float = Field(gt=0, description="at `reference_batch` images; scaled linearly with the batch size")
    reference_batch: int = Field(256, ge=1, description="Goyal et al. 2017, arXiv:1706.02677")
    momentum: float = Field(0.9, ge=0, lt=1, description="of Adam: beta_1; its beta_2 is .999")
    nesterov: bool = False
    weight_decay: float = Field(ge=0)
    eta: float = Field(0.001, gt=0, description="LARS's trust coefficient (arXiv:1708.03888)")


class StageArgs(Section):
    """Length and optimisation of one stage. Learning rate: linear warm-up, then half a cosine to 0, per step."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2, description="of the optimiser step, over all devices")
    warmup_epochs: float = Field(0, ge=0)
    optimizer: OptimizerArgs
    precision: Precision = "32-true"
