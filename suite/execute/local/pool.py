"""A worker process of the local engine: the handle in the parent, and the loop in the child."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.ddp.spawned import SpawnedRanks, end_with_parent
from suite.execute.signals import block_signals, ignore_signals
from suite.execute.variables import job_variables
from suite.jobs.identity import Job
from suite.output import protect_streams

CONTEXT = multiprocessing.get_context("spawn")


def flag() -> Any:
    """A truth value in shared memory. Not an Event: a worker killed while it holds the Event's lock would block all
    others for ever."""
    return CONTEXT.RawValue(ctypes.c_bool, False)


class Worker:
    """One process, its pipe, and the job it works on."""

    def __init__(self, paths: RunPaths, device: Device, index: int, stop: Any) -> None:
        self.index = index
        self.job: Job | None = None
        self.leave = flag()  # this worker's job alone
        self.connection, theirs = CONTEXT.Pipe()
        self.process: BaseProcess = CONTEXT.Process(
            target=_serve,
            args=(theirs, (stop, self.leave), paths, device),
            name=f"suite-worker-{index}",
            daemon=device.devices == 1,  # a daemon may not have children, and rank 0 of several has some
        )
        # A Ctrl-C on the terminal reaches the child as well, and it ignores signals only once it runs.
        with _ChildEnvironment(device.threads), block_signals():
            self.process.start()
        theirs.close()

    def give(self, job: Job) -> bool:
        """Send a job; False if the process has ended."""
        self.leave.value = False
        try:
            self.connection.send(job)
        except OSError:
            return False
        self.job = job
        return True

    def dismiss(self) -> None:
        """Tell it that no more jobs will come."""
        with suppress(OSError):
            self.connection.send(None)

    def close(self) -> None:
        """Wait for its end, and end it where that takes long."""
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _ChildEnvironment:
    """The variables of a process that runs jobs, set while a child starts: before any code of the suite runs in it."""

    def __init__(self, threads: int) -> None:
        self.values = job_variables(threads)

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.values}
        os.environ.update(self.values)

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, stops: Sequence[Any], paths: RunPaths, device: Device) -> None:
    """Main loop of a worker: run one job after another until told to end, until the parent has ended, or until an
    error leaves this process unable to run another job."""
    ignore_signals()
    protect_streams()
    threading.Thread(target=end_with_parent, daemon=True).start()
    from suite.execute.worker import run_job
    from suite.plugin import load_plugins

    load_plugins(paths.plugins)
    last = [0.0]

    def report(line: dict[str, float]) -> None:
        if time.monotonic() - last[0] > 0.5:  # many short epochs must not fill the pipe
            last[0] = time.monotonic()
            connection.send(("progress", line))

    def should_stop() -> bool:
        return any(stop.value for stop in stops)

    context = JobContext(paths, device, should_stop, report)
    with closing(SpawnedRanks(device)) as ranks, suppress(EOFError):
        while (job := connection.recv()) is not None:
            end = run_job(job, context, ranks)
            connection.send(("ended", end))
            if end.retire:
                ranks.close()
                os._exit(1)  # the usual way out would touch the broken CUDA context
