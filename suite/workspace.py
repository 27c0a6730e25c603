"""One place on disk where grids are run: resolves names and folders, and turns a selection into a plan."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import DataError
from suite.grid.cells import Cell, CellJobs, Selection, cells, jobs_of
from suite.grid.changes import changes
from suite.grid.recipe import Profile
from suite.grid.spec import GridSpec
from suite.store.ledger import read_cells
from suite.store.store import Status, Store

if TYPE_CHECKING:
    from suite.data.record import Dataset
    from suite.grid.jobs import Job


@dataclass(frozen=True)
class Workspace:
    """The data root and the runs folder. Derived files (decoded images, saliency, drawn data) go to the cache."""

    data: Path
    runs: Path

    @classmethod
    def of(cls, data: Path | None, runs: Path | None) -> Workspace:
        """Command line first, then $SUITE_DATA and $SUITE_RUNS, then ./data and ./runs."""
        return cls(
            data or Path(os.environ.get("SUITE_DATA") or "data"),
            runs or Path(os.environ.get("SUITE_RUNS") or "runs"),
        )

    @property
    def cache(self) -> Path:
        """$SUITE_CACHE, else a folder inside `runs`; may be deleted, at the price of computing it again."""
        return Path(os.environ.get("SUITE_CACHE") or self.runs / "cache")

    @property
    def store(self) -> Store:
        """The results."""
        return Store(self.runs)

    def data_root(self, profile: Profile, draw: bool) -> Path:
        """Where a profile's datasets are. A profile with drawn data uses its own, drawn now if `draw` allows it."""
        if profile.synthetic is None:
            return self.data
        from suite.data.prepare import draw_synthetic, synthetic_root

        return draw_synthetic(profile.synthetic, self.cache) if draw else synthetic_root(profile.synthetic, self.cache)


@dataclass(frozen=True)
class PlannedJob:
    """A job and why it has to run, or that it need not."""

    job: Job
    status: Status
    reason: str


@dataclass
class Plan:
    """The cells of a selection, their jobs, and the datasets behind them. `missing` says what cannot be planned."""

    workspace: Workspace
    profile: Profile
    cells: list[Cell]
    data_root: Path
    datasets: dict[str, Dataset] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # dataset or checkpoint -> why it cannot be used
    checkpoints: dict[str, tuple[Path, str]] = field(default_factory=dict)  # source -> file and its SHA-256
    plugins: tuple[Path, ...] = ()  # loaded here, and to be loaded where jobs run

    @cached_property
    def cell_jobs(self) -> list[CellJobs]:
        """Jobs per cell, for every cell whose dataset is there. Equal jobs are one object."""
        return [self._jobs_of(cell) for cell in self.cells if self._ready(cell)]

    @cached_property
    def unready(self) -> list[CellJobs]:
        """Jobs of the other cells, whose data or checkpoints are missing. Their keys mean nothing: for estimates."""
        return [self._jobs_of(cell) for cell in self.cells if not self._ready(cell)]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        from suite.data.prepare import fingerprints

        return fingerprints(self.datasets, self.workspace.cache)

    def _ready(self, cell: Cell) -> bool:
        there = all(name in self._fingerprints for name in cell.data)
        return there and (cell.checkpoint is None or cell.checkpoint in self.checkpoints)

    def _jobs_of(self, cell: Cell) -> CellJobs:
        from suite.data.prepare import DETECTOR_IDENTITIES

        prints = {name: self._fingerprints.get(name, "missing") for name in cell.data}
        hashes = {source: digest for source, (_, digest) in self.checkpoints.items()}
        if cell.checkpoint is not None:
            hashes.setdefault(cell.checkpoint, "missing")
        return jobs_of(cell, prints, DETECTOR_IDENTITIES, hashes, self._masked)

    @cached_property
    def _masked(self) -> set[str]:
        from suite.data.prepare import masked

        return masked(self.datasets.values())

    @cached_property
    def jobs(self) -> list[Job]:
        """Every distinct job, parents before children."""
        return list({job.key: job for item in self.cell_jobs for job in item.jobs}.values())

    @property
    def pending(self) -> list[Job]:
        """Jobs without a result."""
        return [job for job in self.jobs if self.workspace.store.result(job.key) is None]

    def explain(self) -> list[PlannedJob]:
        """Every job with its state and the reason for it."""
        before = self._before()
        return [PlannedJob(job, *self._state(job, before.get(job.key))) for job in self.jobs]

    def _before(self) -> dict[str, str]:
        """Per job, the key of the one that took its place when its cell was last run with this profile."""
        recorded = {
            (entry["grid"], entry["row"], entry["dataset"], entry["seed"]): entry.get("roles", {})
            for entry in read_cells(self.workspace.runs, profile=self.profile.name)
        }
        return {
            job.key: recorded[item.cell.identity][role]
            for item in self.cell_jobs
            for role, job in item.roles.items()
            if role in recorded.get(item.cell.identity, {})
        }

    def _state(self, job: Job, before: str | None) -> tuple[Status, str]:
        store = self.workspace.store
        status = store.status(job.key)
        if status == "failed" and (failure := store.failure(job.key)) is not None:
            return status, f"failed before: {failure.error}"
        if status == "interrupted":
            resumes = (store.checkpoint(job.key) / "state.pt").is_file()
            why = f"interrupted; {'resumes from its checkpoint' if resumes else 'starts again, no checkpoint was made'}"
            return status, why
        if status == "new" and before not in (None, job.key) and store.status(before) != "new":
            return status, "; ".join(changes(store.spec(before), job.spec))
        return status, {"done": "cached", "running": "another run works on it", "new": "never run"}[status]


def make_plan(
    workspace: Workspace,
    grid: GridSpec,
    profile: Profile,
    selection: Selection,
    draw: bool = False,
    plugins: tuple[Path, ...] = (),
) -> Plan:
    """Resolve a selection; with `draw`, drawn data are made and checkpoints downloaded. What is missing is noted."""
    root = workspace.data_root(profile, draw)
    plan = Plan(workspace, profile, cells(grid, profile, selection), root, plugins=plugins)
    from suite.data.find import load_dataset

    for name in dict.fromkeys(name for cell in plan.cells for name in cell.data):
        try:
            plan.datasets[name] = load_dataset(name, plan.data_root)
        except DataError as error:
            plan.missing[name] = str(error)
    for source in dict.fromkeys(cell.checkpoint for cell in plan.cells if cell.checkpoint is not None):
        from suite.data.download import obtain_file

        try:
            plan.checkpoints[source] = obtain_file(source, workspace.cache, download=draw)
        except DataError as error:
            plan.missing[source] = str(error)
    return plan


def refuse_missing(plan: Plan) -> None:
    """Raise one DataError that says what is missing for every dataset."""
    if plan.missing:
        raise DataError("\n".join(plan.missing.values()))


def data_facts(plan: Plan) -> dict[str, dict[str, Any]]:
    """Per dataset in use, what a caption must tell about it."""
    return {
        name: {"describe": data.describe(), "subset": data.subset, "synthetic": data.synthetic}
        for name, data in plan.datasets.items()
    }
