"""Jobs on this machine: a few warm processes that each import torch once and take one job after another."""

from __future__ import annotations

import ctypes
import glob
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from suite.errors import StoreError
from suite.execute.announce import show_cursor
from suite.execute.worker import Device, Places
from suite.grid.costs import Machine
from suite.grid.jobs import Job
from suite.grid.order import Ready
from suite.store.store import Failure, Store

_CONTEXT = multiprocessing.get_context("spawn")
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LOOK_AGAIN = 1.0  # seconds until a job that another run works on, or a request to stop, is looked at again


class Listener(Protocol):
    """Told about everything that happens, in the parent's process."""

    def started(self, job: Job) -> None:
        """A worker has taken the job."""

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """An epoch is over."""

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """The job is done, done elsewhere, failed, interrupted or skipped."""


@dataclass
class Summary:
    """How a run ended."""

    done: list[Job] = field(default_factory=list)
    elsewhere: int = 0  # of `done`, how many another run did meanwhile
    failed: dict[str, str] = field(default_factory=dict)  # key -> error; jobs skipped for a failed parent as well
    interrupted: bool = False


@dataclass(frozen=True)
class Options:
    """How to run: what `seconds` expects of each job (by key) decides the order."""

    fail_fast: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    asked_to_stop: Callable[[], bool] = lambda: False


def default_workers() -> int:
    """One per visible GPU; on a CPU one per core up to four, since small jobs side by side beat one with threads."""
    return gpu_count() or min(4, os.cpu_count() or 1)


def gpu_count() -> int:
    """Visible NVIDIA GPUs, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in {"", "-1"}])
    return len(glob.glob("/dev/nvidia[0-9]*"))  # noqa: PTH207


def machine(workers: int | None = None) -> Machine:
    """What this machine offers to a run, without loading torch."""
    count = workers or default_workers()
    if gpu_count():
        return Machine("cuda", count)
    return Machine("cpu", count, threads=max(1, (os.cpu_count() or 1) // count))


class LocalExecutor:
    """Runs jobs in `workers` processes. Threads per worker depend on the machine alone, never on how much is left,
    so that an interrupted run goes on with the very same arithmetic."""

    def __init__(self, places: Places, workers: int | None, device: Device) -> None:
        self.places = places
        self.workers = workers or default_workers()
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        self.device = replace(device, threads=threads)

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """Run jobs whose parents are done or among them. Returns when all have ended or the user stopped the run.

        `jobs` lists parents before children. Jobs another run is working on are waited for, not done twice.
        """
        return _Run(self, jobs, listener, options or Options()).run()


class _Worker:
    """One process, its pipe, and the job it works on."""

    def __init__(self, executor: LocalExecutor, index: int, stop: Any) -> None:
        self.index = index
        self.job: Job | None = None
        self.connection, theirs = _CONTEXT.Pipe()
        device = replace(executor.device, gpu=index % max(1, gpu_count()))
        self.process: BaseProcess = _CONTEXT.Process(
            target=_serve, args=(theirs, stop, executor.places, device), name=f"suite-worker-{index}", daemon=True
        )
        # A Ctrl-C on the terminal reaches the child as well; it learns to leave that to the parent only once it runs.
        with _ThreadEnvironment(device.threads), _signals_held_back():
            self.process.start()
        theirs.close()

    def give(self, job: Job) -> bool:
        """False where the process is gone."""
        try:
            self.connection.send(job)
        except OSError:
            return False
        self.job = job
        return True

    def dismiss(self) -> None:
        with suppress(OSError):
            self.connection.send(None)

    def close(self) -> None:
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()


class _Run:
    def __init__(self, executor: LocalExecutor, jobs: Sequence[Job], listener: Listener, options: Options) -> None:
        self.executor, self.listener, self.options = executor, listener, options
        self.store = Store(executor.places.runs)
        self.ready = Ready(jobs, options.seconds)
        self.later: list[tuple[float, Job]] = []  # another run works on these; when to look again
        self.skipped: set[str] = set()
        self.count = len(jobs)
        self.summary = Summary()
        # Not an Event: that has a lock, and a worker killed while it holds it would stop everybody for ever.
        self.stop = _CONTEXT.RawValue(ctypes.c_bool, False)
        self.interrupts, self.told = 0, False
        self.awake, self.wake = os.pipe()
        self.pool: list[_Worker] = []

    def run(self) -> Summary:
        previous = {}
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, self._interrupt) for number in _STOPPING}
        try:
            for index in range(min(self.executor.workers, self.count)):
                self.pool.append(_Worker(self.executor, index, self.stop))
            while self._hand_out():
                self._listen()
        finally:
            for worker in self.pool:
                worker.dismiss()
            for worker in self.pool:
                worker.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
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
            if worker.job is None and (job := self._next()) is not None:
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
            match self.store.status(job.key):
                case "done":
                    self._ended(job, "elsewhere", "")
                case "running":
                    self._postpone(job)
                case _:
                    return job

    def _postpone(self, job: Job) -> None:
        self.later.append((time.monotonic() + _LOOK_AGAIN, job))

    def _listen(self) -> None:
        handles: dict[Any, _Worker] = {
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

    def _died(self, worker: _Worker) -> None:
        """A worker was killed from outside: its job failed, another worker takes its place."""
        if worker not in self.pool:
            return
        worker.process.join(timeout=5)
        job, worker.job = worker.job, None
        if job is not None:
            error = f"worker process ended with exit code {worker.process.exitcode} (out of memory, or killed)"
            with suppress(StoreError):
                failure = Failure(error=error, kind="killed", traceback="", log=self.store.log_tail(job.key))
                self.store.fail(job.key, failure)
            self._ended(job, "failed", error)
        self._replace(worker)

    def _replace(self, dead: _Worker) -> _Worker:
        fresh = _Worker(self.executor, dead.index, self.stop)
        self.pool[self.pool.index(dead)] = fresh
        dead.connection.close()
        return fresh


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


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process started now inherits that they are; here they are delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, stop: Any, places: Places, device: Device) -> None:
    """A worker's life: take jobs until told to end, or until the parent is gone."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)  # the parent decides what they mean; it kills, where it must
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from suite.execute.worker import run_job
    from suite.plugin import load_plugins

    load_plugins(places.plugins)
    last = [0.0]

    def report(line: dict[str, float]) -> None:
        if time.monotonic() - last[0] > 0.5:  # many tiny epochs must not flood the pipe
            last[0] = time.monotonic()
            connection.send(("progress", line))

    def stopping() -> bool:
        return bool(stop.value)

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
