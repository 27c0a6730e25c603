"""Supervised fine-tuning of the pretrained network, and its top-1 on the test split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from suite.jobs.sections import StageArgs
from suite.kinds.base import TRAINING_STEP, DataJobSpec, JobKind, Number, Size, dim, macs, parameters

FINETUNE_VERSION = 1


class FinetuneArgs(StageArgs):
    """Supervised fine-tuning of the whole network with a fresh classifier."""

    crop_scale: float = Field(gt=0, le=1, description="smallest area of a training crop")
    eval_resize: float = Field(ge=1, description="short side before the central crop, over the crop's side")
    lr_candidates: tuple[float, ...] = Field(
        (), description="base learning rates to choose from on a held-out part of the training split; none: base_lr"
    )
    held_out: float = Field(0.2, gt=0, lt=1, description="share of every class of the training split to choose on")
    label_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of every class of the training split that is trained on, sampled by the seed",
    )

    @model_serializer(mode="wrap")
    def _leave_out_all_labels(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `label_fraction` if it is 1: keys of jobs from before the field existed stay valid."""
        values: dict[str, Any] = handler(self)
        whole = self.label_fraction == 1
        return {name: value for name, value in values.items() if name != "label_fraction"} if whole else values

    @model_validator(mode="after")
    def _distinct(self) -> FinetuneArgs:
        if len(self.lr_candidates) == 1 or len(set(self.lr_candidates)) < len(self.lr_candidates):
            raise ValueError(
                f"expected lr_candidates to be none or several different rates, found {self.lr_candidates}"
            )
        if any(rate <= 0 for rate in self.lr_candidates):
            raise ValueError(f"expected lr_candidates above 0, found {self.lr_candidates}")
        return self


class FinetuneSpec(DataJobSpec):
    """Supervised fine-tuning on the training split, or on a share of every class of it, measured on the test split.

    With `held_out`, a share of every class is left out of training and measured on instead: the test split is not
    read. `choose_from` holds the keys of such jobs; the learning rate of the best one is then used.
    """

    kind: Literal["finetune"] = "finetune"
    version: int = FINETUNE_VERSION
    train: FinetuneArgs
    init: str | None  # None: random initialisation
    held_out: float = 0
    choose_from: tuple[str, ...] = ()


class Finetune(JobKind[FinetuneSpec]):
    """Supervised fine-tuning of the whole network."""

    name = "finetune"
    spec = FinetuneSpec
    loop = "suite.training.finetune:run"
    trains = True

    def images(self, spec: FinetuneSpec, size: Size) -> int:
        """Whole batches of every epoch."""
        images, batch = int(size.train * spec.train.label_fraction * (1 - spec.held_out)), spec.train.batch_size
        return images // batch * batch * spec.train.epochs

    def measured_images(self, spec: FinetuneSpec, size: Size) -> int:
        """The test split, or the images held out."""
        return round(size.train * spec.train.label_fraction * spec.held_out) if spec.held_out else size.test

    def macs(self, spec: FinetuneSpec) -> float:
        """One view, forward and backward."""
        return TRAINING_STEP * macs(spec.backbone, spec.image_size)

    def throughput_key(self, spec: FinetuneSpec) -> tuple[object, ...]:
        """Batch size and precision."""
        return spec.train.batch_size, spec.train.precision

    def weights(self, spec: FinetuneSpec, size: Size) -> int:
        """Backbone and classifier; a trial on held-out images leaves none."""
        if spec.held_out:
            return 0
        return parameters(spec.backbone) + (dim(spec.backbone) + 1) * size.classes

    def numbers(self, metrics: Mapping[str, float]) -> Iterator[Number]:
        """Top-1 on the test split; a trial on held-out images gives no number."""
        if "top1" in metrics:
            yield Number(self.name, "top1", metrics["top1"])
