"""MLflow as a mirror of the store: everything it shows can be replayed from `<runs>`, so a dead tracker costs nothing.

Jobs never talk to MLflow: one process per run does (suite/execute/mlflow_process.py). One experiment per grid, with one
run per cell and one per job below it, found again by their tags `suite.cell` and `suite.key`
(suite/tracking/experiment.py). Cells as they were recorded (cell.json), jobs and results are artifacts: `restore` makes
a store of them again. One experiment per study of `suite tune` as well, with one run per trial
(suite/tracking/studies.py).

Every step may be repeated, for a server can die between any two of them: parameters are there once `suite.synced_step`
is, a run's status comes last, and times of metrics follow from the store, so that MLflow knows a point it has already.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from suite.atomic import write_text
from suite.locks import FileLock
from suite.redact import redact
from suite.store.ledger import read_cells
from suite.store.store import Store
from suite.tracking.address import stray_folder
from suite.tracking.batch import do_not_wait_for_the_disk, make_database_file
from suite.tracking.contents import EXPERIMENT_TAGS
from suite.tracking.experiment import ExperimentMirror
from suite.tracking.runs import find_runs
from suite.tracking.studies import read_studies, sync_study

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


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
        self._experiments: dict[str, ExperimentMirror] = {}  # by grid; what MLflow has is remembered
        self._token = uuid.uuid4().hex

    def sync(self, grid: str | None = None, include_unstarted: bool = True) -> int:
        """Replay what MLflow lacks, for one grid, one study (`tune/<study>`) or all. Returns the number of runs it
        created or changed.

        `include_unstarted`: cells of which nothing has run yet get their (scheduled) run as well, for a report to name
        them.

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
            known = self._experiments if self._was_last(folder / ".mlflow.last") else {}
            self._experiments = {}  # an error below: ask MLflow again next time
            changed = 0
            for name in dict.fromkeys(entry.grid for entry in cells):
                experiment = self._experiment(client, name)
                grid_mirror = known.get(name)
                if grid_mirror is None or grid_mirror.experiment != experiment:
                    grid_mirror = ExperimentMirror(client, experiment, self.store, self.late)
                changed += grid_mirror.sync([entry for entry in cells if entry.grid == name], include_unstarted)
                self.behind = self.behind or grid_mirror.behind
                known[name] = grid_mirror
            for study in studies:
                experiment = self._experiment(client, study.experiment)
                changed += sync_study(client, experiment, study, dict(find_runs(client, experiment)))
            self._experiments = known
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
            for tag, text in EXPERIMENT_TAGS.items():
                if tag not in experiment.tags:
                    client.set_experiment_tag(experiment.experiment_id, tag, text)
            return str(experiment.experiment_id)
        # Beside a local database MLflow would put artifacts into the current folder, wherever that is.
        local = self.uri.startswith("sqlite:")
        location = (self.store.root / "mlflow-artifacts" / name).resolve().as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
