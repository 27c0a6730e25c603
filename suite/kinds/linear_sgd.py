"""A linear classifier trained by SGD on a frozen backbone, the linear evaluation of MoCo and LCR (arXiv:2303.01669)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, model_validator

from suite.jobs.identity import Job
from suite.jobs.sections import Section
from suite.kinds.base import DataJobSpec, Heading, MeasuredCell, Number, Protocol, Size, macs

LINEAR_SGD_VERSION = 1

# Wherever numbers of this protocol are shown.
NOT_COMPARABLE = (
    "LCR's published numbers of such a protocol (arXiv:2303.01669) keep the best test epoch and start from weights "
    "that were trained with ImageNet's labels, so they are not comparable with these, which are of the last epoch."
)


class LinearSgdArgs(Section):
    """Training of the classifier. Augmentation: random resized crop and flip. The rate falls by `factor` at milestones.

    MoCo (arXiv:1911.05722, section 4.1) trains so on ImageNet, LCR on fine-grained sets.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, description="of the first epochs, as it is: it is not scaled with the batch size")
    milestones: tuple[int, ...] = Field(description="epochs after which the rate falls, ascending")
    factor: float = Field(gt=0, lt=1, description="of the rate at each milestone")
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    crop_scale: float = Field(gt=0, le=1, description="smallest area of a training crop")
    eval_resize: float = Field(ge=1, description="short side before the central crop, over the crop's side")

    @model_validator(mode="after")
    def _ascending(self) -> LinearSgdArgs:
        if list(self.milestones) != sorted(set(self.milestones)) or any(m >= self.epochs for m in self.milestones):
            raise ValueError(f"expected milestones that ascend, below epochs ({self.epochs}), found {self.milestones}")
        return self


class LinearSgdSpec(DataJobSpec):
    """A linear classifier on the frozen backbone, trained on the training split, measured once on the test split."""

    kind: Literal["linear_sgd"] = "linear_sgd"
    version: int = LINEAR_SGD_VERSION
    linear_sgd: LinearSgdArgs
    init: str | None  # None: the random initialisation that fine-tuning would start from


class LinearSgd(Protocol[LinearSgdSpec]):
    """Top-1 of the classifier after the last epoch."""

    name = "linear_sgd"
    spec = LinearSgdSpec
    loop = "suite.training.linear_sgd:run"
    args = LinearSgdArgs
    title = "Linear classifier by SGD"
    headings = (Heading("top1", "Linear (SGD)"),)
    note = (
        "Top-1 (%) of a linear classifier on the frozen backbone, trained by SGD on random crops, after the last "
        "epoch. " + NOT_COMPARABLE
    )

    def job(self, args: LinearSgdArgs, cell: MeasuredCell) -> Job:
        """Many passes over the training split with the pretrained backbone."""
        spec = LinearSgdSpec(linear_sgd=args, init=cell.init, **cell.shared)
        return Job(spec, f"linear_sgd {cell.name}", cell.parents())

    def images(self, spec: LinearSgdSpec, size: Size) -> int:
        """Whole batches of every epoch, and the test split once."""
        batch = spec.linear_sgd.batch_size
        return size.train // batch * batch * spec.linear_sgd.epochs + size.test

    def macs(self, spec: LinearSgdSpec) -> float:
        """A forward pass: nothing is computed backwards below the classifier."""
        return macs(spec.backbone, spec.image_size)

    def numbers(self, metrics: Mapping[str, float]) -> Iterator[Number]:
        """Top-1 on the test split; the last epoch's training means are none of results.csv's numbers."""
        yield Number(self.name, "top1", metrics["top1"])
