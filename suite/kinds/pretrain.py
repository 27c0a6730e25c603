"""Self-supervised pretraining: its settings and what identifies a job of this kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS
from suite.data.spec import SaliencySpec
from suite.jobs.identity import HeldOut
from suite.jobs.sections import StageArgs
from suite.kinds.base import TRAINING_STEP, DataJobSpec, JobKind, MapsRead, Size, macs, parameters
from suite.kinds.components import Component, typed

# Raise a number when a change of the training code would change results; it enters every key of that kind.
PRETRAIN_VERSION = 1


class PretrainArgs(StageArgs):
    """Self-supervised pretraining."""

    collapse_std: float = Field(ge=0, description="final embedding_std below which the result is marked suspicious")


class PretrainSpec(HeldOut, DataJobSpec):
    """Self-supervised pretraining on a training split, or on what `held_out` leaves of it."""

    kind: Literal["pretrain"] = "pretrain"
    version: int = PRETRAIN_VERSION
    objective: Annotated[Component, BeforeValidator(typed(OBJECTIVES))]
    views: Annotated[Component, BeforeValidator(typed(VIEWS))]
    alignment: Annotated[Component | None, BeforeValidator(typed({"saliency": ALIGNMENT}))]
    saliency: SaliencySpec | None
    train: PretrainArgs
    init: str | None  # key of the job whose backbone this one starts from

    @property
    def shuffle_bn_groups(self) -> int | None:
        """Groups of a batch that are normalised apart (shuffle-BN); None if the objective has none."""
        return getattr(self.objective.args, "bn_splits", None)


class Pretrain(JobKind[PretrainSpec]):
    """Self-supervised pretraining of a backbone."""

    name = "pretrain"
    spec = PretrainSpec
    loop = "suite.training.pretrain:run"
    trains = True

    def maps(self, spec: PretrainSpec) -> Iterator[MapsRead]:
        """Those of the training images, where the views read any."""
        if spec.saliency is not None:
            yield MapsRead(spec.data, spec.saliency, "train")

    def images(self, spec: PretrainSpec, size: Size) -> int:
        """Whole batches of every epoch."""
        return size.train // spec.train.batch_size * spec.train.batch_size * spec.train.epochs

    def macs(self, spec: PretrainSpec) -> float:
        """As many forward passes as the registry gives for the objective; of an unknown one two views are assumed."""
        side = int(getattr(spec.views.args, "patch_side", spec.image_size))
        entry = OBJECTIVES.get(spec.objective.name)
        passes = 2 * TRAINING_STEP if entry is None or entry.passes is None else entry.passes
        return passes * macs(spec.backbone, side)

    def throughput_key(self, spec: PretrainSpec) -> tuple[object, ...]:
        """Batch size, precision, objective, views, alignment."""
        train = spec.train
        return train.batch_size, train.precision, spec.objective.name, spec.views.name, spec.alignment is not None

    def weights(self, spec: PretrainSpec, size: Size) -> int:
        """The backbone."""
        return parameters(spec.backbone)
