"""Jobs on this machine: a few warm processes that each import torch once and take one job after another."""

from __future__ import annotations

import glob
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from suite.execute.worker import Device, Places
from suite.grid.jobs import Job
from suite.store.store import Failure, Store

_CONTEXT = multiprocessing.get_context("spawn")


class Listener(Protocol):
    """Told about everything that happens, in the parent's process."""

    def started(self, job: Job) -> None:
        """A worker has taken the job."""

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """An epoch is over."""

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """The job is done, failed, interrupted or skipped."""


@dataclass
class Summary:
    """How a run ended."""

    done: list[Job]
    failed: dict[str, str]  # key -> error, including jobs skipped because of a failed parent
    interrupted: bool


def default_workers() -> int:
    """One per visible GPU; on a CPU one per core up to four, since small jobs side by side beat one with threads."""
    return gpu_count() or min(4, os.cpu_count() or 1)


def gpu_count() -> int:
    """Visible NVIDIA GPUs, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in {"", "-1"}])
    return len(glob.glob("/dev/nvidia[0-9]*"))  # noqa: PTH207


class LocalExecutor:
    """Runs jobs in `workers` processes. Threads per worker depend on the machine alone, never on how much is left,
    so that an interrupted run goes on with the very same arithmetic."""

    def __init__(self, places: Places, workers: int | None, device: Device) -> None:
        self.places = places
        self.workers = workers or default_workers()
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        self.device = replace(device, threads=threads)

    def run(self, jobs: Sequence[Job], listener: Listener, fail_fast: bool = False) -> Summary:
        """Run jobs whose parents are done or among them. Returns when all have ended or the user stopped the run."""
        return _Run(self, jobs, listener, fail_fast).run()


class _Worker:
    """One process, its pipe, and the job it works on."""

    def __init__(self, executor: LocalExecutor, index: int, stop: Any) -> None:
        self.job: Job | None = None
        self.connection, theirs = _CONTEXT.Pipe()
        device = replace(executor.device, gpu=index % max(1, gpu_count()))
        self.process: BaseProcess = _CONTEXT.Process(
            target=_serve, args=(theirs, stop, executor.places, device), name=f"suite-worker-{index}", daemon=True
        )
        with _ThreadEnvironment(device.threads):
            self.process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        self.job = job
        self.connection.send(job)

    def close(self) -> None:
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()


class _Run:
    def __init__(self, executor: LocalExecutor, jobs: Sequence[Job], listener: Listener, fail_fast: bool) -> None:
        self.executor, self.listener, self.fail_fast = executor, listener, fail_fast
        self.store = Store(executor.places.runs)
        self.waiting = {job.key: job for job in jobs}
        self.summary = Summary([], {}, False)
        self.stop = _CONTEXT.Event()
        self.interrupts = 0
        self.pool: list[_Worker] = []

    def run(self) -> Summary:
        previous = None
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGINT, self._interrupt)
        try:
            count = min(self.executor.workers, len(self.waiting))
            self.pool = [_Worker(self.executor, index, self.stop) for index in range(count)]
            while self._hand_out():
                self._listen()
        finally:
            for worker in self.pool:
                worker.close()
            if previous is not None:
                signal.signal(signal.SIGINT, previous)
        return self.summary

    def _interrupt(self, *_: object) -> None:
        self.interrupts += 1
        self.summary.interrupted = True
        self.stop.set()
        if self.interrupts > 1:
            for worker in self.pool:
                worker.process.kill()
            os._exit(130)
        print("stopping: saving the running jobs (once more to kill)", file=sys.stderr, flush=True)

    def _hand_out(self) -> bool:
        """Give ready jobs to idle workers. False when nothing runs and nothing can start."""
        if not self.stop.is_set():
            for worker in self.pool:
                if worker.job is None and (job := self._next()) is not None:
                    del self.waiting[job.key]
                    self.listener.started(job)
                    worker.give(job)
        return any(worker.job is not None for worker in self.pool)

    def _next(self) -> Job | None:
        """A job whose parents are done; those that others wait for come first."""
        unfinished = self._unfinished()
        ready = [job for job in self.waiting.values() if not any(parent.key in unfinished for parent in job.parents)]
        needed = {parent.key for job in self.waiting.values() for parent in job.parents}
        return min(ready, key=lambda job: job.key not in needed, default=None)

    def _unfinished(self) -> set[str]:
        return set(self.waiting) | {worker.job.key for worker in self.pool if worker.job is not None}

    def _listen(self) -> None:
        handles: dict[Any, _Worker] = {}
        for worker in self.pool:
            handles[worker.connection] = worker
            handles[worker.process.sentinel] = worker
        for handle in wait(list(handles), timeout=1.0):
            worker = handles[handle]
            try:
                while worker.connection.poll():
                    self._message(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._died(worker)
                continue
            if not worker.process.is_alive():
                self._died(worker)

    def _message(self, worker: _Worker, message: tuple[str, Any]) -> None:
        kind, content = message
        if worker.job is None:
            return
        if kind == "progress":
            self.listener.progress(worker.job, content)
            return
        job, worker.job = worker.job, None
        outcome, error = content
        self._ended(job, outcome, error)

    def _ended(self, job: Job, outcome: str, error: str) -> None:
        self.listener.ended(job, outcome, error)
        if outcome == "done":
            self.summary.done.append(job)
        elif outcome == "interrupted":
            self.summary.interrupted = True
        else:
            self.summary.failed[job.key] = error
            for child in list(self.waiting.values()):
                # A child may be gone already: its other parent was skipped just before.
                if child.key in self.waiting and job.key in {parent.key for parent in child.parents}:
                    del self.waiting[child.key]
                    self._ended(child, "skipped", f"its parent {job.name} failed")
            if self.fail_fast:
                self.waiting.clear()  # what runs may finish; nothing more starts

    def _died(self, worker: _Worker) -> None:
        """A worker was killed from outside: its job failed, another worker takes its place."""
        if worker not in self.pool:
            return
        index = self.pool.index(worker)
        worker.process.join(timeout=5)
        job, worker.job = worker.job, None
        if job is not None:
            error = f"worker process ended with exit code {worker.process.exitcode} (out of memory, or killed)"
            self.store.fail(job.key, Failure(error=error, kind="killed", traceback=""))
            self._ended(job, "failed", error)
        self.pool[index] = _Worker(self.executor, index, self.stop)


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


def _serve(connection: Connection, stop: Any, places: Places, device: Device) -> None:
    """A worker's life: take jobs until told to end, or until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from suite.execute.worker import run_job
    from suite.plugin import load_plugins

    load_plugins(places.plugins)
    last = [0.0]

    def report(line: dict[str, float]) -> None:
        if time.monotonic() - last[0] > 0.5:  # many tiny epochs must not flood the pipe
            last[0] = time.monotonic()
            connection.send(("progress", line))

    stopping: Callable[[], bool] = stop.is_set
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        connection.send(("ended", run_job(job, places, device, stopping, report)))


def _end_with_parent() -> None:
    """Leave at once when the parent dies, so that no orphan holds a claim the next run needs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
