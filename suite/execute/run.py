"""One `suite run`: check the data, prepare it, train what is pending, mirror it, rewrite the results."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suite.data.prepare import prepare, undecoded
from suite.errors import UsageError
from suite.execute.imports import import_checkpoints
from suite.execute.local import LocalExecutor, Summary
from suite.execute.worker import Device, Places
from suite.grid.jobs import Job, TrainingSpec
from suite.store.ledger import record_cells, write_results
from suite.tracking import BackgroundMirror, tracking_uri
from suite.workspace import Plan, data_facts, refuse_missing


@dataclass(frozen=True)
class RunOutcome:
    """What a run did, per cell."""

    plan: Plan
    trained: int
    cached: int
    summary: Summary
    seconds: float
    results: str

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some cells failed, 130 interrupted."""
        if self.summary.interrupted:
            return 130
        return 1 if self.summary.failed else 0

    def holes(self) -> dict[str, str]:
        """Cells without a number, and why."""
        store = self.plan.workspace.store
        holes = {}
        for item in self.plan.cell_jobs:
            unfinished = [job for job in item.jobs if store.result(job.key) is None]
            if unfinished:
                holes[item.cell.id] = self.summary.failed.get(unfinished[0].key, "not run")
        return holes

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "cells": len(self.plan.cells),
            "trained": self.trained,
            "cached": self.cached,
            "holes": self.holes(),
            "interrupted": self.summary.interrupted,
            "seconds": round(self.seconds, 1),
            "results": self.results,
        }

    def text(self) -> str:
        """For people."""
        lines = [
            f"{len(self.plan.cells)} cells: {self.trained} jobs trained, {self.cached} cached, {self.seconds:.0f} s. "
            f"Results: {self.results}"
        ]
        lines += [f"  no number for {cell}: {reason}" for cell, reason in self.holes().items()]
        if self.summary.interrupted:
            lines.append("interrupted; the same command goes on where it stopped.")
        return "\n".join(lines)


def run_plan(plan: Plan, overrides: Mapping[str, Any], workers: int | None, fail_fast: bool) -> RunOutcome:
    """Run a plan to its end.

    Raises:
        DataError: data missing or wrong; nothing was trained.
    """
    began = time.monotonic()
    refuse_missing(plan)
    workspace, store = plan.workspace, plan.workspace.store
    record_cells(store, plan.profile.name, dict(overrides), plan.cell_jobs, data_facts(plan))
    import_checkpoints(plan.pending, {digest: file for file, digest in plan.checkpoints.values()}, store)
    pending = plan.pending
    summary = Summary([], {}, False)
    # Decoded images of finished cells are made again where they were deleted: figures need them.
    prepare(
        [*pending, *undecoded(plan.jobs, workspace.cache)],
        plan.datasets,
        plan.data_root,
        workspace.cache,
        ProgressLine(),
    )
    if pending:
        places = Places(workspace.runs, workspace.cache, plan.plugins)
        executor = LocalExecutor(places, workers, Device(checkpoint_minutes=checkpoint_minutes()))
        grid = plan.cells[0].grid
        with BackgroundMirror(store, tracking_uri(workspace.runs), grid):
            summary = executor.run(pending, Announcer(len(pending)), fail_fast)
    results = write_results(store)
    cached = len(plan.jobs) - len(pending)
    return RunOutcome(plan, len(summary.done), cached, summary, time.monotonic() - began, str(results))


def checkpoint_minutes() -> float:
    """Minutes between checkpoints: $SUITE_CHECKPOINT_MINUTES, else 5."""
    text = os.environ.get("SUITE_CHECKPOINT_MINUTES", "5")
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"SUITE_CHECKPOINT_MINUTES expects a number of minutes, got '{text}'.") from None


class ProgressLine:
    """Preparation on standard error: one line at the start and at the end of each step, and every ten seconds."""

    def __init__(self) -> None:
        self._last = (0.0, "")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` are done."""
        now = time.monotonic()
        if what != self._last[1] or done == total or now - self._last[0] > 10:
            self._last = (now, what)
            print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)


class Announcer:
    """Plain lines on standard error: every start and end, and at most one line in five seconds per job."""

    def __init__(self, total: int) -> None:
        self.total, self.ends = total, 0
        self._last: dict[str, float] = {}

    def started(self, job: Job) -> None:
        """Announce a start."""
        self._last[job.key] = time.monotonic()
        self._say(f"start {job.name} ({job.key})")

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """Announce an epoch, unless one was announced just before."""
        now = time.monotonic()
        if now - self._last[job.key] < 5:
            return
        self._last[job.key] = now
        if not isinstance(job.spec, TrainingSpec):
            return
        epochs = job.spec.train.epochs
        steps_left = (epochs / line["epoch"] - 1) * line["step"]
        left = steps_left * job.spec.train.batch_size / line["images_per_second"]
        self._say(
            f"{job.name}: epoch {line['epoch']:.0f}/{epochs}, loss {line['loss']:.4f}, "
            f"{line['images_per_second']:.0f} images/s, {left:.0f} s left"
        )

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """Announce an end."""
        self.ends += 1
        self._say(f"{outcome} {job.name}" + (f": {error}" if error else ""))

    def _say(self, text: str) -> None:
        print(f"[{self.ends}/{self.total}] {text}", file=sys.stderr, flush=True)
