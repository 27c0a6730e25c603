"""MLflow as a mirror of the store: everything it shows can be replayed from `<runs>`, so a dead tracker costs nothing.

Only the parent process talks to MLflow. One experiment per grid; one run per job, found again by its tag `suite.key`;
one run per cell, whose tag `suite.jobs` names its jobs' runs (jobs are shared, cells are not). Cells as they were
recorded (cell.json), jobs and results are artifacts: `tracking_read` makes a store of them again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock

from suite.grid.jobs import ImportSpec
from suite.store.ledger import read_cells
from suite.store.store import Result, Store
from suite.tracking_batch import log_metrics, log_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_STATUS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING", "new": "SCHEDULED"}
_SYNCED = "suite.synced_step"
_RESULT = "suite.result"  # digest of the result.json that is there
_ENTRY = "suite.entry"  # digest of the cell.json that is there


def tracking_uri(runs: Path) -> str:
    """$MLFLOW_TRACKING_URI, else a database inside `runs`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs.resolve() / 'mlflow.db'}"


def without_password(text: str, uri: str) -> str:
    """`text` without the user and password that `uri` may hold; errors of a server quote its whole address."""
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(user + at, "") if at else text


class Mirror:
    """Brings an MLflow server up to date with a store. `sync` may be called as often as one likes."""

    def __init__(self, store: Store, uri: str) -> None:
        # MLflow's own default is to try for minutes; the next sync is the better retry.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for data
        self.store, self.uri = store, uri
        self._client: MlflowClient | None = None
        self._runs: dict[str, Any] = {}  # suite.key or suite.cell -> MLflow run

    def sync(self, grid: str | None = None) -> int:
        """Replay what MLflow lacks, for one grid or all. Returns the number of runs created or changed.

        Raises whatever the tracker raises; callers that must go on catch it.
        """
        cells = read_cells(self.store.root, grid)
        if not cells:
            return 0
        with FileLock(self.store.root / "grids" / ".mlflow.lock"):
            client = self._connect()
            changed = 0
            for name in dict.fromkeys(entry["grid"] for entry in cells):
                experiment = self._experiment(client, name)
                jobs_elsewhere = {name: run for name, run in self._runs.items() if "suite.key" in run.data.tags}
                self._runs = jobs_elsewhere | find_runs(client, experiment)  # cells of two grids may share a name
                mine = [entry for entry in cells if entry["grid"] == name]
                profiles = {key: cell["profile"] for cell in mine for key in cell["jobs"]}
                for key, profile in profiles.items():
                    changed += self._sync_job(client, experiment, key, profile)
                changed += sum(self._sync_cell(client, experiment, entry) for entry in mine)
            return changed

    def _connect(self) -> MlflowClient:
        if self._client is None:
            from mlflow import MlflowClient

            for name in ("alembic", "mlflow"):  # after the import, which sets levels of its own
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def _experiment(self, client: MlflowClient, name: str) -> str:
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # Beside a local database MLflow would put artifacts into the current folder, wherever that is.
        local = self.uri.startswith("sqlite:")
        location = (self.store.root / "mlflow-artifacts" / name).resolve().as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location))

    def _sync_job(self, client: MlflowClient, experiment: str, key: str, profile: str) -> int:
        status = self.store.status(key)
        if status == "new":
            return 0
        run = self._runs.get(key)
        if run is None:
            spec = self.store.spec(key)
            tags = {"suite.key": key, "suite.kind": spec.kind, "suite.profile": profile, _SYNCED: "0"}
            if not isinstance(spec, ImportSpec):
                tags |= {"suite.dataset": spec.data.name, "suite.seed": str(spec.seed)}
            run = client.create_run(experiment, tags=tags, run_name=self.store.name(key))
            self._runs[key] = run
            log_params(client, run.info.run_id, spec.model_dump(mode="json"))
            client.log_artifact(run.info.run_id, str(self.store.folder(key) / "job.yaml"))
        run_id = run.info.run_id
        lines = [line for line in self.store.metrics(key) if line["step"] > int(run.data.tags.get(_SYNCED, "0"))]
        wanted = _STATUS[status]
        result = _digest(self.store.result(key))
        if not lines and run.info.status == wanted and run.data.tags.get(_RESULT, result) == result:
            return 0
        if lines:
            log_metrics(client, run_id, lines)
            client.set_tag(run_id, _SYNCED, str(int(lines[-1]["step"])))
        if status == "done":
            self._log_final(client, run_id, key)
            client.set_tag(run_id, _RESULT, result)
        if (failure := self.store.failure(key)) is not None:
            client.set_tag(run_id, "suite.error", failure.error[:500])
        self._settle(client, key, run, wanted)
        return 1

    def _log_final(self, client: MlflowClient, run_id: str, key: str) -> None:
        result = self.store.result(key)
        if result is not None:
            speed = {"seconds": result.seconds, "images_per_second_mean": result.images_per_second}
            log_metrics(client, run_id, [{"step": 0, **_final(result), **speed}])
        folder = self.store.folder(key)
        for name in ("job.yaml", "env.json", "log.txt", "result.json", "metrics.jsonl"):
            if (folder / name).is_file():
                client.log_artifact(run_id, str(folder / name))
        for path in sorted((folder / "checkpoint").glob("*.safetensors")):
            client.log_artifact(run_id, str(path), artifact_path="checkpoint")

    def _sync_cell(self, client: MlflowClient, experiment: str, entry: dict[str, Any]) -> int:
        statuses = [self.store.status(key) for key in entry["jobs"]]
        name = f"{entry['profile']}:{entry['row']}/{entry['dataset']}/{entry['seed']}"
        jobs = ",".join(self._runs[key].info.run_id for key in entry["jobs"] if key in self._runs)
        wanted, content = _cell_status(statuses), _digest(entry)
        run = self._runs.get(name)
        known = {} if run is None else {"status": run.info.status, **run.data.tags}
        if (known.get("status"), known.get("suite.jobs"), known.get(_ENTRY)) == (wanted, jobs, content):
            return 0
        if run is None:
            tags = {"suite.cell": name, "suite.kind": "cell"}
            tags |= {f"suite.{field}": str(entry[field]) for field in ("row", "method", "dataset", "seed", "profile")}
            run = client.create_run(
                experiment, tags=tags, run_name=f"{entry['row']}/{entry['dataset']}/{entry['seed']}"
            )
            log_params(client, run.info.run_id, entry["recipe"])
        run_id = run.info.run_id
        client.set_tag(run_id, "suite.jobs", jobs)
        client.set_tag(run_id, "suite.job_keys", ",".join(entry["jobs"]))
        results = [self.store.result(key) for key in entry["measured"].values()]
        if any(result is not None for result in results):
            final = {name: value for result in results if result is not None for name, value in _final(result).items()}
            log_metrics(client, run_id, [{"step": 0, **final}])
        client.log_dict(run_id, entry, "cell.json")
        client.set_tag(run_id, _ENTRY, content)
        self._settle(client, name, run, wanted)
        return 1

    def _settle(self, client: MlflowClient, name: str, run: Any, wanted: str) -> None:
        """Give a run its status, and remember it as MLflow has it now."""
        if wanted in {"FINISHED", "FAILED", "KILLED"}:
            client.set_terminated(run.info.run_id, status=wanted)
        elif run.info.status != wanted:
            client.update_run(run.info.run_id, status=wanted)
        self._runs[name] = client.get_run(run.info.run_id)


