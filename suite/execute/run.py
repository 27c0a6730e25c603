"""One `suite run`: check the data, prepare it, train what is pending, mirror it, rewrite the results."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suite.errors import StoreError, TrainingError, UsageError
from suite.execute.context import RunPaths
from suite.execute.display import LiveTable, PlainLines
from suite.execute.engine import Engine, Options, Summary
from suite.execute.imports import import_checkpoints
from suite.execute.invalidate import invalidate_damaged
from suite.execute.mlflow_process import BackgroundMirror
from suite.execute.prepare import undecoded
from suite.execute.preparing import PreparationStopped, prepare_visibly
from suite.jobs.identity import Job
from suite.planning.batches import refuse_uneven
from suite.planning.forecast import Forecast
from suite.planning.plan import Plan, data_facts, refuse_missing
from suite.store.active import ActiveRun
from suite.store.ledger import record_cells, write_results
from suite.store.plugins import remember_plugins
from suite.tracking.address import tracking_uri


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run, per cell."""

    plan: Plan
    trained: int
    cached: int
    summary: Summary
    seconds: float
    results: str

    @property
    def exit_code(self) -> int:
        """0 all done or handed to a queue, 1 some cells failed, 130 interrupted."""
        if self.summary.interrupted:
            return 130
        return 1 if self.summary.failed else 0

    def missing_cells(self) -> dict[str, str]:
        """Cells without a number, and why."""
        store = self.plan.store
        missing = {}
        for item in self.plan.cell_jobs:
            unfinished = [job for job in item.jobs if not store.done(job.key)]
            if unfinished:
                why = "queued" if self.summary.queued else "not run"
                missing[item.cell.id] = self.summary.failed.get(unfinished[0].key, why)
        return missing

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "cells": len(self.plan.cells),
            "trained": self.trained,
            "cached": self.cached,
            "holes": self.missing_cells(),
            "interrupted": self.summary.interrupted,
            "queued": self.summary.queued,
            "seconds": round(self.seconds, 1),
            "results": self.results,
        }

    def text(self) -> str:
        """For people."""
        lines = [
            f"{len(self.plan.cells)} cells: {self.trained} jobs trained, {self.cached} cached, {self.seconds:.0f} s. "
            f"Results: {self.results}"
        ]
        if not self.summary.queued:
            lines += [f"  no number for {cell}: {reason}" for cell, reason in self.missing_cells().items()]
        if self.summary.interrupted:
            lines.append("interrupted; run the same command again to resume.")
        if self.summary.queued:
            lines.append(
                f"{self.summary.queued} jobs are Slurm's now: `suite status` shows them, `suite cancel` ends them, and "
                "the same command waits for them; `suite sync` brings results.csv and MLflow up to date."
            )
        return "\n".join(lines)


def run_plan(plan: Plan, overrides: Mapping[str, Any], engine: Engine, fail_fast: bool) -> RunOutcome:
    """Run a plan to its end on `engine`.

    Raises:
        DataError: data missing or wrong; nothing was trained.
        UsageError: more devices than there are, or than the batches can be shared by; likewise.
    """
    began = time.monotonic()
    refuse_missing(plan)
    for kind in ("pretrain", "finetune"):
        refuse_uneven([job for job in plan.pending if job.spec.kind == kind], engine.devices_for(kind))
    workspace, store = plan.workspace, plan.store
    remember_plugins(workspace.runs, plan.plugins)
    record_cells(store, plan.profile.name, dict(overrides), plan.cell_jobs, data_facts(plan))
    while invalidate_damaged(plan.pending, store):
        continue  # what it starts from may be damaged as well
    import_checkpoints(plan.pending, {digest: file for file, digest in plan.checkpoints.values()}, store)
    pending = plan.pending
    summary = Summary()
    # Decoded images of finished cells are made again where they were deleted: figures need them.
    needed = [*pending, *undecoded(plan.jobs, workspace.cache)]
    if needed:
        facts = {"grid": plan.cells[0].grid, "profile": plan.profile.name, "jobs": [job.key for job in pending]}
        with ActiveRun(workspace.runs, **facts) as here:
            try:
                prepare_visibly(needed, plan.datasets, plan.data_root, workspace.cache, here)
            except (KeyboardInterrupt, PreparationStopped):
                print("Stopped while the data were prepared; finished maps and images are kept.", file=sys.stderr)
                summary.interrupted = True
            if pending and not summary.interrupted:
                summary = _train(plan, pending, engine, fail_fast, here)
    try:
        results = write_results(store)
    except StoreError as error:  # what was trained is in the store all the same
        raise TrainingError(f"{error} Then give the same command again: it trains nothing twice.") from error
    trained = len(summary.done) - summary.elsewhere
    cached = len(plan.jobs) - len(pending) + summary.elsewhere
    return RunOutcome(plan, trained, cached, summary, time.monotonic() - began, str(results))


def _train(plan: Plan, pending: list[Job], engine: Engine, fail_fast: bool, here: ActiveRun) -> Summary:
    """Run the pending jobs on the engine, with MLflow kept up to date beside them."""
    workspace = plan.workspace
    executor = engine.executor(RunPaths(workspace.runs, workspace.cache, plan.plugins), checkpoint_minutes())
    with BackgroundMirror(plan.store, tracking_uri(workspace.runs), plan.cells[0].grid):
        forecast = Forecast(plan, engine.machine)
        options = Options(fail_fast, forecast.remaining, here.asked_to_stop)
        expected = forecast.wall_seconds if engine.starts_at_once else 0.0  # the waiting time of a queue is unknown
        lines = LiveTable(len(pending), expected) if sys.stderr.isatty() else PlainLines(len(pending))
        with lines:
            return executor.run(pending, lines, options)


def checkpoint_minutes() -> float:
    """Minutes between checkpoints: $SUITE_CHECKPOINT_MINUTES, else 5."""
    text = os.environ.get("SUITE_CHECKPOINT_MINUTES", "5")
    try:
        minutes = float(text)
    except ValueError:
        minutes = float("nan")
    if not minutes > 0:
        raise UsageError(f"SUITE_CHECKPOINT_MINUTES expects a number of minutes above 0, got '{text}'.")
    return minutes
