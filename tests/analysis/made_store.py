"""A store as `suite run` leaves it, filled with made-up numbers through the code that records real ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from suite.data.saliency.detectors import DETECTOR_IDENTITIES
from suite.grid.cell_jobs import CellJobs, jobs_of
from suite.grid.cells import Cell, Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.jobs.identity import Job
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.probe import ProbeSpec
from suite.store.ledger import record_cells
from suite.store.store import Failure, Result, Store

SUBSET = {"describe": "CUB subset: 600/5994 train, 528/5794 test, 20/200 classes", "subset": True, "synthetic": False}


def made_up(cell: Cell) -> float:
    """A percentage that looks like one of the paper's, the same for the same cell."""
    rng = random.Random(f"{cell.row.name}/{cell.dataset}/{cell.seed}")
    return 60 + sum(map(ord, cell.row.name)) % 70 / 10 + rng.gauss(0, 0.4)


def fill(
    root: Path,
    grid: str,
    selection: Selection,
    profile: str = "small",
    value: Callable[[Cell], float | None] = made_up,
    facts: Mapping[str, Any] = SUBSET,
    suspicious: Mapping[str, str] | None = None,
) -> list[CellJobs]:
    """Record cells and finish their jobs; those of which `value` is None fail. suspicious: cell id -> reason."""
    store, used = Store(root), load_profile(profile)
    planned = [
        jobs_of(cell, dict.fromkeys(cell.data, "f" * 20), DETECTOR_IDENTITIES)
        for cell in cells(load_grid(grid), used, selection)
    ]
    data = {name: dict(facts) for item in planned for name in item.cell.data}
    record_cells(store, used.name, dict(selection.overrides), planned, data)
    for item in planned:
        percent = value(item.cell)
        for job in item.jobs:
            finish(store, job, percent, (suspicious or {}).get(item.cell.id))
    return planned


def finish(store: Store, job: Job, percent: float | None, reason: str | None = None) -> None:
    """One job with the result it would have, or with a failure."""
    if store.result(job.key) is not None:
        return
    store.begin(job, {"python": "3.11"})
    if percent is None:
        store.fail(
            job.key, Failure(error="TrainingError: the loss became nan\n at step 3", kind="failed", traceback="")
        )
        return
    metrics = {"loss": 1.0}
    if isinstance(job.spec, FinetuneSpec):
        metrics["top1"] = percent
    if isinstance(job.spec, ProbeSpec):
        metrics |= {"knn_top1": percent / 2, "linear_top1": percent / 1.5}
    marks = [reason] if reason and isinstance(job.spec, FinetuneSpec) else []
    store.finish(
        Result(
            key=job.key,
            name=job.name,
            metrics=metrics,
            counts={"n_train": 600, "n_test": 528},
            files={},
            suspicious=marks,
            seconds=1.0,
            images_per_second=10.0,
        )
    )
