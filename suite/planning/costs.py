"""Cost of a job: images, multiply-adds, seconds and bytes. Pure arithmetic, for plans and for the order of jobs.

Seconds come, in this order, from the throughput of finished jobs of the same kind on this kind of device ("measured");
from what `suite bench` measured of the same kind ("benchmarked"); from the multiply-adds per second that finished jobs
of other kinds reached, or else those of `suite bench` ("calibrated"); from the rates in experiments/costs.yaml
("assumed").
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from suite.grid.spec import EXPERIMENTS
from suite.jobs.identity import Job, JobSpec
from suite.kinds.base import TRAINING_STEP, DataJobSpec, Size
from suite.kinds.registry import TrainingSpec, kind_of

Source = Literal["measured", "benchmarked", "calibrated", "assumed"]

_BYTES = 4  # of a 32-bit number


class Preparation(BaseModel):
    """Core-seconds per image of the work before the first job: experiments/costs.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decode: float
    check: float
    maps: Mapping[str, float]  # by detector


class Rates(BaseModel):
    """Multiply-adds per second where nothing has been measured: experiments/costs.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu_thread: float
    gpu: Mapping[str, float]  # by precision
    overhead_seconds: float  # of any job: opening data, building networks, writing weights
    preparation: Preparation


@dataclass(frozen=True)
class Speed:
    """Throughput of a finished job, or by `suite bench`; a line of `<runs>/throughput.jsonl`."""

    like: str  # `throughput_key` of its spec
    device: str  # "cpu" or "cuda"
    images_per_second: float
    multiply_adds: float  # per image
    devices: int = 1  # that reached it together
    bench: bool = False  # by `suite bench`
    card: str = ""  # name of the GPU, where it is known


@dataclass(frozen=True)
class Estimate:
    """Expected seconds of a job, and how they are known."""

    seconds: float
    source: Source


@dataclass(frozen=True)
class Machine:
    """On what a job runs: one of `workers` groups of `devices` processes, with so many threads or one GPU each."""

    device: Literal["cpu", "cuda"]
    workers: int
    threads: int = 1
    devices: int = 1
    card: str = ""  # name of the (first) GPU, where it is known

    def devices_for(self, spec: JobSpec) -> int:
        """Number of devices of a job: all of a group if the job has epochs, otherwise one."""
        return self.devices if kind_of(spec).trains else 1


@cache
def rates() -> Rates:
    """The assumed rates, with their sources in the file."""
    return Rates.model_validate(yaml.safe_load((EXPERIMENTS / "costs.yaml").read_text("utf-8")))


def throughput_key(spec: JobSpec) -> str:
    """Jobs with equal keys run at the same speed on the same device: what is computed per image, not how long."""
    parts: list[object] = [spec.kind]
    if isinstance(spec, DataJobSpec):
        parts += [*spec.backbone.model_dump().values(), spec.image_size]
    return " ".join(str(part) for part in (*parts, *kind_of(spec).throughput_key(spec)))


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
        if machine.card:  # another card's speed says less than what this one reached in other jobs
            here = [speed for speed in here if speed.card == machine.card] or here
        self._alike: dict[tuple[str, int], list[float]] = {}
        self._benchmarked: dict[tuple[str, int], float] = {}  # the latest: hardware and settings may have changed
        for speed in here:
            if speed.bench:
                self._benchmarked[speed.like, speed.devices] = speed.images_per_second
            else:
                self._alike.setdefault((speed.like, speed.devices), []).append(speed.images_per_second)
        trained = [speed for speed in here if speed.like.split()[0] in {"pretrain", "finetune"}]
        trained = [speed for speed in trained if not speed.bench] or trained
        # of one device
        per_second = [speed.images_per_second * speed.multiply_adds / speed.devices for speed in trained]
        self._reached = statistics.median(per_second) if per_second else None

    def estimate(self, spec: JobSpec) -> Estimate:
        """Expected seconds."""
        assumed = rates()
        if not isinstance(spec, DataJobSpec):
            return Estimate(assumed.overhead_seconds, "assumed")
        kind = kind_of(spec)
        size = self._sizes[spec.data.name]
        images = kind.images(spec, size) + kind.measured_images(spec, size) / TRAINING_STEP
        machine, devices = self.machine, self.machine.devices_for(spec)
        if self._alike or self._benchmarked:  # the key is not cheap for tens of thousands of jobs
            like = throughput_key(spec), devices
            if alike := self._alike.get(like):
                return Estimate(assumed.overhead_seconds + images / statistics.median(alike), "measured")
            if (rate := self._benchmarked.get(like)) is not None:
                return Estimate(assumed.overhead_seconds + images / rate, "benchmarked")
        work = images * kind.macs(spec)
        if self._reached is not None:
            return Estimate(assumed.overhead_seconds + work / (self._reached * devices), "calibrated")
        precision = spec.train.precision if isinstance(spec, TrainingSpec) else "32-true"
        reach = assumed.cpu_thread * machine.threads if machine.device == "cpu" else assumed.gpu[precision]
        return Estimate(assumed.overhead_seconds + work / (reach * devices), "assumed")

    def bytes_of(self, spec: JobSpec) -> int:
        """Disk that stays in use once the job is finished: its weights."""
        size = self._sizes[spec.data.name] if isinstance(spec, DataJobSpec) else Size(0, 0, 0)
        return kind_of(spec).weights(spec, size) * _BYTES


def wall_clock(jobs: Sequence[Job], seconds: Mapping[str, float], workers: int) -> float:
    """Seconds until all are done when `workers` take ready jobs, longest path first."""
    import heapq

    from suite.jobs.order import ReadyJobs

    ready = ReadyJobs(jobs, seconds)
    running: list[tuple[float, str, Job]] = []
    now = 0.0
    while ready or running:
        while len(running) < workers and (job := ready.pop()) is not None:
            heapq.heappush(running, (now + seconds[job.key], job.key, job))
        now, _, done = heapq.heappop(running)
        ready.mark_done(done)
    return now
