"""The part of a job's spec that identifies its dataset and its saliency maps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from suite.jobs.identity import Spec
from suite.jobs.sections import Section


class DataSpec(Spec):
    """A dataset by content, decoded at a size."""

    name: str
    fingerprint: str
    store_size: int


class SaliencyArgs(Section):
    """Which maps views and measurements read, and how a map becomes a box."""

    detector: Literal["u2netp", "spectral", "boxes", "masks"]
    threshold: float = Field(gt=0, lt=1, description="share of the map's maximum from which on a pixel is salient")
    min_side: float = Field(ge=0, lt=1, description="smaller boxes, as a share of the image's side, count as none")


class SaliencySpec(SaliencyArgs):
    """Saliency maps by detector, its code's version and its weights."""

    version: str
    weights_sha256: str | None
