"""A custom engine: jobs run one after another in this process, so that a debugger works in them.

python examples/inline_engine.py
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import suite
from suite.cores import cores
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.drain import drain
from suite.execute.engine import Ended, Event, Listener, Options, Started, Summary
from suite.execute.worker import run_job
from suite.jobs.identity import Job
from suite.planning.costs import Machine
from suite.store.store import Store
from suite.training.online import OnlineKnn


class InlineBackend:
    """Starts jobs and reports their ends; `drain` decides which jobs start, and what a failure skips."""

    keeps_order = False
    stopping = "saving the running job"

    def __init__(self, paths: RunPaths, device: Device) -> None:
        self.context = JobContext(paths, device, should_stop=lambda: self.stopped)
        self.waiting: list[Job] = []
        self.stopped = False

    def idle(self) -> int:
        return 1 - len(self.waiting)

    def start(self, jobs: Sequence[Job]) -> None:
        self.waiting += jobs

    def events(self, timeout: float) -> Iterator[Event]:
        while self.waiting:
            job = self.waiting.pop()
            yield Started(job)
            yield Ended(job, *run_job(job, self.context)[:2])

    def drop(self, jobs: Sequence[Job], orphaned: bool) -> list[Job]:
        dropped, self.waiting = [job for job in self.waiting if job in jobs], []
        return dropped

    def interrupt(self) -> None:  # Ctrl-C: the running job sees it after its step
        self.stopped = True

    stop = interrupt

    def leave(self, job: Job) -> None:
        """Nothing to do: between two calls of `events` no job runs."""

    def kill(self) -> None:
        """Nothing to do: the process that ends is the worker."""

    def close(self) -> None:
        """Nothing to release."""


@dataclass
class InlineExecutor:
    paths: RunPaths
    device: Device

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        backend = InlineBackend(self.paths, self.device)
        return drain(jobs, backend, Store(self.paths.runs), listener, options or Options())


class InlineEngine:
    """The machine that estimates of time are made for, and the executor of a run."""

    starts_at_once = True
    machine = Machine("cpu", workers=1, threads=cores())

    def devices_for(self, kind: str) -> int:
        return 1

    def executor(self, paths: RunPaths, checkpoint_minutes: float, online: OnlineKnn | None = None) -> InlineExecutor:
        threads = self.machine.threads
        return InlineExecutor(
            paths, Device("cpu", threads=threads, checkpoint_minutes=checkpoint_minutes, online=online)
        )


if __name__ == "__main__":
    outcome = suite.run("paper_table1", profile="demo", datasets="cub", methods="random", engine=InlineEngine())
    print(outcome.text())
