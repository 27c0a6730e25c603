"""The interface of every kind of job: its spec, its inputs, its cost, its training loop, its results.

A kind is one file with a class that derives from `JobKind`, or from `Protocol` where the job measures a cell, and one
line in `suite.kinds.registry`. A plugin brings one with `suite.plugin.register_protocol`. Nothing here loads torch: the
loop is named as "module:function" and imported by the worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import SerializeAsAny

from methods.args import BackboneArgs
from methods.backbones.registry import cost_of, dim_of
from suite.data.record import Split
from suite.data.spec import DataSpec, SaliencySpec
from suite.jobs.identity import Job, JobSpec
from suite.jobs.sections import Section

TRAINING_STEP = 3  # multiply-adds of a forward and a backward pass together, in forward passes


class DataJobSpec(JobSpec):
    """A job that reads a dataset and passes its images through a backbone."""

    data: DataSpec
    image_size: int
    backbone: SerializeAsAny[BackboneArgs]
    seed: int


class ProtocolSpec(DataJobSpec):
    """A job of a protocol that a plugin brings."""

    init: str | None  # key of the job whose backbone is measured; None: the random initialisation
    code: str | None = None  # SHA-256 of the plugin's file


@dataclass(frozen=True)
class Size:
    """A dataset's numbers of images and classes."""

    train: int
    test: int
    classes: int


@dataclass(frozen=True)
class MapsRead:
    """Saliency maps that a job reads: of which images, and how they are made."""

    data: DataSpec
    saliency: SaliencySpec
    split: Split


@dataclass(frozen=True)
class Number:
    """A metric as results.csv has it."""

    protocol: str
    metric: str
    value: float
    count: str = "n_test"  # of the result's counts: how many images the number rests on


@dataclass(frozen=True)
class MeasuredCell:
    """The part of a cell that a protocol builds its job from."""

    name: str  # for people: "byol cub s0"
    data: DataSpec
    image_size: int
    backbone: BackboneArgs
    seed: int
    eval_resize: float  # of fine-tuning's test: short side before the central crop, over the crop's side
    pretrained: Job | None  # the last stage of pretraining; None: the backbone is untrained
    finetuned: Job | None  # None: the row is frozen, so nothing is fine-tuned
    saliency: SaliencySpec | None  # the detector of the recipe
    masks: SaliencySpec | None  # the official masks, where the dataset has them
    probe: Section | None = None  # settings of the frozen-feature probes (`suite.kinds.probe.ProbeArgs`)

    @property
    def init(self) -> str | None:
        """Key of the job whose backbone is measured; None: the random initialisation that fine-tuning starts from."""
        return None if self.pretrained is None else self.pretrained.key

    @property
    def shared(self) -> dict[str, Any]:
        """The fields of `DataJobSpec`, as keyword arguments of a spec."""
        return {name: getattr(self, name) for name in ("data", "image_size", "backbone", "seed")}

    def parents(self, pretrained: bool = True, finetuned: bool = False) -> tuple[Job, ...]:
        """The jobs that a measurement of the frozen and of the fine-tuned network waits for."""
        stages = (self.pretrained,) if pretrained and self.pretrained is not None else ()
        return (*stages, self.finetuned) if finetuned and self.finetuned is not None else stages


S = TypeVar("S", bound=JobSpec)


class JobKind(ABC, Generic[S]):
    """A kind of job."""

    name: ClassVar[str]  # of the spec's field `kind`
    spec: type[S]
    # "module:function", called with (spec, inputs, session): suite.training.inputs.Inputs and
    # suite.training.session.Session; returns a suite.training.outcome.Outcome. Empty: the job has no loop.
    loop: ClassVar[str]
    trains: ClassVar[bool] = False  # has epochs, so several devices can share its batches

    def maps(self, spec: S) -> Iterable[MapsRead]:
        """The saliency maps that a job reads."""
        return ()

    @abstractmethod
    def images(self, spec: S, size: Size) -> int:
        """Images that a job passes through its network; each view of one counts as the same image."""

    def measured_images(self, spec: S, size: Size) -> int:
        """Images that a training job passes through its network once after training, forward only."""
        return 0

    @abstractmethod
    def macs(self, spec: S) -> float:
        """Multiply-adds per image in the backbone. Heads, alignment and views are not counted."""

    def throughput_key(self, spec: S) -> tuple[object, ...]:
        """Jobs with equal keys run at the same speed on the same device: what is computed per image."""
        return ()

    def weights(self, spec: S, size: Size) -> int:
        """Scalars of the weights that stay on disk once a job is finished."""
        return 0

    def numbers(self, metrics: Mapping[str, float]) -> Iterator[Number]:
        """The rows of results.csv that a job's metrics become."""
        return iter(())


@dataclass(frozen=True)
class Heading:
    """A column of a protocol's table."""

    metric: str  # as in results.csv
    label: str
    group: str = ""  # heading shared with its neighbours


class Protocol(JobKind[S]):
    """A kind of job that measures a cell. Its settings are a section of the recipe with the protocol's name.

    `headings`, `title` and `note` describe its table in the report; without headings it has none of this form.
    """

    args: type[Section]
    # Its jobs read the maps of the recipe's detector, also in rows whose views read none.
    needs_saliency: ClassVar[bool] = False
    title: ClassVar[str] = ""  # "Nearest class mean on frozen features"
    headings: ClassVar[tuple[Heading, ...]] = ()
    note: ClassVar[str] = ""  # sentences for the caption: what is measured, and the source

    # Set by `suite.plugin.register_protocol`:
    plugin: str = ""  # the file's name
    sha256: str | None = None  # of that file; enters the keys of the protocol's jobs
    recipe: Mapping[str, Any] = MappingProxyType({})  # the settings, where no profile has a section for them
    by_profile: Mapping[str, Mapping[str, Any]] = MappingProxyType({})  # laid over `recipe` in that profile

    @abstractmethod
    def job(self, args: Any, cell: MeasuredCell) -> Job | None:
        """The job that measures a cell; None where the cell lacks what the protocol needs.

        Args:
            args: the section of the cell's recipe, an instance of `args`.
            cell: the cell.
        """

    def numbers(self, metrics: Mapping[str, float]) -> Iterator[Number]:
        """All metrics, under the protocol's own name."""
        for metric, value in metrics.items():
            yield Number(self.name, metric, value)


def macs(backbone: BackboneArgs, side: int) -> int:
    """Multiply-adds of one forward pass of a backbone over a square image of `side` pixels."""
    return cost_of(backbone, side).macs


def parameters(backbone: BackboneArgs) -> int:
    """Trainable scalars of a backbone."""
    return cost_of(backbone, 224).parameters


def dim(backbone: BackboneArgs) -> int:
    """Features per image of a backbone."""
    return dim_of(backbone)
