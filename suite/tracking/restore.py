"""Rebuild a result store from MLflow, so that `suite report` can read it.

MLflow has neither weights nor decoded images, so figures that need a network cannot be made from such a store.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from suite.atomic import write_json
from suite.errors import StoreError, SuiteError, unknown
from suite.redact import redact
from suite.store.cells import CellRecord
from suite.store.ledger import choose_profile, write_cells
from suite.store.store import Failure, Store
from suite.tracking.address import given_uri, sqlite_path
from suite.tracking.problems import describe_tracker_error, is_tracker_error
from suite.tracking.runs import find_runs
from suite.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_NEEDED = ("job.yaml", "result.json")  # of a finished job; of another only the first
_WELCOME = ("env.json", "metrics.jsonl")  # curves and versions, for those who show them
_AT_ONCE = 8  # downloads; each waits for the server most of its time


@contextlib.contextmanager
def mirrored(uri: str, grids: Sequence[str], profile: str | None) -> Iterator[Workspace]:
    """A workspace with a temporary store that holds the cells of `grids` (names) and their results as MLflow has them.

    Raises:
        UsageError: a grid is not there, or with several profiles and none is chosen.
        StoreError: the tracker or an artifact cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="suite-mlflow-") as folder:
        fetch(uri, grids, profile, Store(Path(folder)))
        yield Workspace(Path(folder) / "data", Path(folder))


def fetch(uri: str, grids: Sequence[str], profile: str | None, store: Store) -> None:
    """Write cells and finished jobs of `grids` into an empty `store`; raises as `mirrored` does."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    uri = given_uri(uri, "--from-mlflow")
    shown, database = redact(uri), sqlite_path(uri)
    if database is not None and not database.exists():  # MLflow would create it
        raise StoreError(f"there is no database at {shown}. A run writes to RUNS/mlflow.db or $MLFLOW_TRACKING_URI.")
    try:
        client = MlflowClient(tracking_uri=uri)
        experiments = {experiment.name: str(experiment.experiment_id) for experiment in client.search_experiments()}
        for grid in grids:
            if grid not in experiments:
                raise _missing_grid(client, grid, experiments, shown)
            _fetch_grid(client, experiments[grid], grid, profile, store, shown)
    except Exception as error:
        if isinstance(error, SuiteError) or not is_tracker_error(error):
            raise
        raise StoreError(
            f"{describe_tracker_error(error, uri)} Is it the address `suite run` wrote to? Artifacts beside a local "
            "database stay on that machine; a server (mlflow server) hands them out."
        ) from None


def _missing_grid(client: MlflowClient, grid: str, experiments: Iterable[str], shown: str) -> SuiteError:
    experiment = client.get_experiment_by_name(grid)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        return StoreError(
            f"experiment {grid} was deleted in MLflow at {shown}. `suite sync` where it was run restores it."
        )
    return unknown(f"grid in MLflow at {shown}:", grid, experiments, "`suite sync` mirrors a store.")


def _fetch_grid(
    client: MlflowClient, experiment: str, grid: str, profile: str | None, store: Store, shown: str
) -> None:
    runs = dict(find_runs(client, experiment))
    cells = [run for run in runs.values() if "suite.cell" in run.data.tags]
    chosen = choose_profile({run.data.tags["suite.profile"] for run in cells}, grid, profile, f"MLflow at {shown}")
    cells = [run for run in cells if run.data.tags["suite.profile"] == chosen]
    old = sorted(str(run.data.tags["suite.cell"]) for run in cells if "suite.entry" not in run.data.tags)
    if old:
        raise StoreError(
            f"MLflow at {shown} has cells whose sync was interrupted, or was made by an earlier version of the suite: "
            f"{', '.join(old[:5])}. `suite sync` where they were run completes them."
        )
    by_id: dict[str, Run] = {run.info.run_id: run for run in runs.values()}
    wanted = {name: by_id.get(name) for run in cells for name in run.data.tags["suite.jobs"].split(",") if name}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        entries = list(pool.map(lambda run: _cell(client, run), cells))
        # A job that two grids share may have its run in the experiment of the other.
        list(pool.map(lambda item: _fetch_job(client, item[1] or client.get_run(item[0]), store), wanted.items()))
    write_cells(store.root, grid, chosen, sorted(entries, key=lambda e: (*e.row_and_dataset, e.seed)))


def _cell(client: MlflowClient, run: Run) -> CellRecord:
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run.info.run_id, "cell.json", folder)
        return CellRecord.model_validate_json(Path(path).read_text("utf-8"))


def _fetch_job(client: MlflowClient, run: Run, store: Store) -> None:
    key = run.data.tags["suite.key"]
    folder = store.folder(key)
    if folder.exists():
        return  # of a grid before
    folder.mkdir(parents=True)
    finished = run.info.status == "FINISHED"
    for name in _NEEDED if finished else _NEEDED[:1]:
        client.download_artifacts(run.info.run_id, name, str(folder))
    if finished:
        there = {item.path for item in client.list_artifacts(run.info.run_id)}
        for name in _WELCOME:
            if name in there:
                client.download_artifacts(run.info.run_id, name, str(folder))
    elif run.info.status == "FAILED":
        failure = Failure(error=run.data.tags.get("suite.error", "failed"), kind="failed", traceback="")
        write_json(folder / "failure.json", failure.model_dump(mode="json"))
