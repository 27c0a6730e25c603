"""What a job will cost: images, multiply-adds, seconds and bytes. Pure arithmetic, for plans and for the order of jobs.

Seconds come, in this order, from the throughput of finished jobs of the same kind on this kind of device ("measured");
from the multiply-adds per second that finished jobs of other kinds reached ("calibrated"); from the rates in
experiments/costs.yaml ("assumed").
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from methods.args import BackboneArgs
from methods.registry import OBJECTIVES
from suite.grid.jobs import (
    BackgroundSpec,
    FinetuneSpec,
    ImportSpec,
    Job,
    JobSpec,
    LocalisationSpec,
    PretrainSpec,
    ProbeSpec,
    TrainingSpec,
)
from suite.grid.spec import EXPERIMENTS

Source = Literal["measured", "calibrated", "assumed"]

_TRAINING_STEP = 3  # multiply-adds of forward and backward pass together, in forward passes
_STEMS = {"imagenet": (7, 2), "half": (3, 2), "small": (3, 1)}  # kernel, stride
_DEPTHS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
_BYTES = 4  # of a 32-bit number
_COUNTERFACTUALS = 5  # kinds of images per test image, the original included


class Rates(BaseModel):
    """Multiply-adds per second where nothing has been measured: experiments/costs.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu_thread: float
    gpu: Mapping[str, float]  # by precision
    overhead_seconds: float  # of any job: opening data, building networks, writing weights


@dataclass(frozen=True)
class Size:
    """A dataset's numbers."""

    train: int
    test: int
    classes: int


@dataclass(frozen=True)
class Speed:
    """What a finished job reached; a line of `<runs>/throughput.jsonl`."""

    like: str  # `likeness` of its spec
    device: str  # "cpu" or "cuda"
    images_per_second: float
    multiply_adds: float  # per image


@dataclass(frozen=True)
class Estimate:
    """Expected seconds of a job, and how they are known."""

    seconds: float
    source: Source


@dataclass(frozen=True)
class Machine:
    """On what a job runs: one of `workers` processes, with so many threads or GPUs."""

    device: Literal["cpu", "cuda"]
    workers: int
    threads: int = 1
    devices: int = 1


@cache
def rates() -> Rates:
    """The assumed rates, with their sources in the file."""
    return Rates.model_validate(yaml.safe_load((EXPERIMENTS / "costs.yaml").read_text("utf-8")))


