"""A cluster as `drain` sees it: jobs are submitted with their dependencies, results are read from the store."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence

from suite.execute.engine import Ended, Event, QueueSilent, Started
from suite.execute.slurm.queue import State, cancel, states
from suite.execute.slurm.records import SubmittedJob, folder, forget, in_queue, settle
from suite.execute.slurm.submit import Submission
from suite.execute.watch_store import StoreWatch
from suite.jobs.identity import Job
from suite.locks import FileLock
from suite.store.store import Store

log = logging.getLogger(__name__)

_STORE_POLL_SECONDS = 0.5  # seconds between two looks at the store
_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT"}


class SlurmBackend:
    """See `suite.execute.engine.Backend`. Jobs that an earlier run submitted are waited for too, but not cancelled.

    Args:
        submission: how to submit.
        store: the results.
        seconds: expected duration per key, for time limits and order.
    """

    keeps_order = True
    stopping = "Slurm ends this run's jobs, which save (Ctrl-C leaves at once)"

    def __init__(self, submission: Submission, store: Store, seconds: dict[str, float]) -> None:
        self._submission, self._store, self._seconds = submission, store, seconds
        self._poll = submission.site.poll_seconds
        self._records: dict[str, SubmittedJob] = {}
        self._submitted: set[str] = set()  # submitted by this run
        self._waiting: dict[str, Job] = {}  # handed over and not ended
        self._started: set[str] = set()  # have left the queue, according to Slurm
        self._ended: set[str] = set()  # ended according to Slurm at the last poll, and without a result so far
        self._events: list[Event] = []  # to be reported next
        self._watch = StoreWatch(store)
        self._next_poll = 0.0
        self._stopped = False

    def idle(self) -> int:
        """Tasks that may run side by side, minus the jobs that have not ended."""
        return self._submission.at_once - len(self._waiting)

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit the jobs that do not wait in the queue already.

        Raises:
            UsageError: sbatch refuses; nothing was submitted.
        """
        with FileLock(_lock_file(self._store)):
            queued = {key: record for key, (record, _) in in_queue(self._store, {job.key for job in jobs}).items()}
            fresh = [job for job in jobs if job.key not in queued]
            # Parents may have been handed over in an earlier call.
            ids = {key: self._records[key].slurm for key in self._waiting}
            ids |= {key: record.slurm for key, record in queued.items()}
            submitted = self._submission.submit(fresh, self._seconds, ids)
        names = ", ".join(dict.fromkeys(record.slurm.partition("_")[0] for record in submitted.values()))
        waiting = f" {len(queued)} are in its queue already." if queued else ""
        print(f"submitted {len(submitted)} jobs to Slurm{': ' + names if names else ''}.{waiting}", file=sys.stderr)
        self._records |= queued | submitted
        self._submitted |= submitted.keys()
        for job in jobs:
            self._waiting[job.key] = job
            self._started.discard(job.key)
            self._ended.discard(job.key)

    def events(self, timeout: float) -> Iterator[Event]:
        """Read the store's state and, from time to time, Slurm's."""
        deadline = time.monotonic() + timeout
        while True:
            yield from self._report(self._events)
            self._events = []
            if time.monotonic() >= self._next_poll:
                yield from self._report(self._ask_slurm())
                self._next_poll = time.monotonic() + (min(2.0, self._poll) if self._ended else self._poll)
            yield from self._report(
                self._watch.look([self._waiting[key] for key in self._started & self._waiting.keys()])
            )
            if not self._waiting or time.monotonic() + _STORE_POLL_SECONDS > deadline:
                break
            time.sleep(_STORE_POLL_SECONDS)
        if self._waiting:
            time.sleep(max(0.0, deadline - time.monotonic()))

    def leave(self, job: Job) -> None:
        """Cancel one job; it saves at SIGTERM."""
        if job.key in self._submitted:
            cancel([self._records[job.key].slurm])
        else:
            self._stop_waiting(job)

    def drop(self, jobs: Sequence[Job], orphaned: bool) -> list[Job]:
        """Cancel this run's jobs that are still pending. Slurm never starts a job whose parent has no result."""
        jobs = jobs if orphaned else [job for job in jobs if job.key in self._submitted]
        cancel([self._records[job.key].slurm for job in jobs if job.key in self._submitted], pending_only=True)
        for job in jobs:
            del self._waiting[job.key]
            if orphaned:
                forget(self._store, job.key)
        return list(jobs)

    def interrupt(self) -> None:
        """Nothing: `events` returns soon in any case."""

    def stop(self) -> None:
        """Cancel this run's jobs, and leave the others."""
        self._stopped = True
        for job in [job for key, job in self._waiting.items() if key not in self._submitted]:
            self._stop_waiting(job)
        cancel([self._records[key].slurm for key in self._waiting])

    def kill(self) -> None:
        """Nothing: the jobs are Slurm's."""

    def close(self) -> None:
        """Nothing to release."""

    def _stop_waiting(self, job: Job) -> None:
        """Stop waiting for a job that continues."""
        self._events.append(Ended(job, "left"))

    def _report(self, events: Iterator[Event] | Sequence[Event]) -> Iterator[Event]:
        """The events of jobs that are waited for, with what their ends mean here."""
        for event in events:
            key = event.job.key
            if key not in self._waiting:
                continue
            if isinstance(event, Ended):
                del self._waiting[key]
                self._ended.discard(key)
                if event.outcome == "done":
                    forget(self._store, key)
            yield event

    def _ask_slurm(self) -> Iterator[Event]:
        try:
            answer = states(self._records[key].slurm for key in self._waiting)
        except QueueSilent as error:  # nothing is known, so nothing has ended
            log.warning("%s; asking again in %.0f s", error, self._poll)
            return
        for job in list(self._waiting.values()):
            if job.key not in self._waiting:  # dropped a moment ago
                continue
            state = answer[self._records[job.key].slurm]
            if state.name in _RUNNING:
                yield Started(job)
            if state.name in _RUNNING or state.ended:
                self._started.add(job.key)
            if state.never_starts:
                cancel([self._records[job.key].slurm])
            if not state.ended:
                self._ended.discard(job.key)
            elif job.key not in self._ended:
                self._ended.add(job.key)  # a shared disk may show the result later: decided at the next poll
            else:
                yield from self._end_event(job, state)

    def _end_event(self, job: Job, state: State) -> Iterator[Event]:
        """The end of a job that has ended for Slurm and has no result. Parents come first, so that a job which cannot
        start without its parent counts as skipped, not as interrupted."""
        if self._store.result(job.key) is not None or any(parent.key in self._waiting for parent in job.parents):
            return
        error = settle(self._store, self._records[job.key], state)
        if state.name == "CANCELLED":
            yield Ended(job, "interrupted", "" if self._stopped else error)
        else:
            yield Ended(job, "failed", error)


def _lock_file(store: Store) -> str:
    folder(store).mkdir(parents=True, exist_ok=True)
    return str(folder(store) / ".lock")
