"""The interface between `suite run` and an engine, which runs jobs: local/, slurm/, ray/, or another one.

`engines.py` lists the engines by name. A new engine is a class with the members of `Engine`, whose executor usually
hands its `Backend` to `suite.execute.drain.drain`, and one line in that list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from suite.errors import SuiteError
from suite.execute.context import RunPaths
from suite.jobs.identity import Job
from suite.planning.costs import Machine
from suite.training.online import OnlineKnn

# "elsewhere": another run has done the job. "busy": another process works on it. "left": it was stopped because it is
# not wanted any more, or it goes on without this run.
Outcome = Literal["done", "elsewhere", "busy", "failed", "interrupted", "left"]


class Listener(Protocol):
    """Called in the process of `suite run` for everything that happens to a job."""

    def started(self, job: Job) -> None:
        """A worker has taken the job."""

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """An epoch is over; `line` is the newest line of metrics.jsonl."""

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """The job has ended: an `Outcome`, or "skipped" because a parent failed."""


@dataclass
class Summary:
    """The result of a run."""

    done: list[Job] = field(default_factory=list)
    elsewhere: int = 0  # how many of `done` another run did meanwhile
    failed: dict[str, str] = field(default_factory=dict)  # key -> error; includes jobs skipped for a failed parent
    interrupted: bool = False
    queued: int = 0  # handed to a queue and not waited for


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Args:
        fail_fast: start no further job after a failure.
        seconds: expected duration of each job by key; longer paths of jobs start first.
        asked_to_stop: whether `suite cancel` was called.
        next_jobs: for a run that grows: asked for further jobs, parents first, when a worker is idle.
        is_unneeded: for a run that grows: whether a job is no longer needed. It then saves and ends as "left".
    """

    fail_fast: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    asked_to_stop: Callable[[], bool] = lambda: False
    next_jobs: Callable[[], Sequence[Job]] | None = None
    is_unneeded: Callable[[Job], bool] = lambda _: False


@dataclass(frozen=True)
class EngineOptions:
    """Options of `suite run` and `suite tune` that describe where jobs run; the values are the defaults."""

    workers: int | None = None
    devices: int = 1
    site: str | None = None
    detach: bool = False
    address: str | None = None
    gpus: float | None = None
    loaders: int | None = None


class Started(NamedTuple):
    """A job has begun to run."""

    job: Job


class Progressed(NamedTuple):
    """A job has written a line of metrics."""

    job: Job
    line: dict[str, float]


class Ended(NamedTuple):
    """A job has ended."""

    job: Job
    outcome: Outcome
    error: str = ""


Event = Started | Progressed | Ended


class Backend(Protocol):
    """The workers of one run, as `drain` sees them."""

    @property
    def keeps_order(self) -> bool:
        """Whether the workers themselves hold a job back until its parents are done, as Slurm does. `drain` then
        hands over all jobs at once."""

    @property
    def stopping(self) -> str:
        """A few words on what happens when the run stops, for the user."""

    def idle(self) -> int:
        """Number of further jobs that would start at once."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Hand jobs over, parents before children. Each is answered by one `Ended`."""

    def events(self, timeout: float) -> Iterator[Event]:
        """Events since the last call; waits for up to `timeout` seconds."""

    def leave(self, job: Job) -> None:
        """Have one running job save and end as "interrupted"."""

    def drop(self, jobs: Sequence[Job], orphaned: bool) -> list[Job]:
        """Take back jobs that have not begun, and return them: they get no `Ended`.

        `orphaned`: a parent has ended without a result, so that they can never start.
        """

    def interrupt(self) -> None:
        """Called from a signal handler: make `events` return soon."""

    def stop(self) -> None:
        """Have all running jobs save and end."""

    def kill(self) -> None:
        """Called from a signal handler, before this process exits: end everything at once."""

    def close(self) -> None:
        """Release the workers; called once, at the end."""


class Executor(Protocol):
    """Runs jobs, parents before children. The parents of a job are done or among the jobs."""

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """Returns when all jobs have ended, the user stopped the run, or a queue has taken the jobs over."""


class Engine(Protocol):
    """A place where jobs can run, before any job starts."""

    @property
    def machine(self) -> Machine:
        """For estimates of time."""

    @property
    def starts_at_once(self) -> bool:
        """Whether jobs start without queueing, so that such estimates tell when a run ends."""

    def devices_for(self, kind: str) -> int:
        """Number of processes that train a job of this kind together."""

    def executor(self, paths: RunPaths, checkpoint_minutes: float, online: OnlineKnn | None = None) -> Executor:
        """An executor for one run. `online`: what to measure during pretraining, for `suite tune`."""


@dataclass(frozen=True)
class QueuedJob:
    """A job that waits or runs in a queue outside this process."""

    key: str
    name: str
    id: str  # the queue's own number
    state: str  # in the queue's words


class QueueSilent(SuiteError):
    """A queue does not answer, so that the state of its jobs is unknown; says why."""


class Queue(Protocol):
    """A queue that keeps jobs after the submitting process has ended, for `suite status` and `suite cancel`."""

    @property
    def title(self) -> str:
        """Its name in sentences."""

    def submitted(self) -> int:
        """Number of submitted jobs without a recorded end. Does not query the scheduler."""

    def jobs(self) -> dict[str, QueuedJob]:
        """The jobs that have not ended, by key. Raises QueueSilent."""

    def cancel(self, jobs: Sequence[QueuedJob]) -> None:
        """Have jobs save and end."""
