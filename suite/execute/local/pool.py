"""The warm processes of the local executor, seen from both ends: the parent's handle, and what runs in the child."""

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

from suite.execute.ddp.spawned import Members, end_with_parent
from suite.execute.places import Device, Places
from suite.execute.signals import held_back, left_to_parent
from suite.jobs.identity import Job

CONTEXT = multiprocessing.get_context("spawn")


def flag() -> Any:
    """A shared truth value. Not an Event: that has a lock, and a worker killed while it holds it would stop everybody
    for ever."""
    return CONTEXT.RawValue(ctypes.c_bool, False)


class Worker:
    """One process, its pipe, and the job it works on."""

    def __init__(self, places: Places, device: Device, index: int, stop: Any) -> None:
        self.index = index
        self.job: Job | None = None
        self.leave = flag()  # this worker's job alone
        self.connection, theirs = CONTEXT.Pipe()
        self.process: BaseProcess = CONTEXT.Process(
            target=_serve,
            args=(theirs, (stop, self.leave), places, device),
            name=f"suite-worker-{index}",
            daemon=device.devices == 1,  # a daemon may not have children, which a group's process 0 has
        )
        # A Ctrl-C on the terminal reaches the child as well; it learns to leave that to the parent only once it runs.
        with _ThreadEnvironment(device.threads), held_back():
            self.process.start()
        theirs.close()

    def give(self, job: Job) -> bool:
        """False where the process is gone."""
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


class _ThreadEnvironment:
    """Numerical libraries read their thread count when they load, before any code of ours runs in the child."""

    def __init__(self, threads: int) -> None:
        self.values = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.values}
        os.environ.update(self.values)

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, stops: Sequence[Any], places: Places, device: Device) -> None:
    """A worker's life: take jobs until told to end, or until the parent is gone."""
    left_to_parent()
    threading.Thread(target=end_with_parent, daemon=True).start()
    from suite.execute.worker import run_job
    from suite.plugin import load_plugins

    load_plugins(places.plugins)
    last = [0.0]

    def report(line: dict[str, float]) -> None:
        if time.monotonic() - last[0] > 0.5:  # many tiny epochs must not flood the pipe
            last[0] = time.monotonic()
            connection.send(("progress", line))

    def stopping() -> bool:
        return any(stop.value for stop in stops)

    with closing(Members(device)) as crew, suppress(EOFError):
        while (job := connection.recv()) is not None:
            connection.send(("ended", run_job(job, places, device, stopping, report, crew)))
