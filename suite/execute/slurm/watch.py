"""Waits for submitted jobs and tells what happens: the store has the results, Slurm knows what never got that far."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence

from suite.execute.display import show_cursor
from suite.execute.engine import Listener, Options, Summary
from suite.execute.signals import handled_by
from suite.execute.slurm.queue import QueueSilent, State, cancel, states
from suite.execute.slurm.records import Record, forget, settle
from suite.jobs.identity import Job
from suite.jobs.order import Ready
from suite.store.store import Store

log = logging.getLogger(__name__)

_LOOK_AGAIN = 0.5  # seconds between two looks at the store
_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT"}


class Watch:
    """One waiting run. Jobs that an earlier run submitted are waited for like one's own, but never cancelled."""

    def __init__(
        self,
        store: Store,
        jobs: Sequence[Job],
        records: Mapping[str, Record],
        own: set[str],
        listener: Listener,
        options: Options,
        poll_seconds: float,
    ) -> None:
        self.store, self.records, self.own, self.listener, self.options = store, records, own, listener, options
        self.poll_seconds = poll_seconds
        self.waiting = {job.key: job for job in jobs}
        self.graph = Ready(jobs, {})
        self.started: set[str] = set()
        self.curves: dict[str, int] = {}  # bytes of metrics.jsonl at the last look
        self.begun: set[str] = set()  # have left the queue, by Slurm's account
        self.ended: set[str] = set()  # have ended, by Slurm's account at the last look, without a result so far
        self.summary = Summary()
        self.stopping = False
        self.interrupts = 0

    def run(self) -> Summary:
        """Until all have ended. The first Ctrl-C has Slurm end this run's jobs, which save; the second leaves."""
        next_poll = 0.0
        with handled_by(self._interrupt):
            while self.waiting:
                self._stop_if_asked()
                if time.monotonic() >= next_poll:
                    self._ask_slurm()
                    next_poll = time.monotonic() + (min(2.0, self.poll_seconds) if self.ended else self.poll_seconds)
                self._look()
                if self.waiting:
                    time.sleep(_LOOK_AGAIN)
        return self.summary

    def _interrupt(self, *_: object) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            show_cursor()
            os._exit(130)

    def _stop_if_asked(self) -> None:
        by_cancel = self.options.asked_to_stop()
        if self.stopping or not (self.interrupts or by_cancel):
            return
        self.stopping = self.summary.interrupted = True
        asked = "stopping, as asked by `suite cancel`" if by_cancel else "stopping"
        print(f"{asked}: Slurm ends this run's jobs, which save (Ctrl-C leaves at once)", file=sys.stderr, flush=True)
        for key in self.waiting.keys() - self.own:
            del self.waiting[key]
        cancel(self.records[key].slurm for key in self.waiting)

    def _look(self) -> None:
        """What the store tells of jobs that have left the queue: results, and how far running ones are."""
        for job in [job for key, job in self.waiting.items() if key in self.begun]:
            folder = self.store.folder(job.key)
            if (folder / "result.json").is_file():
                self._start(job)
                self._end(job, "done", "")
                continue
            curve = folder / "metrics.jsonl"
            size = curve.stat().st_size if (folder / "claim.json").is_file() and curve.is_file() else 0
            if size and size != self.curves.get(job.key):
                self._start(job)
                self.curves[job.key] = size
                if lines := self.store.metrics(job.key):
                    self.listener.progress(job, lines[-1])

    def _ask_slurm(self) -> None:
        try:
            known = states(self.records[key].slurm for key in self.waiting)
        except QueueSilent as error:  # nothing is known, so nothing has ended
            log.warning("%s; asking again in %.0f s", error, self.poll_seconds)
            return
        for job in list(self.waiting.values()):
            if job.key not in self.waiting:  # skipped a moment ago
                continue
            state = known[self.records[job.key].slurm]
            if state.name in _RUNNING:
                self._start(job)
            if state.name in _RUNNING or state.ended:
                self.begun.add(job.key)
            if state.never_starts:
                cancel([self.records[job.key].slurm])
            if not state.ended:
                self.ended.discard(job.key)
            elif job.key not in self.ended:
                self.ended.add(job.key)  # a shared disk may show the result a moment later: judged at the next look
            else:
                self._judge(job, state)

    def _judge(self, job: Job, state: State) -> None:
        """A job that ended for Slurm and has no result. Those that cannot start for it are judged with it."""
        if self.store.result(job.key) is not None or self._waits_for_a_judged_parent(job):
            return
        error = settle(self.store, self.records[job.key], state)
        if state.name == "CANCELLED":
            self._end(job, "interrupted", "" if self.stopping else error)
        else:
            self._end(job, "failed", error)

    def _waits_for_a_judged_parent(self, job: Job) -> bool:
        """Parents come first, so that what is skipped is not taken for interrupted."""
        return any(parent.key in self.waiting for parent in job.parents)

    def _start(self, job: Job) -> None:
        if job.key not in self.started:
            self.started.add(job.key)
            self.listener.started(job)

    def _end(self, job: Job, outcome: str, error: str) -> None:
        del self.waiting[job.key]
        self.ended.discard(job.key)
        match outcome:
            case "done":
                forget(self.store, job.key)
                self.summary.done.append(job)
            case "interrupted":
                self.summary.interrupted = True
            case _:
                self.summary.failed[job.key] = error
        self.listener.ended(job, outcome, error)
        if outcome != "done":
            self._drop_descendants(job, error)
        if outcome == "failed" and self.options.fail_fast:
            self._start_nothing_more()

    def _drop_descendants(self, job: Job, error: str) -> None:
        """Slurm never starts what waits for a job without a result."""
        failed = job.key in self.summary.failed
        for child in self.graph.descendants(job):
            if self.waiting.pop(child.key, None) is not None:
                forget(self.store, child.key)
                if failed:
                    self.summary.failed[child.key] = f"not run: {job.name} failed ({error})"
                    self.listener.ended(child, "skipped", f"{job.name} failed")

    def _start_nothing_more(self) -> None:
        """After a failure with --fail-fast: what runs may finish."""
        own = [key for key in self.waiting if key in self.own and key not in self.started]
        cancel([self.records[key].slurm for key in own], pending_only=True)
        for key in own:
            del self.waiting[key]
