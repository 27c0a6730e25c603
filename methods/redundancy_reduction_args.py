"""Settings of objectives that reduce redundancy between the dimensions of an embedding: Barlow Twins, VICReg.

As in methods/args.py, nothing here imports torch.
"""

from __future__ import annotations

from pydantic import Field

from methods.args import Args


class BarlowTwinsArgs(Args):
    """Barlow Twins (arXiv:2103.03230)."""

    width: int = Field(8192, ge=1, description="of the projector's three layers (section 2.2)")
    off_diagonal: float = Field(0.0051, ge=0, description="lambda of equation 1 (official code)")
    scale: float = Field(
        0.024,
        gt=0,
        description="factor of the loss. LARS does not see it in weights; biases and batch normalisation then learn at "
        "base_lr times it: .2 x .024 is the paper's .0048 for them (section 2.2)",
    )


class VicregArgs(Args):
    """VICReg (arXiv:2105.04906)."""

    width: int = Field(8192, ge=1, description="of the expander's three layers (section 4.2)")
    invariance: float = Field(25.0, ge=0, description="lambda of equation 6")
    variance: float = Field(25.0, ge=0, description="mu of equation 6, of the sum over both views")
    covariance: float = Field(1.0, ge=0, description="nu of equation 6")
