"""One grid in MLflow: a run per cell, and below it the runs of its jobs.

A job's run stands below the run of the first cell that uses it; the tag `suite.jobs` of every cell names the runs of
all its jobs, shared ones included, and its inputs are their datasets. Any two calls may be separated by the death of
the server or of this process: what marks a run as complete is written last, so that the next sync repeats what is
missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from suite.errors import StoreError
from suite.redact import redact
from suite.store.cells import CellRecord
from suite.store.store import Result, Status, Store
from suite.tracking.batch import PARAM_LENGTH, log_all, log_file, log_json, milliseconds
from suite.tracking.bulk import BulkRun, BulkWriter
from suite.tracking.contents import (
    cell_name,
    cell_points,
    cell_tags,
    dataset_inputs,
    digest,
    entry_tags,
    job_files,
    job_points,
    job_tags,
    parent_tag,
    source_tags,
    state_tags,
)
from suite.tracking.runs import LAYOUT, LAYOUT_TAG, MirroredRun, find_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING", "new": "SCHEDULED"}


class ExperimentMirror:
    """Brings the runs of one grid up to date.

    Args:
        client: of the server or database.
        experiment: its id in MLflow.
        store: what is mirrored.
        late: asked between runs; once it says yes, the rest is left for another time.
    """

    def __init__(self, client: MlflowClient, experiment: str, store: Store, late: Callable[[], bool]) -> None:
        self.experiment = experiment
        self._client, self._store, self._late = client, store, late
        self._runs = {name: MirroredRun.of(run) for name, run in find_runs(client, experiment)}  # by key or cell
        self._settled: set[str] = set()  # those of them that cannot change any more
        self._bulk = BulkWriter.of(client, experiment)
        self.behind = False  # whether the last sync left something

    def sync(self, entries: Sequence[CellRecord], include_unstarted: bool) -> int:
        """One cell after another, each with those of its jobs that no cell before it has. Returns the number of runs
        that were created or changed.

        Args:
            entries: cells of this grid.
            include_unstarted: cells of which nothing has run yet get their (scheduled) run as well.
        """
        self.behind = False
        changed = 0
        states: dict[str, Status] = {}
        for entry in entries:
            if cell_name(entry) in self._settled:
                states |= dict.fromkeys(entry.jobs, "done")
                continue
            new = [key for key in entry.jobs if key not in states]
            states |= {key: "done" if key in self._settled else self._store.status(key) for key in new}
            of_jobs = [states[key] for key in entry.jobs]
            if not include_unstarted and all(state == "new" for state in of_jobs):
                continue
            if self._late():
                self.behind = True
                break
            if added := self._add_finished(entry, of_jobs):
                changed += added
                continue
            self._flush()  # runs of jobs that this cell shares may be among those
            changed += self._sync_entry(entry, states, new)
            if self.behind:
                break
        self._flush()
        return changed

    def _add_finished(self, entry: CellRecord, states: Sequence[Status]) -> int:
        """Hand a cell that is not in MLflow, all of whose jobs are finished, to the bulk writer. Returns the number of
        runs; 0 where the cell has to go through the client."""
        if self._bulk is None or cell_name(entry) in self._runs or set(states) != {"done"}:
            return 0
        now = int(time.time() * 1000)
        cell = BulkRun(entry.id, now, now, cell_tags(entry) | source_tags(), entry.recipe)
        new = [key for key in entry.jobs if key not in self._runs]
        try:
            runs = {key: self._finished_job(key, entry.profile, cell.run_id) for key in new}
        except StoreError:
            return 0
        self._runs |= {key: MirroredRun(run.run_id, run.start, self._bulk.address(run)) for key, run in runs.items()}
        content = entry.as_json()
        cell.points = cell_points(self._store, entry, now)
        cell.inputs = dataset_inputs(self._store, entry.jobs)
        cell.json_files = {"cell.json": content}
        cell.last_tags = entry_tags(entry, self._runs_of(entry), content) | LAYOUT_TAG
        self._runs[cell_name(entry)] = MirroredRun(cell.run_id, now, self._bulk.address(cell))
        for run in (*runs.values(), cell):
            self._bulk.add(run)
        self._settled |= {*new, cell_name(entry)}
        self._bulk.flush_if_many()
        return len(runs) + 1

    def _finished_job(self, key: str, profile: str, parent: str) -> BulkRun:
        spec, folder, lines = self._store.spec(key), self._store.folder(key), self._store.metrics(key)
        result, start = self._store.result(key), milliseconds(folder / "job.yaml")
        if result is None:
            raise StoreError(f"the result of job {key} was deleted during the sync. Run `suite sync` again.")
        return BulkRun(
            name=self._store.name(key),
            start=start,
            end=milliseconds(folder / "result.json"),
            tags=job_tags(key, spec, profile)
            | parent_tag(parent)
            | source_tags(folder)
            | state_tags(lines, None, result)
            | LAYOUT_TAG,
            params=spec.model_dump(mode="json"),
            points=job_points(spec, start, lines, result),
            files=list(job_files(folder)),
        )

    def _flush(self) -> None:
        if self._bulk is not None:
            self._bulk.flush()

    def _sync_entry(self, entry: CellRecord, states: dict[str, Status], new: Sequence[str]) -> int:
        """A cell and those of its jobs that are `new` in this sync, through the client."""
        changed = 0
        cell = self._cell_run(entry)
        for key in (key for key in new if states[key] != "new" and key not in self._settled):
            if self._late():
                self.behind = True
                return changed
            try:
                changed += self._sync_job(key, entry.profile, states[key], cell.run_id)
            except StoreError as error:
                log.warning("%s MLflow goes without this job.", error)
        return changed + self._sync_cell(entry, cell, [states[key] for key in entry.jobs])

    def _sync_job(self, key: str, profile: str, status: Status, parent: str) -> bool:
        run = self._runs.get(key)
        after = 0 if run is None or run.synced is None else run.synced
        lines = [line for line in self._store.metrics(key) if line["step"] > after]
        result = self._store.result(key) if status == "done" else None
        stale = run is None or run.synced is None or bool(lines) or run.status != _STATUS[status]
        if stale or (run is not None and result is not None and run.files != digest(result)):
            self._bring_up_to_date(key, profile, status, lines, parent, result)
            stale = True
        elif run is not None and run.layout != LAYOUT:
            tags = LAYOUT_TAG | parent_tag(parent) | source_tags(self._store.folder(key))
            log_all(self._client, run.run_id, (), {}, tags)
            run.layout, stale = LAYOUT, True
        if status == "done":
            self._settled.add(key)
        return stale

    def _bring_up_to_date(
        self, key: str, profile: str, status: Status, lines: list[Any], parent: str, result: Result | None
    ) -> None:
        spec, folder = self._store.spec(key), self._store.folder(key)
        run, failure = self._runs.get(key), None if status == "done" else self._store.failure(key)
        synced = None if run is None else run.synced
        tags = parent_tag(parent) | source_tags(folder) | state_tags(lines, synced, result) | LAYOUT_TAG
        if failure is not None:
            tags["suite.error"] = redact(failure.error)[:PARAM_LENGTH]
        elif run is not None and run.status in {"FAILED", "KILLED"}:
            tags["suite.error"] = ""
        if run is None:
            first = job_tags(key, spec, profile)
            if result is not None:  # a run of a finished job counts once its status says so: no call for tags alone
                first, tags = first | tags, {}
            run = self._create(key, self._store.name(key), milliseconds(folder / "job.yaml"), first)
        if result is not None:
            for path, place in job_files(folder):
                log_file(self._client, run.run_id, run.artifacts, path, place or None)
        elif run.synced is None:
            log_file(self._client, run.run_id, run.artifacts, folder / "job.yaml")
        points = job_points(spec, run.start, lines, result)
        log_all(self._client, run.run_id, points, spec.model_dump(mode="json") if run.synced is None else {}, tags)
        run.synced = int(lines[-1]["step"]) if lines else run.synced or 0
        run.files, run.layout = run.files if result is None else digest(result), LAYOUT
        self._settle(run, _STATUS[status], milliseconds(folder / "result.json"))

    def _create(self, name: str, run_name: str, start: int, tags: dict[str, str]) -> MirroredRun:
        created = self._client.create_run(self.experiment, start_time=start, tags=tags, run_name=run_name)
        run = self._runs[name] = MirroredRun(created.info.run_id, start, created.info.artifact_uri or "")
        return run

    def _cell_run(self, entry: CellRecord) -> MirroredRun:
        """The run of a cell; created where there is none."""
        if (run := self._runs.get(cell_name(entry))) is not None:
            return run
        return self._create(cell_name(entry), entry.id, int(time.time() * 1000), cell_tags(entry))

    def _runs_of(self, entry: CellRecord) -> str:
        return ",".join(self._runs[key].run_id for key in entry.jobs if key in self._runs)

    def _sync_cell(self, entry: CellRecord, run: MirroredRun, states: Sequence[Status]) -> bool:
        jobs, content, wanted = self._runs_of(entry), entry.as_json(), _cell_status(states)
        stale = (run.jobs, run.status, run.files, run.layout) != (jobs, wanted, digest(content), LAYOUT)
        if stale:
            tags = entry_tags(entry, jobs, content)
            if run.layout != LAYOUT:
                tags |= LAYOUT_TAG | source_tags()
            if run.files != digest(content):
                log_json(self._client, run.run_id, run.artifacts, "cell.json", content)
            if (run.jobs, run.layout) != (jobs, LAYOUT) and (inputs := dataset_inputs(self._store, entry.jobs)):
                self._client.log_inputs(run.run_id, inputs)
            points = cell_points(self._store, entry, run.start)
            log_all(self._client, run.run_id, points, entry.recipe if run.jobs is None else {}, tags)
            run.jobs, run.files, run.layout = jobs, digest(content), LAYOUT
            self._settle(run, wanted)
        if wanted == "FINISHED":
            self._settled.add(cell_name(entry))
        return stale

    def _settle(self, run: MirroredRun, wanted: str, end: int | None = None) -> None:
        """Give a run its status."""
        if wanted in {"FINISHED", "FAILED", "KILLED"}:
            self._client.set_terminated(run.run_id, status=wanted, end_time=end)
        elif run.status != wanted:
            self._client.update_run(run.run_id, status=wanted)
        run.status = wanted


def _cell_status(statuses: Sequence[str]) -> str:
    for status in ("failed", "running", "interrupted"):
        if status in statuses:
            return _STATUS[status]
    if all(status == "new" for status in statuses):
        return _STATUS["new"]
    return "FINISHED" if all(status == "done" for status in statuses) else "RUNNING"
