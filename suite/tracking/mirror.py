"""MLflow as a mirror of the store: everything it shows can be replayed from `<runs>`, so a dead tracker costs nothing.

Jobs never talk to MLflow: one process per run does (suite/execute/mlflow_process.py). One experiment per grid; one run
per job, found again by its tag `suite.key`; one run per cell, whose tag `suite.jobs` names its jobs' runs (jobs are
shared, cells are not). Cells as they were recorded (cell.json), jobs and results are artifacts: `restore` makes a store
of them again. One experiment per study of `suite tune` as well, with one run per trial (suite/tracking/studies.py).

Every step may be repeated, for a server can die between any two of them: parameters are there once `suite.synced_step`
is, a run's status comes last, and times of metrics follow from the store, so that MLflow knows a point it has already.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.atomic import write_text
from suite.errors import StoreError
from suite.kinds.base import DataJobSpec
from suite.locks import FileLock
from suite.redact import redact
from suite.store.cells import CellRecord
from suite.store.ledger import read_cells
from suite.store.store import Result, Status, Store
from suite.tracking.address import stray_folder
from suite.tracking.batch import (
    PARAM_LENGTH,
    do_not_wait_for_the_disk,
    elapsed,
    log_all,
    log_file,
    make_database_file,
    metric_points,
    milliseconds,
)
from suite.tracking.studies import read_studies, sync_study

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING", "new": "SCHEDULED"}
_SYNCED = "suite.synced_step"
_RESULT = "suite.result"  # digest of the result.json that is there
_ENTRY = "suite.entry"  # digest of the cell.json that is there


@dataclass
class _MirroredRun:
    """What MLflow has of a job or a cell."""

    run_id: str
    start: int  # milliseconds; the origin of its metrics' times
    status: str = "RUNNING"
    synced: int | None = None  # last step whose metrics are there; None: not even the parameters are
    jobs: str | None = None  # of a cell
    files: str | None = None  # digest of the job's result or of the cell's entry, once its files are there

    @classmethod
    def of(cls, run: Any) -> _MirroredRun:
        tags = run.data.tags
        synced = int(tags[_SYNCED]) if _SYNCED in tags else None
        files = tags.get(_RESULT) or tags.get(_ENTRY)
        return cls(run.info.run_id, run.info.start_time, run.info.status, synced, tags.get("suite.jobs"), files)


def find_runs(client: MlflowClient, experiment: str) -> Iterator[tuple[str, Any]]:
    """The runs that a mirror made in an experiment, each with its tag `suite.key`, `suite.cell` or `suite.trial`."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            names = (run.data.tags.get(f"suite.{kind}") for kind in ("key", "cell", "trial"))
            if (name := next(filter(None, names), None)) is not None:
                yield name, run
        token = page.token
        if not token:
            return


