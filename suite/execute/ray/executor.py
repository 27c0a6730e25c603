"""Jobs on a Ray cluster, or on KubeRay: one Ray task per job, on a disk that all nodes share (docs/ray.md)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from suite.cores import cores
from suite.errors import StoreError, UsageError
from suite.execute.context import Device, RunPaths
from suite.execute.drain import drain
from suite.execute.engine import Ended, EngineOptions, Event, Listener, Options, Progressed, Summary
from suite.execute.loaders import default_loaders, steps_ahead
from suite.execute.ray.task import StopFlags, run_task
from suite.execute.variables import job_variables
from suite.execute.watch_store import StoreWatch
from suite.jobs.identity import Job
from suite.planning.costs import Machine
from suite.store.store import Failure, Store
from suite.training.online import OnlineKnn

_RETRIES = 3  # attempts after the death of a node or of its process, and after Ray has ended it for want of memory
_CPU_SLOTS = 4  # jobs side by side on a node without GPUs, as the local engine has
_OBJECTS = 100 * 2**20  # bytes of shared memory for Ray's objects on this machine: jobs exchange files, not objects


@dataclass(frozen=True)
class Layout:
    """How a cluster is shared by jobs."""

    workers: int  # jobs side by side
    threads: int  # per process
    gpus: float  # per process


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster.

    Args:
        workers: jobs side by side; by default as many as fit.
        devices: processes that train a job together, on one node.
        address: of a running cluster; without it and without $RAY_ADDRESS, one is started on this machine.
        gpus: GPUs per process, such as 0.5 for two jobs per GPU; 0 uses CPUs only.
        loaders: background threads per process that make batches ahead; by default from the cores of a process.
    """

    workers: int | None = None
    devices: int = 1
    address: str | None = None
    gpus: float | None = None
    loaders: int | None = None
    starts_at_once = True

    @cached_property
    def layout(self) -> Layout:
        """Connects to the cluster. Raises UsageError if it has no node for a job."""
        ray = connected(self.address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return share_cluster(
            [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes],
            self.workers,
            self.devices,
            self.gpus,
        )

    @property
    def machine(self) -> Machine:
        """For estimates of time."""
        kind: Literal["cpu", "cuda"] = "cuda" if self.layout.gpus else "cpu"
        return Machine(kind, self.layout.workers, self.layout.threads, self.devices)

    def devices_for(self, kind: str) -> int:
        """The same for all kinds; jobs without epochs use one of the devices."""
        return self.devices

    def executor(self, paths: RunPaths, checkpoint_minutes: float, online: OnlineKnn | None = None) -> RayExecutor:
        """See `RayExecutor`."""
        accelerator: Literal["cpu", "cuda"] = "cuda" if self.layout.gpus else "cpu"
        process = Machine(accelerator, 1, self.layout.threads, 1)
        device = Device(
            accelerator,
            loaders=default_loaders(process, self.layout.threads) if self.loaders is None else self.loaders,
            steps_ahead=steps_ahead(),
            threads=self.layout.threads,
            checkpoint_minutes=checkpoint_minutes,
            devices=self.devices,
            online=online,
        )
        return RayExecutor(paths.resolved(), self.layout, device)


def ray_engine(options: EngineOptions) -> RayEngine:
    """For `suite.execute.engines`.

    Raises:
        UsageError: Ray is missing, or the GPUs per job make no sense.
    """
    try:
        import ray  # noqa: F401
    except ImportError:
        raise UsageError("--executor ray needs Ray: pip install -e '.[ray]'") from None
    if options.gpus is not None and not 0 <= options.gpus <= 1:
        raise UsageError(
            f"--gpus-per-job expects 0 to 1, got {options.gpus:g}: a process uses one GPU at most. For several GPUs "
            "per job use --devices N."
        )
    if options.devices > 1 and options.gpus not in {None, 0.0, 1.0}:
        raise UsageError("with --devices above 1 every process needs a GPU of its own: leave --gpus-per-job out.")
    return RayEngine(options.workers, options.devices, options.address, options.gpus, options.loaders)


def connected(address: str | None) -> Any:
    """The `ray` module, connected.

    Raises:
        UsageError: no cluster answers at the address.
    """
    import ray

    if ray.is_initialized():
        return ray
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the future behaviour; without it a warning
    os.environ.setdefault("RAY_task_oom_retries", str(_RETRIES))  # Ray's own default is to try for ever
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address or os.environ.get("RAY_ADDRESS"):
            ray.init(address=address, **common)
        else:
            ray.init(address="local", num_cpus=cores(), object_store_memory=_OBJECTS, include_dashboard=False, **common)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise UsageError(f"no Ray cluster answers at {where}: {str(error).splitlines()[0]}") from None
    return ray


def share_cluster(nodes: Sequence[tuple[int, int]], workers: int | None, devices: int, gpus: float | None) -> Layout:
    """How many jobs run side by side, and what each of their processes gets. On one node as the local engine does it.

    Args:
        nodes: CPUs and GPUs of each node.
        workers: jobs side by side, if given.
        devices: processes per job, all on one node.
        gpus: GPUs per process, if given; otherwise one where the cluster has GPUs.

    Raises:
        UsageError: no node has room for one job.
    """
    each = gpus if gpus is not None else float(any(count for _, count in nodes))
    if each:
        slots = [int(count * int(1 / each)) // devices for _, count in nodes]
        what = f"{devices * each:g} GPUs"
    else:
        slots = [max(1, min(_CPU_SLOTS, cpus) // devices) if cpus else 0 for cpus, _ in nodes]
        what = "CPUs"
    used = [(cpus, count) for (cpus, _), count in zip(nodes, slots, strict=True) if count]
    if not used:
        sizes = ", ".join(f"{cpus} CPUs and {count} GPUs" for cpus, count in nodes) or "no node"
        raise UsageError(
            f"no node of the Ray cluster has {what} for a job: it has {sizes}. Use a smaller --devices, or "
            "--gpus-per-job 0 for CPUs; a cluster that grows on demand needs one such node at the start."
        )
    if workers is not None:
        side_by_side = -(-workers // len(used))
        used = [(cpus, side_by_side) for cpus, _ in used]
    threads = min(max(1, cpus // (count * devices)) for cpus, count in used)
    return Layout(workers or sum(count for _, count in used), threads, each)


@dataclass(frozen=True)
class RayExecutor:
    """Runs each job as a Ray task; see `suite.execute.engine.Executor`."""

    paths: RunPaths
    layout: Layout
    device: Device

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """Jobs that another run works on are waited for."""
        backend = RayBackend(self.paths, self.layout, self.device)
        return drain(jobs, backend, Store(self.paths.runs), listener, options or Options())


class RayBackend:
    """See `suite.execute.engine.Backend`. Progress is read from the store, requests to stop go through an actor."""

    keeps_order = False
    stopping = "Ray's tasks save the running jobs (once more to kill)"

    def __init__(self, paths: RunPaths, layout: Layout, device: Device) -> None:
        import ray

        self._ray, self._paths, self._layout, self._device = ray, paths, layout, device
        self._store = Store(paths.runs)
        self._watch = StoreWatch(self._store)
        self._running: dict[Any, Job] = {}  # by Ray's reference to the result
        self._flags = ray.remote(StopFlags).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        self._task = ray.remote(run_task).options(
            num_cpus=device.threads * device.devices,
            num_gpus=layout.gpus * device.devices,
            max_retries=_RETRIES,
            runtime_env={"env_vars": job_variables(device.threads)},
        )

    def idle(self) -> int:
        """Free places."""
        return self._layout.workers - len(self._running)

    def start(self, jobs: Sequence[Job]) -> None:
        """One task per job. Ray lets it wait where the cluster is busy."""
        for job in jobs:
            self._flags.start.remote(job.key)
            self._running[self._task.remote(job, self._paths, self._device, self._flags)] = job

    def events(self, timeout: float) -> Iterator[Event]:
        """Ends from Ray, progress from the store."""
        if not self._running:
            time.sleep(timeout)
            return
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        for event in self._watch.look(self._running.values()):
            if isinstance(event, Progressed):
                yield event
        for reference in ready:
            yield self._ended(self._running.pop(reference), reference)

    def leave(self, job: Job) -> None:
        """Its task reads the request within a second."""
        self._flags.leave.remote(job.key)

    def drop(self, jobs: Sequence[Job], orphaned: bool) -> list[Job]:
        """Nothing: every job that Ray has counts as begun."""
        return []

    def interrupt(self) -> None:
        """Nothing: `events` returns soon in any case."""

    def stop(self) -> None:
        """Every task reads the request within a second; a task that waits for a free node reads it when it starts."""
        self._flags.stop.remote()

    def kill(self) -> None:
        """Nothing: Ray ends the tasks of a driver that has exited."""

    def close(self) -> None:
        """End the actor, and what still runs after an error of the driver."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.kill(self._flags)

    def _ended(self, job: Job, reference: Any) -> Ended:
        try:
            end = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            text = f"Ray could not finish the task: {str(error).strip().splitlines()[0]}"
            with suppress(StoreError):
                log = self._store.log_tail(job.key)
                self._store.describe(job)
                self._store.fail(job.key, Failure(error=text, kind="killed", traceback=str(error), log=log))
            return Ended(job, "failed", text)
        return Ended(job, end.outcome, end.error)
