"""From a selection of cells to a plan: which jobs have to run, and why."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from suite.data.datasets.fingerprint import fingerprint
from suite.data.datasets.known import load_known, remember_known
from suite.data.download.checkpoint import obtain_file
from suite.data.download.public import find_public, of_source
from suite.data.record import Dataset
from suite.data.saliency.detectors import DETECTOR_IDENTITIES, masked
from suite.errors import DataError, StoreError
from suite.grid.cell_jobs import CellJobs, jobs_of
from suite.grid.cells import Cell, Selection, cells, needed_plugin, select_rows
from suite.grid.profile import Profile
from suite.grid.spec import GridSpec
from suite.jobs.changes import changes
from suite.jobs.identity import Job
from suite.store.ledger import read_cells
from suite.store.store import Status, Store
from suite.workspace import Workspace


def fingerprints(datasets: Mapping[str, Dataset], cache: Path) -> dict[str, str]:
    """Content hash per dataset."""
    prints = {}
    for name, dataset in datasets.items():
        prints[name] = dataset.known_fingerprint or fingerprint(dataset, cache)
        remember_known(dataset, prints[name], cache)
    return prints


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
    left_out: dict[str, str] = field(default_factory=dict)  # reference row -> what it lacks
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
        return fingerprints(self.datasets, self.workspace.cache)

    def _ready(self, cell: Cell) -> bool:
        there = all(name in self._fingerprints for name in cell.data)
        return there and (cell.checkpoint is None or cell.checkpoint in self.checkpoints)

    def _jobs_of(self, cell: Cell) -> CellJobs:
        prints = {name: self._fingerprints.get(name, "missing") for name in cell.data}
        hashes = {source: digest for source, (_, digest) in self.checkpoints.items()}
        if cell.checkpoint is not None:
            hashes.setdefault(cell.checkpoint, "missing")
        return jobs_of(cell, prints, DETECTOR_IDENTITIES, hashes, self._masked)

    @cached_property
    def _masked(self) -> set[str]:
        return masked(self.datasets.values())

    @cached_property
    def jobs(self) -> list[Job]:
        """Every distinct job, parents before children."""
        return list({job.key: job for item in self.cell_jobs for job in item.jobs}.values())

    @property
    def pending(self) -> list[Job]:
        """Jobs without a result."""
        started = self.store.started()
        return [job for job in self.jobs if job.key not in started or not self.store.done(job.key)]

    @cached_property
    def store(self) -> Store:
        """The results."""
        return self.workspace.store

    def explain(self) -> list[PlannedJob]:
        """Every job with its state and the reason for it."""
        before, started = self._before(), self.store.started()
        states: dict[str, Status] = {
            job.key: self.store.status(job.key) if job.key in started else "new" for job in self.jobs
        }
        return [PlannedJob(job, states[job.key], self._reason(job, before.get(job.key), states)) for job in self.jobs]

    def _before(self) -> dict[str, str]:
        """Per job, the key of the one that took its place when its cell was last run with this profile."""
        recorded = {
            (entry.grid, entry.row, entry.dataset, entry.seed): entry.roles
            for entry in read_cells(self.workspace.runs, profile=self.profile.name)
        }
        return {
            job.key: recorded[item.cell.identity][role]
            for item in self.cell_jobs
            if item.cell.identity in recorded
            for role, job in item.roles.items()
            if role in recorded[item.cell.identity]
        }

    def _reason(self, job: Job, before: str | None, states: Mapping[str, Status]) -> str:
        store, status = self.store, states[job.key]
        if status == "failed" and (failure := store.failure(job.key)) is not None:
            return f"failed before: {failure.error}"
        if status == "interrupted":
            resumes = (store.checkpoint(job.key) / "state.pt").is_file()
            failure = store.failure(job.key)
            why = f" ({failure.error})" if failure is not None and failure.error else ""
            return f"interrupted{why}; {'resumes from its checkpoint' if resumes else 'starts again, no checkpoint'}"
        if status == "new":
            if before is not None and before != job.key:
                with suppress(StoreError):  # the earlier job never started, or its file is damaged
                    return "; ".join(changes(store.spec(before), job.spec))
            failed = [parent.name for parent in job.parents if states[parent.key] == "failed"]
            return f"never run: {failed[0]} failed before" if failed else "never run"
        return {"done": "cached", "running": "another run works on it"}[status]


def make_plan(
    workspace: Workspace,
    grid: GridSpec,
    profile: Profile,
    selection: Selection,
    obtain_inputs: bool = False,
    plugins: tuple[Path, ...] = (),
) -> Plan:
    """Resolve a selection; with `obtain_inputs`, render synthetic data and download checkpoints. Note missing data."""
    root = workspace.data_root(profile, obtain_inputs)
    plan = Plan(workspace, profile, cells(grid, profile, selection), root, plugins=plugins)

    for name in dict.fromkeys(name for cell in plan.cells for name in cell.data):
        try:
            plan.datasets[name] = load_known(name, plan.data_root, workspace.cache)
        except DataError as error:
            plan.missing[name] = str(error)
    for source in dict.fromkeys(cell.checkpoint for cell in plan.cells if cell.checkpoint is not None):
        try:
            public = of_source(source)
            if public is None:
                plan.checkpoints[source] = obtain_file(source, workspace.cache, download=obtain_inputs)
            else:
                plan.checkpoints[source] = find_public(public, workspace.data, workspace.cache)
        except DataError as error:
            plan.missing[source] = str(error)
    _leave_out_references(plan, grid, selection)
    return plan


def _leave_out_references(plan: Plan, grid: GridSpec, selection: Selection) -> None:
    """Leave out reference rows whose backbone or checkpoint is not there, unless they were asked for by name."""
    rows = [] if selection.only is not None else select_rows(grid, selection)
    optional = [row for row in rows if row.reference is not None and not selection.names(row)]
    for row in optional:
        of_row = [cell for cell in plan.cells if cell.row.name == row.name]
        why = plan.missing.get(row.stage1_checkpoint or "") or needed_plugin(row)
        if why is not None and (len(of_row) < len(plan.cells) or not of_row):
            plan.left_out[row.name] = why
            plan.cells = [cell for cell in plan.cells if cell.row.name != row.name]
    needed = {cell.checkpoint for cell in plan.cells}
    lacking = {row.stage1_checkpoint for row in optional if row.name in plan.left_out} - needed
    plan.missing = {name: why for name, why in plan.missing.items() if name not in lacking}


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
