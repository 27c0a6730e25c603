"""Finished runs written to a local database of MLflow many at a time.

Through MLflow's client a run costs about fifty statements, so that the first sync of ten thousand jobs takes minutes.
Here the rows of many runs go into the same tables in one transaction. The client is used instead wherever the tables
are not exactly those that this file knows, as with another version of MLflow, and for every address but `sqlite:`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from suite.filesystem import copy_file
from suite.tracking.batch import flat_params, write_json_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

_SIZE = 100  # runs per transaction

_METRIC = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}
_COLUMNS = {
    "SqlRun": {
        *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time"),
        *("end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
    },
    "SqlTag": {"key", "value", "run_uuid"},
    "SqlParam": {"key", "value", "run_uuid"},
    "SqlMetric": _METRIC,
    "SqlLatestMetric": _METRIC,
    "SqlDataset": {
        *("dataset_uuid", "experiment_id", "name", "digest", "dataset_source_type", "dataset_source", "dataset_schema"),
        "dataset_profile",
    },
    "SqlInput": {"input_uuid", "source_type", "source_id", "destination_type", "destination_id", "step"},
    "SqlInputTag": {"input_uuid", "name", "value"},
}


@dataclass
class BulkRun:
    """A finished run as it will be in MLflow.

    Args:
        name: of the run.
        start, end: milliseconds.
        tags: written with the run.
        params: nested settings.
        points: (name, value, milliseconds, step) of every metric.
    """

    name: str
    start: int
    end: int
    tags: dict[str, str]
    params: Mapping[str, Any]
    points: Sequence[tuple[str, float, int, int]] = ()
    inputs: Sequence[DatasetInput] = ()
    last_tags: dict[str, str] = field(default_factory=dict)  # written once the files are there
    files: list[tuple[Path, str]] = field(default_factory=list)  # (file, folder among the run's files)
    json_files: dict[str, Any] = field(default_factory=dict)  # name -> content
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)


class BulkWriter:
    """Collects runs of one experiment and writes them.

    A run is there with the status RUNNING before its files are copied; its last tags and its status follow. If this
    process dies in between, the next sync completes the run as any other.
    """

    def __init__(self, engine: Any, tables: Mapping[str, Any], experiment: str, artifacts: str) -> None:
        self._engine, self._tables, self._experiment = engine, tables, int(experiment)
        self._artifacts = artifacts.rstrip("/")
        self._pending: list[BulkRun] = []

    @classmethod
    def of(cls, client: MlflowClient, experiment: str) -> BulkWriter | None:
        """A writer for an experiment; None where the client has to be used."""
        try:
            from mlflow.store.tracking.dbmodels import models

            engine = client._tracking_client.store.engine
            tables = {name: getattr(models, name).__table__ for name in _COLUMNS}
            location = str(client.get_experiment(experiment).artifact_location)
        except (ImportError, AttributeError):
            return None
        known = all(set(tables[name].columns.keys()) == columns for name, columns in _COLUMNS.items())
        if not known or engine.dialect.name != "sqlite" or urlsplit(location).scheme != "file":
            return None
        return cls(engine, tables, experiment, location)

    def address(self, run: BulkRun) -> str:
        """Of the run's files."""
        return f"{self._artifacts}/{run.run_id}/artifacts"

    def add(self, run: BulkRun) -> None:
        """Write a run with the next flush."""
        self._pending.append(run)

    def flush_if_many(self) -> None:
        """Write what was added, once it is many runs."""
        if len(self._pending) >= _SIZE:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        runs = self._pending
        if not runs:
            return
        rows = {
            "SqlRun": [self._row(run) for run in runs],
            "SqlTag": [
                {"key": key, "value": value, "run_uuid": run.run_id}
                for run in runs
                for key, value in {"mlflow.runName": run.name, **run.tags}.items()
            ],
            "SqlParam": [
                {"key": key, "value": value, "run_uuid": run.run_id}
                for run in runs
                for key, value in flat_params(run.params)
            ],
        }
        rows["SqlMetric"] = [row for run in runs for row in _metrics(run)]
        rows["SqlLatestMetric"] = _latest(rows["SqlMetric"])
        with self._engine.begin() as connection:
            rows |= self._inputs(connection, runs)
            for name, values in rows.items():
                if values:
                    connection.execute(self._tables[name].insert(), values)
        for run in runs:
            place = Path(unquote(urlsplit(self.address(run)).path))
            for file, folder in run.files:
                copy_file(file, place / folder / file.name)
            for name, content in run.json_files.items():
                write_json_file(place / name, content)
        table = self._tables["SqlRun"]
        with self._engine.begin() as connection:
            last = [
                {"key": key, "value": value, "run_uuid": run.run_id}
                for run in runs
                for key, value in run.last_tags.items()
            ]
            if last:
                connection.execute(self._tables["SqlTag"].insert(), last)
            wanted = table.c.run_uuid.in_([run.run_id for run in runs])
            connection.execute(table.update().where(wanted).values(status="FINISHED"))
        self._pending = []

    def _inputs(self, connection: Any, runs: Sequence[BulkRun]) -> dict[str, list[dict[str, Any]]]:
        """Rows of the runs' datasets, of their links and of the links' tags."""
        table = self._tables["SqlDataset"]
        found = connection.execute(table.select().where(table.c.experiment_id == self._experiment))
        known = {(row.name, row.digest): row.dataset_uuid for row in found}  # the client may have added some meanwhile
        datasets, links, tags = [], [], []
        for run in runs:
            for given in run.inputs:
                data = given.dataset
                if (data.name, data.digest) not in known:
                    number = uuid.uuid4().hex
                    row = {
                        "dataset_uuid": number,
                        "experiment_id": self._experiment,
                        "name": data.name,
                        "digest": data.digest,
                        "dataset_source_type": data.source_type,
                        "dataset_source": data.source,
                        "dataset_schema": data.schema,
                        "dataset_profile": data.profile,
                    }
                    datasets.append(row)
                    known[data.name, data.digest] = number
                link = {
                    "input_uuid": uuid.uuid4().hex,
                    "source_type": "DATASET",
                    "source_id": known[data.name, data.digest],
                    "destination_type": "RUN",
                    "destination_id": run.run_id,
                    "step": 0,
                }
                links.append(link)
                tags += [{"input_uuid": link["input_uuid"], "name": t.key, "value": t.value} for t in given.tags]
        return {"SqlDataset": datasets, "SqlInput": links, "SqlInputTag": tags}

    def _row(self, run: BulkRun) -> dict[str, Any]:
        """As MLflow's client creates a run."""
        return {
            "run_uuid": run.run_id,
            "name": run.name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "unknown",
            "status": "RUNNING",
            "start_time": run.start,
            "end_time": run.end,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": self.address(run),
            "experiment_id": self._experiment,
        }


def _metrics(run: BulkRun) -> list[dict[str, Any]]:
    """Rows of a run's points, each once. What is not finite is written as MLflow does."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key, value, timestamp, step in run.points:
        is_nan = math.isnan(value)
        number = 0.0 if is_nan else min(max(float(value), -1.7976931348623157e308), 1.7976931348623157e308)
        row = {"key": key, "value": number, "timestamp": timestamp, "step": step, "is_nan": is_nan}
        rows.setdefault(tuple(row.values()), {**row, "run_uuid": run.run_id})
    return list(rows.values())


def _latest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per run and metric the row of the last step, time and value."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        place = row["run_uuid"], row["key"]
        other = latest.setdefault(place, row)
        if (row["step"], row["timestamp"], row["value"]) > (other["step"], other["timestamp"], other["value"]):
            latest[place] = row
    return list(latest.values())