@cache
def resnet(args: BackboneArgs, side: int) -> tuple[int, int]:
    """Multiply-adds of one forward pass over a square image of `side` px, and trainable parameters; of
    methods/backbone.py's network, convolutions and batch normalisation counted as torch counts them."""
    multiply_adds = parameters = 0

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> int:
        nonlocal multiply_adds, parameters
        size = (size + 2 * (kernel // 2) - kernel) // stride + 1
        weights = inputs * outputs * kernel**2
        multiply_adds += weights * size**2
        parameters += weights + 2 * outputs  # with the batch normalisation behind it
        return size

    kernel, stride = _STEMS[args.stem]
    size = convolution(3, args.width, kernel, stride, side)
    if args.stem == "imagenet":
        size = (size - 1) // 2 + 1  # max-pooling
    bottleneck = args.arch == "resnet50"
    channels = args.width
    for stage, depth in enumerate(_DEPTHS[args.arch]):
        planes = args.width * 2**stage
        outputs = 4 * planes if bottleneck else planes
        for block in range(depth):
            stride = 2 if stage and not block else 1
            before = size
            if bottleneck:
                convolution(channels, planes, 1, 1, size)
                size = convolution(planes, planes, 3, stride, size)
                convolution(planes, outputs, 1, 1, size)
            else:
                size = convolution(channels, planes, 3, stride, size)
                convolution(planes, outputs, 3, 1, size)
            if stride != 1 or channels != outputs:
                convolution(channels, outputs, 1, stride, before)
            channels = outputs
    return multiply_adds, parameters


def images_of(spec: JobSpec, size: Size) -> int:
    """Images a job passes through its network, each view of one counted once per image."""
    match spec:
        case PretrainSpec() | FinetuneSpec():
            share = 1 - spec.held_out if isinstance(spec, FinetuneSpec) else 1
            batch = spec.train.batch_size
            return int(size.train * share) // batch * batch * spec.train.epochs
        case ProbeSpec():
            return size.train + size.test
        case LocalisationSpec():
            return 2 * (min(spec.localisation.threshold_images, size.train) + size.test)  # the two networks
        case BackgroundSpec():
            return _COUNTERFACTUALS * size.test
        case ImportSpec():
            return 0


def multiply_adds_of(spec: JobSpec) -> float:
    """Multiply-adds per image in the backbone: heads, alignment and views are not counted."""
    match spec:
        case PretrainSpec():
            side = int(spec.views.args.get("patch_side", spec.image_size))
            known = OBJECTIVES.get(spec.objective.name)
            passes = 2 * _TRAINING_STEP if known is None or known.passes is None else known.passes
            return passes * resnet(spec.backbone, side)[0]
        case FinetuneSpec():
            return _TRAINING_STEP * resnet(spec.backbone, spec.image_size)[0]
        case ProbeSpec() | LocalisationSpec() | BackgroundSpec():
            return resnet(spec.backbone, spec.image_size)[0]
        case ImportSpec():
            return 0.0


def likeness(spec: JobSpec) -> str:
    """Jobs with equal ones run at the same speed on the same device: what is computed per image, not how long."""
    parts: list[Any] = [spec.kind]
    if not isinstance(spec, ImportSpec):
        backbone = spec.backbone
        parts += [backbone.arch, backbone.width, backbone.stem, spec.image_size]
    if isinstance(spec, TrainingSpec):
        parts += [spec.train.batch_size, spec.train.precision]
    if isinstance(spec, PretrainSpec):
        parts += [spec.objective.name, spec.views.name, spec.alignment is not None]
    return " ".join(str(part) for part in parts)


class Costs:
    """Estimates for one machine.

    Args:
        speeds: what finished jobs reached, here or elsewhere.
        machine: on what the jobs are to run.
        sizes: numbers of every dataset.
    """

    def __init__(self, speeds: Iterable[Speed], machine: Machine, sizes: Mapping[str, Size]) -> None:
        self.machine, self._sizes = machine, sizes
        here = [speed for speed in speeds if speed.device == machine.device]
        self._alike: dict[str, list[float]] = {}
        for speed in here:
            self._alike.setdefault(speed.like, []).append(speed.images_per_second)
        trained = [speed for speed in here if speed.like.split()[0] in {"pretrain", "finetune"}]
        per_second = [speed.images_per_second * speed.multiply_adds for speed in trained]
        self._reached = statistics.median(per_second) if per_second else None

    def estimate(self, spec: JobSpec) -> Estimate:
        """Expected seconds."""
        assumed = rates()
        if isinstance(spec, ImportSpec):
            return Estimate(assumed.overhead_seconds, "assumed")
        images = images_of(spec, self._sizes[spec.data.name])
        if alike := self._alike.get(likeness(spec)):
            return Estimate(assumed.overhead_seconds + images / statistics.median(alike), "measured")
        work = images * multiply_adds_of(spec)
        if self._reached is not None:
            return Estimate(assumed.overhead_seconds + work / self._reached, "calibrated")
        precision = spec.train.precision if isinstance(spec, TrainingSpec) else "32-true"
        machine = self.machine
        rate = assumed.cpu_thread * machine.threads if machine.device == "cpu" else assumed.gpu[precision]
        return Estimate(assumed.overhead_seconds + work / (rate * machine.devices), "assumed")

    def bytes_of(self, spec: JobSpec) -> int:
        """Disk that stays in use once the job is finished: its weights."""
        if isinstance(spec, ProbeSpec | LocalisationSpec | BackgroundSpec):
            return 0
        parameters = resnet(spec.backbone, 224)[1]
        if isinstance(spec, FinetuneSpec):
            if spec.held_out:
                return 0
            dim = spec.backbone.width * (32 if spec.backbone.arch == "resnet50" else 8)
            parameters += (dim + 1) * self._sizes[spec.data.name].classes
        return parameters * _BYTES


def wall_clock(jobs: Sequence[Job], seconds: Mapping[str, float], workers: int) -> float:
    """Seconds until all are done when `workers` take ready jobs, longest path first."""
    import heapq

    from suite.grid.order import Ready

    ready = Ready(jobs, seconds)
    running: list[tuple[float, str, Job]] = []
    now = 0.0
    while ready or running:
        while len(running) < workers and (job := ready.pop()) is not None:
            heapq.heappush(running, (now + seconds[job.key], job.key, job))
        now, _, done = heapq.heappop(running)
        ready.done(done)
    return now
