"""Background reliance: top-1 on test images whose object or background has been exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from suite.data.spec import SaliencySpec
from suite.jobs.identity import Job
from suite.jobs.sections import Section
from suite.kinds.base import DataJobSpec, MapsRead, MeasuredCell, Protocol, Size, macs

BACKGROUND_VERSION = 1

_COUNTERFACTUALS = 5  # kinds of images per test image, the original included


class BackgroundArgs(Section):
    """Background reliance of the fine-tuned network (Xiao et al. 2020, arXiv:2006.09994)."""

    fill: Literal["tile", "mean"] = Field(
        description="what takes the object's place: the largest strip of background beside its box, repeated; or the "
        "mean colour outside the box"
    )


class BackgroundSpec(DataJobSpec):
    """Top-1 of a fine-tuned network on test images whose object or background has been exchanged."""

    kind: Literal["background"] = "background"
    version: int = BACKGROUND_VERSION
    eval_resize: float  # as fine-tuning tests
    saliency: SaliencySpec  # says what is object and what is background
    background: BackgroundArgs
    finetune: str  # key of the job whose network is tested


class Background(Protocol[BackgroundSpec]):
    """Background reliance of the fine-tuned network."""

    name = "background"
    spec = BackgroundSpec
    loop = "suite.training.background:run"
    args = BackgroundArgs
    needs_saliency = True

    def job(self, args: BackgroundArgs, cell: MeasuredCell) -> Job | None:
        """The fine-tuned network on exchanged images;

        None without a fine-tuned network, or without a saliency detector in the recipe.
        """
        if cell.saliency is None or cell.finetuned is None:
            return None
        spec = BackgroundSpec(
            eval_resize=cell.eval_resize,
            saliency=cell.saliency,
            background=args,
            finetune=cell.finetuned.key,
            **cell.shared,
        )
        return Job(spec, f"background {cell.name}", cell.parents(pretrained=False, finetuned=True))

    def maps(self, spec: BackgroundSpec) -> Iterator[MapsRead]:
        """Those of the test images, which say what is object and what is background."""
        yield MapsRead(spec.data, spec.saliency, "test")

    def images(self, spec: BackgroundSpec, size: Size) -> int:
        """Every kind of counterfactual of every test image."""
        return _COUNTERFACTUALS * size.test

    def macs(self, spec: BackgroundSpec) -> float:
        """A forward pass."""
        return macs(spec.backbone, spec.image_size)
