"""Run a graph of jobs on a backend: start ready jobs, skip the descendants of failed ones, stop on request."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from suite.execute.display import show_cursor
from suite.execute.engine import Backend, Ended, Event, Listener, Options, Outcome, Progressed, Started, Summary
from suite.execute.signals import handle_signals
from suite.jobs.identity import Job
from suite.jobs.order import ReadyJobs
from suite.store.active import POLL_SECONDS
from suite.store.store import Store


def drain(jobs: Sequence[Job], backend: Backend, store: Store, listener: Listener, options: Options) -> Summary:
    """Run `jobs`, parents before children, until all have ended or the user stops the run.

    A job that another run works on is waited for, not done twice. The first Ctrl-C, SIGTERM or `suite cancel` has the
    running jobs save and end; the second ends everything at once.

    Args:
        jobs: parents before children; parents that are not among them are done.
        backend: the workers; closed at the end.
        store: the results.
        listener: told about every job.
        options: order, failures, requests to stop, further jobs.
    """
    return _Drain(jobs, backend, store, listener, options).run()


class _Drain:
    def __init__(
        self, jobs: Sequence[Job], backend: Backend, store: Store, listener: Listener, options: Options
    ) -> None:
        self.backend, self.store, self.listener, self.options = backend, store, listener, options
        self.ready = ReadyJobs(jobs, options.seconds)
        self.unsubmitted = list(jobs) if backend.keeps_order else []  # to be handed over with their children
        self.handed_over: dict[str, Job] = {}  # handed over and not ended
        self.started: set[str] = set()
        self.leaving: set[str] = set()  # asked to save and end because no trial needs them any more
        self.skipped: set[str] = set()
        self.postponed: list[tuple[float, Job]] = []  # another run works on these jobs; when to look again
        self.summary = Summary()
        self.interrupts = 0
        self.stopping = self.closed = False

    def run(self) -> Summary:
        with handle_signals(self._interrupt):
            try:
                while self._advance():
                    for event in self.backend.events(POLL_SECONDS):
                        self._handle(event)
            finally:
                self.backend.close()
        return self.summary

    def _interrupt(self, *_: object) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            self.backend.kill()
            show_cursor()
            os._exit(130)
        self.backend.interrupt()  # the message is printed by `_advance`: a signal may interrupt another print

    def _advance(self) -> bool:
        """Start what can start. False when nothing runs and nothing can start."""
        by_cancel = not self.stopping and self.options.asked_to_stop()
        if not self.stopping and (by_cancel or self.interrupts):
            self.stopping = self.summary.interrupted = True
            reason = "stopping, as asked by `suite cancel`" if by_cancel else "stopping"
            print(f"{reason}: {self.backend.stopping}", file=sys.stderr, flush=True)
            self.backend.stop()
        if self.stopping:
            return bool(self.handed_over)
        for job in [
            job for key, job in self.handed_over.items() if key not in self.leaving and self.options.is_unneeded(job)
        ]:
            self.leaving.add(job.key)
            self.backend.leave(job)
        if self.backend.keeps_order:
            self._hand_over_all()
        else:
            self._hand_over_ready()
        return bool(self.handed_over or self.postponed)

    def _hand_over_ready(self) -> None:
        while self.backend.idle() > 0 and (job := self._next() or self._next_of_growing_run()) is not None:
            self._hand_over([job])
            self._start(job)

    def _hand_over_all(self) -> None:
        """Submit every job with its children; the backend keeps the order."""
        due = [job for moment, job in self.postponed if moment <= time.monotonic()]
        self.postponed = [(moment, job) for moment, job in self.postponed if job not in due]
        jobs, self.unsubmitted = [*self.unsubmitted, *due], []
        while True:
            if jobs := [job for job in jobs if not self.options.is_unneeded(job)]:
                self._hand_over(jobs)
            if self.closed or not self.options.next_jobs or self.backend.idle() <= 0:
                return
            if not (jobs := [job for job in self.options.next_jobs() if job.key not in self.handed_over]):
                return
            self.ready.add(jobs)

    def _hand_over(self, jobs: Sequence[Job]) -> None:
        self.handed_over |= {job.key: job for job in jobs}
        self.backend.start(jobs)

    def _next(self) -> Job | None:
        """The job to start now. A job that another run works on is looked at again when no other is ready."""
        while True:
            if (job := self.ready.pop()) is None:
                now = time.monotonic()
                due = next((entry for entry in self.postponed if entry[0] <= now), None)
                if due is None:
                    return None
                self.postponed.remove(due)
                job = due[1]
            if self.options.is_unneeded(job):
                self.ready.forget(job)
                continue
            match self.store.status(job.key):
                case "done":
                    self._end(job, "elsewhere", "")
                case "running":
                    self._postpone(job)
                case _:
                    return job

    def _next_of_growing_run(self) -> Job | None:
        while self.options.next_jobs and not self.closed and (jobs := self.options.next_jobs()):
            self.ready.add(jobs)
            if (job := self._next()) is not None:
                return job
        return None

    def _postpone(self, job: Job) -> None:
        self.postponed.append((time.monotonic() + POLL_SECONDS, job))

    def _handle(self, event: Event) -> None:
        if event.job.key not in self.handed_over:  # dropped a moment ago
            return
        match event:
            case Started(job):
                self._start(job)
            case Progressed(job, line):
                self._start(job)
                self.listener.progress(job, line)
            case Ended(job, outcome, error):
                left = outcome == "interrupted" and job.key in self.leaving and not self.stopping
                del self.handed_over[job.key]
                self.leaving.discard(job.key)
                if outcome == "done":
                    self._start(job)
                self._end(job, "left" if left else outcome, error)

    def _start(self, job: Job) -> None:
        if job.key not in self.started:
            self.started.add(job.key)
            self.listener.started(job)

    def _end(self, job: Job, outcome: Outcome, error: str) -> None:
        if outcome == "busy":
            self._postpone(job)
            return
        self.listener.ended(job, outcome, error)
        self.started.discard(job.key)  # a job that was left may start again
        match outcome:
            case "done" | "elsewhere":
                self.summary.done.append(job)
                self.summary.elsewhere += outcome == "elsewhere"
                self.ready.mark_done(job)
            case "interrupted":
                self.summary.interrupted = True
                self._take_back(self.ready.descendants(job), orphaned=True)
            case "left":
                self._end_left(job)
            case _:
                self._failed(job, error)

    def _end_left(self, job: Job) -> None:
        self._take_back(self.ready.descendants(job), orphaned=False)
        if self.stopping:
            return
        self.ready.forget(job)
        if not self.options.is_unneeded(job):  # it is wanted again by now
            self.ready.add([job])
            self.unsubmitted += [job] if self.backend.keeps_order else []

    def _take_back(self, jobs: Sequence[Job], orphaned: bool) -> None:
        if unstarted := [job for job in jobs if job.key in self.handed_over]:
            for job in self.backend.drop(unstarted, orphaned):
                del self.handed_over[job.key]

    def _failed(self, job: Job, error: str) -> None:
        self.summary.failed[job.key] = error
        children = self.ready.descendants(job)
        self._take_back(children, orphaned=True)
        for child in children:
            if child.key not in self.skipped:
                self.skipped.add(child.key)
                self.summary.failed[child.key] = f"not run: {job.name} failed ({error})"
                self.listener.ended(child, "skipped", f"{job.name} failed")
        if self.options.fail_fast:  # running jobs may finish; nothing more starts
            self.closed = True
            self.ready.close()
            self.postponed.clear()
            self._take_back(
                [other for key, other in self.handed_over.items() if key not in self.started], orphaned=False
            )
