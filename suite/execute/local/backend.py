"""The workers of a local run as `drain` sees them: one process per worker, replaced when it dies or retires."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from suite.errors import StoreError
from suite.execute.context import Device, RunPaths
from suite.execute.engine import Ended, Event, Progressed
from suite.execute.local.pool import Worker, flag
from suite.jobs.identity import Job
from suite.store.store import Failure, Store


class LocalBackend:
    """See `suite.execute.engine.Backend`.

    Args:
        paths: of the run.
        devices: the devices of each worker; as many workers are started.
    """

    keeps_order = False
    stopping = "saving the running jobs (once more to kill)"

    def __init__(self, paths: RunPaths, devices: Sequence[Device]) -> None:
        self._paths, self._devices, self._store = paths, devices, Store(paths.runs)
        self._stop = flag()
        self._awake, self._wake = os.pipe()
        self._pool: list[Worker] = []
        try:
            for index in range(len(devices)):
                self._pool.append(self._worker(index))
        except BaseException:
            self.close()
            raise

    def idle(self) -> int:
        """Number of workers without a job."""
        return sum(worker.job is None for worker in self._pool)

    def start(self, jobs: Sequence[Job]) -> None:
        """Give each job to an idle worker."""
        for job in jobs:
            worker = next(worker for worker in self._pool if worker.job is None)
            while not worker.give(job):  # it was killed while it had no job
                worker = self._replace(worker)

    def events(self, timeout: float) -> Iterator[Event]:
        """Messages and ends of the workers."""
        handles: dict[Any, Worker] = {
            handle: worker for worker in self._pool for handle in (worker.connection, worker.process.sentinel)
        }
        for handle in wait([*handles, self._awake], timeout=timeout):
            if (worker := handles.get(handle)) is None:
                os.read(self._awake, 1)
                continue
            if worker not in self._pool:  # replaced a moment ago
                continue
            try:
                while worker.connection.poll():
                    yield from self._message(worker, *worker.connection.recv())
                alive = worker.process.is_alive()
            except (EOFError, OSError):
                alive = False
            if worker in self._pool and not alive:
                yield from self._died(worker)

    def leave(self, job: Job) -> None:
        """Set the flag of the worker that has the job."""
        for worker in self._pool:
            if worker.job is not None and worker.job.key == job.key:
                worker.leave.value = True

    def drop(self, jobs: Sequence[Job], orphaned: bool) -> list[Job]:
        """Nothing: every job that a worker has, has begun."""
        return []

    def interrupt(self) -> None:
        """Set the flag of all workers at once, and wake `events`."""
        self.stop()
        os.write(self._wake, b"!")

    def stop(self) -> None:
        """Set the flag of all workers."""
        self._stop.value = True

    def kill(self) -> None:
        """SIGKILL all workers."""
        for worker in self._pool:
            worker.process.kill()

    def close(self) -> None:
        """Let the workers end, and wait for it."""
        for worker in self._pool:
            worker.dismiss()
        for worker in self._pool:
            worker.close()
        os.close(self._awake)
        os.close(self._wake)

    def _message(self, worker: Worker, kind: str, content: Any) -> Iterator[Event]:
        if worker.job is None:
            return
        if kind == "progress":
            yield Progressed(worker.job, content)
            return
        job, worker.job = worker.job, None
        if content.retire:  # its process is of no use to another job
            worker.process.join(timeout=30)
            worker.process.kill()
            self._replace(worker)
        yield Ended(job, content.outcome, content.error)

    def _died(self, worker: Worker) -> Iterator[Event]:
        """The process was killed from outside, or left by itself: its job has failed."""
        worker.process.join(timeout=5)
        job, worker.job = worker.job, None
        self._replace(worker)
        if job is None:
            return
        error = f"worker process ended with exit code {worker.process.exitcode} (out of memory, or killed)"
        with suppress(StoreError):
            if (recorded := self._store.failure(job.key)) is not None:
                error = recorded.error  # it recorded the reason itself
            failure = Failure(error=error, kind="killed", traceback="", log=self._store.log_tail(job.key))
            self._store.fail(job.key, failure)
        yield Ended(job, "failed", error)

    def _worker(self, index: int) -> Worker:
        return Worker(self._paths, self._devices[index], index, self._stop)

    def _replace(self, worker: Worker) -> Worker:
        fresh = self._worker(worker.index)
        self._pool[self._pool.index(worker)] = fresh
        worker.connection.close()
        return fresh