class BackgroundMirror:
    """Keeps MLflow up to date while jobs run. A tracker that is down is reported once and never stops anything."""

    def __init__(self, store: Store, uri: str, grid: str, every: float = 10.0) -> None:
        self.mirror, self.grid, self.every = Mirror(store, uri), grid, every
        self._stop = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._loop, name="suite-mlflow", daemon=True)

    def __enter__(self) -> BackgroundMirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sync()

    def _loop(self) -> None:
        while not self._stop.wait(self.every):
            self._sync()

    def _sync(self) -> None:
        try:
            self.mirror.sync(self.grid)
        except Exception as error:  # noqa: BLE001  - the tracker may fail in any way; training must not
            if not self._warned:
                self._warned = True
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                text = f"MLflow at {self.mirror.uri} cannot be reached ({reason})"
                log.warning("%s. Training goes on; `suite sync` catches up.", without_password(text, self.mirror.uri))


def find_runs(client: MlflowClient, experiment: str) -> dict[str, Any]:
    """The runs that this module made in an experiment, by their tag `suite.key` or `suite.cell`."""
    found: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            name = run.data.tags.get("suite.key") or run.data.tags.get("suite.cell")
            if name is not None:
                found[name] = run
        token = page.token
        if not token:
            return found


def _digest(content: Result | dict[str, Any] | None) -> str:
    values = content.model_dump(mode="json") if isinstance(content, Result) else content
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:20]


def _cell_status(statuses: Sequence[str]) -> str:
    for status in ("failed", "running", "interrupted"):
        if status in statuses:
            return _STATUS[status]
    if all(status == "new" for status in statuses):
        return _STATUS["new"]
    return "FINISHED" if all(status == "done" for status in statuses) else "RUNNING"


def _final(result: Result) -> dict[str, float]:
    return {f"final.{name}": value for name, value in result.metrics.items()}
