"""What `suite run` needs of whatever runs its jobs: this machine (local.py), a cluster (slurm/), or a third."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from suite.execute.places import Places
from suite.jobs.identity import Job
from suite.planning.costs import Machine


class Listener(Protocol):
    """Told about everything that happens, in the parent's process."""

    def started(self, job: Job) -> None:
        """A worker has taken the job."""

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """An epoch is over."""

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """The job is done, done elsewhere, failed, interrupted, left (not wanted any more) or skipped."""


@dataclass
class Summary:
    """How a run ended."""

    done: list[Job] = field(default_factory=list)
    elsewhere: int = 0  # of `done`, how many another run did meanwhile
    failed: dict[str, str] = field(default_factory=dict)  # key -> error; jobs skipped for a failed parent as well
    interrupted: bool = False
    queued: int = 0  # handed to a queue and not waited for


@dataclass(frozen=True)
class Options:
    """How to run: what `seconds` expects of each job (by key) decides the order."""

    fail_fast: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    asked_to_stop: Callable[[], bool] = lambda: False
    # For a run that grows as it goes: asked for further jobs, parents first, when a worker has nothing to do; and
    # whether a job that is in it should be left, with its checkpoint where it has begun.
    more: Callable[[], Sequence[Job]] | None = None
    unwanted: Callable[[Job], bool] = lambda _: False


class Executor(Protocol):
    """Takes jobs whose parents are done or among them to their end, parents before children."""

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """Returns when all have ended, the user stopped the run, or a queue has taken them over."""


class Engine(Protocol):
    """What jobs run on, before any starts."""

    @property
    def machine(self) -> Machine:
        """For estimates of time."""

    @property
    def starts_at_once(self) -> bool:
        """Whether the end of a run can be foretold from such estimates."""

    def devices_for(self, kind: str) -> int:
        """How many processes train a job of this kind together."""

    def executor(self, places: Places, checkpoint_minutes: float) -> Executor:
        """Ready to run."""
