"""Jobs on this machine: a few warm processes that each import torch once and take one job after another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any

from suite.errors import StoreError, UsageError
from suite.execute.display import show_cursor
from suite.execute.engine import Listener, Options, Summary
from suite.execute.local.machine import gpu_count, machine
from suite.execute.local.pool import Worker, flag
from suite.execute.places import Device, Places
from suite.execute.signals import handled_by
from suite.jobs.identity import Job
from suite.jobs.order import Ready
from suite.planning.costs import Machine
from suite.store.store import Failure, Store

_LOOK_AGAIN = 1.0  # seconds until a job that another run works on, or a request to stop, is looked at again


@dataclass(frozen=True)
class Here:
    """This machine, with `workers` processes side by side that train each job together with `devices` - 1 others."""

    workers: int | None = None
    devices: int = 1
    starts_at_once = True

    @property
    def machine(self) -> Machine:
        """See `machine`."""
        return machine(self.workers, self.devices)

    def devices_for(self, kind: str) -> int:
        """The same for all: what has no epochs uses one of them."""
        return self.devices

    def executor(self, places: Places, checkpoint_minutes: float) -> LocalExecutor:
        """See `LocalExecutor`."""
        device = Device(checkpoint_minutes=checkpoint_minutes, devices=self.devices)
        return LocalExecutor(places, self.workers, device)


class LocalExecutor:
    """Runs jobs in `workers` processes, each of which trains with `device.devices - 1` others. Threads per process
    depend on the machine alone, never on how much is left, so that an interrupted run goes on with the very same
    arithmetic.

    Raises:
        UsageError: a job is to have more GPUs than there are.
    """

    def __init__(self, places: Places, workers: int | None, device: Device) -> None:
        gpus = gpu_count()
        if gpus and device.accelerator != "cpu" and device.devices > gpus:
            raise UsageError(
                f"--devices {device.devices} asks for {device.devices} GPUs per job, and {gpus} can be seen here. "
                f"Use --devices {gpus} or less."
            )
        self.places = places
        here = machine(workers, device.devices)
        self.workers = here.workers
        self.device = replace(device, threads=here.threads)

    def device_of(self, worker: int) -> Device:
        """What a worker may use: of G GPUs, worker i has those from i x devices on, round and round."""
        groups = max(1, gpu_count() // self.device.devices)
        return replace(self.device, gpu=worker % groups * self.device.devices)

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """Run jobs whose parents are done or among them. Returns when all have ended or the user stopped the run.

        `jobs` lists parents before children. Jobs another run is working on are waited for, not done twice.
        """
        return _Run(self, jobs, listener, options or Options()).run()


class _Run:
    def __init__(self, executor: LocalExecutor, jobs: Sequence[Job], listener: Listener, options: Options) -> None:
        self.executor, self.listener, self.options = executor, listener, options
        self.store = Store(executor.places.runs)
        self.ready = Ready(jobs, options.seconds)
        self.later: list[tuple[float, Job]] = []  # another run works on these; when to look again
        self.skipped: set[str] = set()
        self.count = len(jobs)
        self.summary = Summary()
        self.stop = flag()
        self.interrupts, self.told = 0, False
        self.awake, self.wake = os.pipe()
        self.pool: list[Worker] = []

    def run(self) -> Summary:
        try:
            with handled_by(self._interrupt):
                count = self.executor.workers if self.options.more else min(self.executor.workers, self.count)
                try:
                    for index in range(count):
                        self.pool.append(self._worker(index))
                    while self._hand_out():
                        self._listen()
                finally:
                    for worker in self.pool:
                        worker.dismiss()
                    for worker in self.pool:
                        worker.close()
        finally:
            os.close(self.awake)
            os.close(self.wake)
        return self.summary

    def _interrupt(self, *_: object) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            for worker in self.pool:
                worker.process.kill()
            show_cursor()
            os._exit(130)
        self.stop.value = True
        os.write(self.wake, b"!")  # what is said about it is said by `_hand_out`: a signal may interrupt a print

    def _tell(self, why: str) -> None:
        self.told = self.summary.interrupted = self.stop.value = True
        print(why, file=sys.stderr, flush=True)

    def _hand_out(self) -> bool:
        """Give ready jobs to idle workers. False when nothing runs and nothing can start."""
        if not self.stop.value and self.options.asked_to_stop():
            self._tell("stopping, as asked by `suite cancel`: saving the running jobs")
        if self.stop.value:
            if not self.told:
                self._tell("stopping: saving the running jobs (once more to kill)")
            return any(worker.job is not None for worker in self.pool)
        for worker in list(self.pool):
            if worker.job is not None and self.options.unwanted(worker.job):
                worker.leave.value = True
            if worker.job is None and (job := self._next() or self._further()) is not None:
                self.listener.started(job)
                while not worker.give(job):  # killed while it had nothing to do
                    worker = self._replace(worker)  # noqa: PLW2901
        return any(worker.job is not None for worker in self.pool) or bool(self.later)

    def _next(self) -> Job | None:
        """The job to start now. One that another run works on is looked at again when nothing else is ready."""
        while True:
            if (job := self.ready.pop()) is None:
                now = time.monotonic()
                due = next((entry for entry in self.later if entry[0] <= now), None)
                if due is None:
                    return None
                self.later.remove(due)
                job = due[1]
            if self.options.unwanted(job):
                self.ready.forget(job)
                continue
            match self.store.status(job.key):
                case "done":
                    self._ended(job, "elsewhere", "")
                case "running":
                    self._postpone(job)
                case _:
                    return job

    def _further(self) -> Job | None:
        while self.options.more and (jobs := self.options.more()):
            self.ready.add(jobs)
            if (job := self._next()) is not None:
                return job
        return None

    def _postpone(self, job: Job) -> None:
        self.later.append((time.monotonic() + _LOOK_AGAIN, job))

    def _listen(self) -> None:
        handles: dict[Any, Worker] = {
            h: worker for worker in self.pool for h in (worker.connection, worker.process.sentinel)
        }
        for handle in wait([*handles, self.awake], timeout=_LOOK_AGAIN):
            if (worker := handles.get(handle)) is None:
                os.read(self.awake, 1)
                continue
            try:
                while worker.connection.poll():
                    self._message(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._died(worker)
                continue
            if not worker.process.is_alive():
                self._died(worker)

    def _message(self, worker: Worker, message: tuple[str, Any]) -> None:
        kind, content = message
        if worker.job is None:
            return
        if kind == "progress":
            self.listener.progress(worker.job, content)
            return
        job, worker.job = worker.job, None
        outcome, error = content
        left = outcome == "interrupted" and worker.leave.value and not self.stop.value
        self._ended(job, "left" if left else outcome, error)

    def _ended(self, job: Job, outcome: str, error: str) -> None:
        if outcome == "busy":
            self._postpone(job)
            return
        self.listener.ended(job, outcome, error)
        match outcome:
            case "done" | "elsewhere":
                self.summary.done.append(job)
                self.summary.elsewhere += outcome == "elsewhere"
                self.ready.done(job)
            case "interrupted":
                self.summary.interrupted = True
            case "left":
                self.ready.forget(job)
                if not self.options.unwanted(job):  # by now it is wanted again
                    self.ready.add([job])
            case _:
                self._failed(job, error)

    def _failed(self, job: Job, error: str) -> None:
        self.summary.failed[job.key] = error
        for child in self.ready.descendants(job):
            if child.key not in self.skipped:
                self.skipped.add(child.key)
                self.summary.failed[child.key] = f"not run: {job.name} failed ({error})"
                self.listener.ended(child, "skipped", f"{job.name} failed")
        if self.options.fail_fast:
            self.ready.close()  # what runs may finish; nothing more starts
            self.later.clear()

    def _died(self, worker: Worker) -> None:
        """A worker was killed from outside: its job failed, another worker takes its place."""
        if worker not in self.pool:
            return
        worker.process.join(timeout=5)
        job, worker.job = worker.job, None
        if job is not None:
            error = f"worker process ended with exit code {worker.process.exitcode} (out of memory, or killed)"
            with suppress(StoreError):
                if (told := self.store.failure(job.key)) is not None:
                    error = told.error  # it left on its own account
                failure = Failure(error=error, kind="killed", traceback="", log=self.store.log_tail(job.key))
                self.store.fail(job.key, failure)
            self._ended(job, "failed", error)
        self._replace(worker)

    def _worker(self, index: int) -> Worker:
        return Worker(self.executor.places, self.executor.device_of(index), index, self.stop)

    def _replace(self, dead: Worker) -> Worker:
        fresh = self._worker(dead.index)
        self.pool[self.pool.index(dead)] = fresh
        dead.connection.close()
        return fresh