class Mirror:
    """Brings an MLflow server up to date with a store. `sync` may be called as often as one likes.

    Args:
        store: what is mirrored.
        uri: of the server or database.
        late: asked between runs; once it says yes, `sync` leaves the rest for another time.
    """

    def __init__(self, store: Store, uri: str, late: Callable[[], bool] = lambda: False) -> None:
        # MLflow's own default is to try for minutes; the next sync is the better retry.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for data
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # telemetry needs consent
        self.store, self.uri, self.late = store, uri, late
        self.behind = False  # whether the last sync left something
        self._client: MlflowClient | None = None
        self._mirrored: dict[tuple[str, str], _MirroredRun] = {}  # by experiment and suite.key or suite.cell
        self._settled: set[tuple[str, str]] = set()  # those of them that cannot change any more
        self._looked = False
        self._token = uuid.uuid4().hex

    def sync(self, grid: str | None = None, holes: bool = True) -> int:
        """Replay what MLflow lacks, for one grid, one study (`tune/<study>`) or all. Returns the number of runs it
        created or changed.

        `holes`: cells of which nothing has run yet get their (scheduled) run as well, for a report to name them.

        Raises the tracker's exceptions; callers that must continue catch them.
        """
        cells, studies = read_cells(self.store.root, grid), read_studies(self.store.root, grid)
        if not cells and not studies:
            return 0
        self.behind = False
        folder = self.store.root / "grids"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".mlflow.lock"):
            client = self._connect()
            if not self._looked or not self._was_last(folder / ".mlflow.last"):
                self._mirrored.clear()
            self._looked, looked = False, bool(self._mirrored)  # an error below: look again next time
            changed = 0
            for name in dict.fromkeys(entry.grid for entry in cells):
                experiment = self._experiment(client, name)
                if not looked:
                    self._mirrored |= {
                        (experiment, key): _MirroredRun.of(run) for key, run in find_runs(client, experiment)
                    }
                mine = [entry for entry in cells if entry.grid == name]
                changed += self._sync_grid(client, experiment, mine, holes)
            for study in studies:
                experiment = self._experiment(client, study.experiment)
                changed += sync_study(client, experiment, study, dict(find_runs(client, experiment)))
            self._looked = True
            return changed

    def _was_last(self, file: Path) -> bool:
        """Whether this object was the last to sync this store; records it as the last."""
        last = file.read_text("utf-8") if file.is_file() else ""
        if last != self._token:
            write_text(file, self._token)
        return last == self._token

    def _connect(self) -> MlflowClient:
        if self._client is None:
            from mlflow import MlflowClient

            for name in ("alembic", "mlflow"):  # after the import, which sets levels of its own
                logging.getLogger(name).setLevel(logging.WARNING)
            if self.uri.startswith("sqlite:"):
                do_not_wait_for_the_disk()
                make_database_file(self.uri)
            stray = stray_folder(self.uri)
            client = MlflowClient(tracking_uri=self.uri)
            if stray is not None:
                client.search_experiments(max_results=1)  # opens the database
                with suppress(OSError):
                    stray.rmdir()
            self._client = client
        return self._client

    def _experiment(self, client: MlflowClient, name: str) -> str:
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                client.restore_experiment(experiment.experiment_id)
                log.warning("experiment %s had been deleted in MLflow at %s; it is restored.", name, redact(self.uri))
            return str(experiment.experiment_id)
        # Beside a local database MLflow would put artifacts into the current folder, wherever that is.
        local = self.uri.startswith("sqlite:")
        location = (self.store.root / "mlflow-artifacts" / name).resolve().as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location))

    def _sync_grid(self, client: MlflowClient, experiment: str, entries: list[CellRecord], holes: bool) -> int:
        changed = 0
        states: dict[str, Status] = {}
        for key, profile in {key: entry.profile for entry in entries for key in entry.jobs}.items():
            if (experiment, key) in self._settled:
                states[key] = "done"
                continue
            if self.late():
                self.behind = True
                return changed
            states[key] = self.store.status(key)
            try:
                changed += states[key] != "new" and self._sync_job(client, experiment, key, profile, states[key])
            except StoreError as error:
                log.warning("%s MLflow goes without this job.", error)
        for entry in entries:
            if self.late():
                self.behind = True
                return changed
            of_jobs = [states[key] for key in entry.jobs]
            if holes or any(state != "new" for state in of_jobs):
                changed += self._sync_cell(client, experiment, entry, of_jobs)
        return changed

    def _sync_job(self, client: MlflowClient, experiment: str, key: str, profile: str, status: Status) -> bool:
        mirrored = self._mirrored.get((experiment, key))
        after = 0 if mirrored is None or mirrored.synced is None else mirrored.synced
        lines = [line for line in self.store.metrics(key) if line["step"] > after]
        stale = mirrored is None or mirrored.synced is None or bool(lines) or mirrored.status != _STATUS[status]
        stale = stale or (
            status == "done" and mirrored is not None and mirrored.files != _digest(self.store.result(key))
        )
        if stale:
            self._bring_up_to_date(client, experiment, key, profile, status, lines)
        if status == "done":
            self._settled.add((experiment, key))
        return stale

    def _bring_up_to_date(
        self, client: MlflowClient, experiment: str, key: str, profile: str, status: Status, lines: list[Any]
    ) -> None:
        spec, folder = self.store.spec(key), self.store.folder(key)
        mirrored = self._mirrored.get((experiment, key))
        if mirrored is None:
            tags = {"suite.key": key, "suite.kind": spec.kind, "suite.profile": profile}
            if isinstance(spec, DataJobSpec):
                tags |= {"suite.dataset": spec.data.name, "suite.seed": str(spec.seed)}
            start = milliseconds(folder / "job.yaml")
            run = client.create_run(experiment, start_time=start, tags=tags, run_name=self.store.name(key))
            mirrored = self._mirrored[experiment, key] = _MirroredRun(run.info.run_id, start)
        tags = {_SYNCED: str(int(lines[-1]["step"]) if lines else mirrored.synced or 0)}
        points = [point for line in lines for point in metric_points(line, mirrored.start + elapsed(spec, line))]
        result, digest = self.store.result(key), mirrored.files
        if result is not None and status == "done":
            speed = {"seconds": result.seconds, "images_per_second_mean": result.images_per_second}
            points += metric_points({"step": 0, **_final(result), **speed}, mirrored.start)
            tags[_RESULT] = digest = _digest(result)
            self._log_files(client, mirrored.run_id, folder)
        elif mirrored.synced is None:
            log_file(client, mirrored.run_id, folder / "job.yaml")
        if (failure := self.store.failure(key)) is not None:
            tags["suite.error"] = redact(failure.error)[:PARAM_LENGTH]
        elif mirrored.status in {"FAILED", "KILLED"}:
            tags["suite.error"] = ""
        log_all(client, mirrored.run_id, points, spec.model_dump(mode="json") if mirrored.synced is None else {}, tags)
        mirrored.synced, mirrored.files = int(tags[_SYNCED]), digest
        self._settle(client, mirrored, _STATUS[status], milliseconds(folder / "result.json"))

    def _log_files(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        for name in ("job.yaml", "env.json", "log.txt", "result.json", "metrics.jsonl"):
            if (folder / name).is_file():
                log_file(client, run_id, folder / name)
        for path in sorted((folder / "checkpoint").glob("*.safetensors")):
            log_file(client, run_id, path, "checkpoint")

    def _sync_cell(self, client: MlflowClient, experiment: str, entry: CellRecord, states: Sequence[Status]) -> bool:
        name = f"{entry.profile}:{entry.id}"
        if (experiment, name) in self._settled:
            return False
        runs = [self._mirrored[experiment, key].run_id for key in entry.jobs if (experiment, key) in self._mirrored]
        jobs = ",".join(runs)
        wanted, mirrored = _cell_status(states), self._mirrored.get((experiment, name))
        stale = mirrored is None or (mirrored.jobs, mirrored.status, mirrored.files) != (
            jobs,
            wanted,
            _digest(entry.as_json()),
        )
        if stale:
            if mirrored is None:
                tags = {"suite.cell": name, "suite.kind": "cell"}
                fields = ("row", "method", "dataset", "seed", "profile")
                tags |= {f"suite.{field}": str(getattr(entry, field)) for field in fields}
                start = int(time.time() * 1000)
                run_name = f"{entry.id}"
                run = client.create_run(experiment, start_time=start, tags=tags, run_name=run_name)
                mirrored = self._mirrored[experiment, name] = _MirroredRun(run.info.run_id, start)
            self._log_cell(client, mirrored, entry, jobs)
            self._settle(client, mirrored, wanted)
        if wanted == "FINISHED":
            self._settled.add((experiment, name))
        return stale

    def _log_cell(self, client: MlflowClient, mirrored: _MirroredRun, entry: CellRecord, jobs: str) -> None:
        results = [self.store.result(key) for key in entry.measured.values()]
        final = {name: value for result in results if result is not None for name, value in _final(result).items()}
        digest = _digest(entry.as_json())
        tags = {"suite.jobs": jobs, "suite.job_keys": ",".join(entry.jobs), _ENTRY: digest}
        if mirrored.files != digest:
            client.log_dict(mirrored.run_id, entry.as_json(), "cell.json")
        params = entry.recipe if mirrored.jobs is None else {}
        log_all(client, mirrored.run_id, metric_points({"step": 0, **final}, mirrored.start), params, tags)
        mirrored.jobs, mirrored.files = jobs, digest

    def _settle(self, client: MlflowClient, mirrored: _MirroredRun, wanted: str, end: int | None = None) -> None:
        """Give a run its status."""
        if wanted in {"FINISHED", "FAILED", "KILLED"}:
            client.set_terminated(mirrored.run_id, status=wanted, end_time=end)
        elif mirrored.status != wanted:
            client.update_run(mirrored.run_id, status=wanted)
        mirrored.status = wanted


def _cell_status(statuses: Sequence[str]) -> str:
    for status in ("failed", "running", "interrupted"):
        if status in statuses:
            return _STATUS[status]
    if all(status == "new" for status in statuses):
        return _STATUS["new"]
    return "FINISHED" if all(status == "done" for status in statuses) else "RUNNING"


def _digest(content: Result | dict[str, Any] | None) -> str:
    values = content.model_dump(mode="json") if isinstance(content, Result) else content
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:20]


def _final(result: Result) -> dict[str, float]:
    return {f"final.{name}": value for name, value in result.metrics.items()}
