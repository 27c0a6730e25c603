"""Jobs on this machine: a few warm processes that each import torch once and run one job after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from suite.errors import UsageError
from suite.execute.context import Device, RunPaths
from suite.execute.drain import drain
from suite.execute.engine import EngineOptions, Listener, Options, Summary
from suite.execute.loaders import default_loaders, steps_ahead
from suite.execute.local.backend import LocalBackend
from suite.execute.local.machine import gpu_count, machine
from suite.jobs.identity import Job
from suite.planning.costs import Machine
from suite.store.store import Store
from suite.training.online import OnlineKnn


@dataclass(frozen=True)
class LocalEngine:
    """This machine: `workers` processes side by side, each of which trains its jobs with `devices` - 1 others."""

    workers: int | None = None
    devices: int = 1
    loaders: int | None = None  # per process; None: `default_loaders`
    starts_at_once = True

    @property
    def machine(self) -> Machine:
        """Workers, threads and devices, without loading torch."""
        return machine(self.workers, self.devices)

    def devices_for(self, kind: str) -> int:
        """The same for all kinds; jobs without epochs use one of the devices."""
        return self.devices

    def executor(self, paths: RunPaths, checkpoint_minutes: float, online: OnlineKnn | None = None) -> LocalExecutor:
        """See `LocalExecutor`."""
        device = Device(
            checkpoint_minutes=checkpoint_minutes,
            devices=self.devices,
            loaders=default_loaders(self.machine) if self.loaders is None else self.loaders,
            steps_ahead=steps_ahead(),
            online=online,
        )
        return LocalExecutor(paths, self.workers, device)


class LocalExecutor:
    """Runs jobs in `workers` processes, each of which trains with `device.devices - 1` others.

    The number of threads per process depends on the machine alone, never on how many jobs are left, so that an
    interrupted run resumes with the same arithmetic.

    Raises:
        UsageError: a job asks for more GPUs than there are.
    """

    def __init__(self, paths: RunPaths, workers: int | None, device: Device) -> None:
        self.gpus = 0 if device.accelerator == "cpu" else gpu_count()
        if self.gpus and device.devices > self.gpus:
            raise UsageError(
                f"--devices {device.devices} asks for {device.devices} GPUs per job, and {self.gpus} can be seen here. "
                f"Use --devices {self.gpus} or less."
            )
        self.paths = paths
        layout = machine(workers, device.devices)
        self.workers = layout.workers
        self.device = replace(device, threads=layout.threads)

    def device_of(self, worker: int) -> Device:
        """The devices of a worker: with G GPUs, worker i takes those from i x devices on, modulo G."""
        groups = max(1, self.gpus // self.device.devices)
        return replace(self.device, gpu=worker % groups * self.device.devices)

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """See `suite.execute.engine.Executor`. Jobs that another run works on are waited for."""
        options = options or Options()
        count = self.workers if options.next_jobs else min(self.workers, len(jobs))
        backend = LocalBackend(self.paths, [self.device_of(index) for index in range(count)])
        return drain(jobs, backend, Store(self.paths.runs), listener, options)


def local_engine(options: EngineOptions) -> LocalEngine:
    """For `suite.execute.engines`."""
    return LocalEngine(options.workers, options.devices, options.loaders)
