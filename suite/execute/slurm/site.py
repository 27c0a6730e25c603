"""A site file: what one cluster wants to be told about a job. `experiments/sites/example.yaml` explains every field."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from suite.errors import UsageError, unknown
from suite.grid.spec import EXPERIMENTS
from suite.grid.validate import read_yaml, validated
from suite.kinds.registry import KINDS
from suite.paths import user_path
from suite.planning.costs import Machine


class Resources(BaseModel):
    """The resources of one Slurm job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(0, ge=0, description="one task per GPU; 0: on the CPU")
    cpu_tasks_per_node: int = Field(1, ge=1, description="without GPUs: processes per node that train a job together")
    cpus_per_task: int = Field(ge=1, description="cores; those that no loader has are threads")
    loaders: int | None = Field(None, ge=0, description="threads per task that make batches ahead")
    mem_gb: float = Field(gt=0, description="per node")

    @property
    def loaders_per_task(self) -> int:
        """`loaders`, or with a GPU all cores of a task but one; without a GPU training keeps the cores busy."""
        if self.loaders is not None:
            return self.loaders
        return max(1, self.cpus_per_task - 1) if self.gpus_per_node else 0

    @property
    def threads(self) -> int:
        """Per process. On a CPU loaders have cores of their own, so that their number changes no result."""
        return self.cpus_per_task if self.gpus_per_node else max(1, self.cpus_per_task - self.loaders_per_task)

    @property
    def tasks_per_node(self) -> int:
        """Processes on each node."""
        return self.gpus_per_node or self.cpu_tasks_per_node

    @property
    def devices(self) -> int:
        """Processes that train one job together."""
        return self.nodes * self.tasks_per_node


class TimeLimit(BaseModel):
    """From an estimate to a limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: float = Field(2.0, ge=1, description="limit over estimate")
    min_minutes: int = Field(15, ge=1)
    max_minutes: int = Field(1440, ge=1, description="longer jobs are requeued at the limit and resume")

    @model_validator(mode="after")
    def _consistent(self) -> TimeLimit:
        if self.min_minutes > self.max_minutes:
            raise ValueError(f"expected min_minutes up to max_minutes, found {self.min_minutes} > {self.max_minutes}")
        return self


class Site(Resources):
    """A cluster: the resources of every job, other resources of some kinds of jobs, and habits."""

    by_kind: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)  # by names of suite.kinds.registry.KINDS
    time: TimeLimit = TimeLimit()
    grace_seconds: int = Field(120, ge=1, description="from the signal to the limit")
    signal: Literal["USR1", "USR2"] = "USR1"
    array_largest: int = Field(1000, ge=1)
    array_at_once: int = Field(64, ge=1)
    requeues: int = Field(100, ge=0)
    poll_seconds: float = Field(10.0, gt=0)
    setup: tuple[str, ...] = ()
    options: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _time_to_save(self) -> Site:
        if self.grace_seconds >= 60 * self.time.min_minutes:
            raise ValueError(
                f"expected grace_seconds below the shortest limit, found {self.grace_seconds} s of "
                f"time.min_minutes {self.time.min_minutes}"
            )
        return self

    def resources(self, kind: str) -> Resources:
        """The resources of a job of this kind. A job without epochs runs in one process, so it gets one device."""
        shared = self.model_dump(include=set(Resources.model_fields))
        if not KINDS[kind].trains:
            shared |= {"nodes": 1, "cpu_tasks_per_node": 1, "gpus_per_node": min(1, self.gpus_per_node)}
        of_kind: Mapping[str, Any] = self.by_kind.get(kind, {})
        return Resources(**{**shared, **of_kind})

    def with_loaders(self, loaders: int | None) -> Site:
        """The same cluster with `loaders` per task, for which tasks ask for cores beside those of training."""
        if loaders is None:
            return self

        def changed(used: Resources) -> dict[str, int]:
            extra = loaders - used.loaders_per_task
            return {
                "loaders": loaders,
                "cpus_per_task": max(used.cpus_per_task, loaders + 1)
                if used.gpus_per_node
                else used.cpus_per_task + extra,
            }

        by_kind = {kind: {**own, **changed(self.resources(kind))} for kind, own in self.by_kind.items()}
        return self.model_copy(update={**changed(self), "by_kind": by_kind})

    def minutes(self, seconds: float) -> int:
        """Limit for a job that is expected to take `seconds`. Few different ones, so that jobs can share an array."""
        wanted = math.ceil((seconds * self.time.factor + self.grace_seconds) / 60)
        limit = self.time.min_minutes
        while limit < min(wanted, self.time.max_minutes):
            limit *= 2
        return min(limit, self.time.max_minutes)

    def machine(self, workers: int | None = None) -> Machine:
        """The device of a pretraining job, for estimates of time."""
        used = self.resources("pretrain")
        device: Literal["cpu", "cuda"] = "cuda" if used.gpus_per_node else "cpu"
        return Machine(device, workers or self.array_at_once, used.cpus_per_task, used.devices)


def load_site(name_or_file: str | None) -> Site:
    """Read a site file, or one of experiments/sites by its name; `None` means $SUITE_SITE.

    Raises:
        UsageError: no such file or field, with the nearest match.
    """
    given = name_or_file or os.environ.get("SUITE_SITE")
    shipped = EXPERIMENTS / "sites"
    if given is None:
        raise UsageError(
            "--executor slurm needs to know the cluster: --site FILE, or $SUITE_SITE. Copy and adapt "
            f"{shipped / 'example.yaml'}"
        )
    if Path(given).suffix in {".yaml", ".yml"}:
        path = user_path(given, "--site")
    else:
        path = shipped / f"{given}.yaml"
        if not path.is_file():
            raise unknown("site", given, [file.stem for file in shipped.glob("*.yaml")], "A path must end in .yaml.")
    if not path.is_file():
        raise UsageError(f"site file {path} does not exist. Copy and adapt {shipped / 'example.yaml'}")
    site = validated(Site, read_yaml(path), str(path))
    needed = site.model_dump(include=set(Resources.model_fields))
    for kind, of_kind in site.by_kind.items():
        if kind not in KINDS:
            raise unknown(f"kind of job in {path}, by_kind:", kind, KINDS)
        validated(Resources, {**needed, **of_kind}, f"{path}: by_kind.{kind}")
    return site
