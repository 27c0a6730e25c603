"""Metrics, parameters and tags to MLflow in as few calls as it allows, with times that follow from the store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from suite.filesystem import copy_file
from suite.jobs.identity import JobSpec
from suite.kinds.registry import TrainingSpec
from suite.tracking.address import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAMS_PER_CALL = 100  # limits of MLflow's log_batch
_METRICS_PER_CALL = 1000
PARAM_LENGTH = 500


def do_not_wait_for_the_disk() -> None:
    """Let SQLite leave its pages to the system: a power cut may cost the database, which `suite sync` makes again."""
    import sqlite3

    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)


def make_database_file(uri: str) -> None:
    """Create the file of a SQLite database with the process's own mode. SQLite would make it 0644 whatever the umask
    allows, and a second user of a store that is open to its group could not write it."""
    path = sqlite_path(uri)
    if path is not None:
        with suppress(OSError):  # it exists, or SQLite will say what is wrong
            path.open("xb").close()


def milliseconds(file: Path) -> int:
    """When a file was written; now, where it is not there."""
    with suppress(FileNotFoundError):
        return int(file.stat().st_mtime * 1000)
    return int(time.time() * 1000)


def elapsed(spec: JobSpec, line: dict[str, float]) -> int:
    """Milliseconds of training up to a line of metrics, by its own speed."""
    speed = line.get("images_per_second", 0.0)
    return int(1000 * line["step"] * spec.train.batch_size / speed) if isinstance(spec, TrainingSpec) and speed else 0


def metric_points(line: dict[str, float], when: int) -> list[tuple[str, float, int, int]]:
    """Name, value, time and step of every metric of a line."""
    return [(name, value, when, int(line["step"])) for name, value in line.items() if name != "step"]


def log_all(
    client: MlflowClient, run_id: str, points: Sequence[Any], params: dict[str, Any], tags: dict[str, str]
) -> None:
    """Metrics, parameters and tags in as few calls as MLflow allows, the tags with the last."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(*point) for point in points]
    pairs = [Param(name, text) for name, text in flat_params(params)]
    calls = max(1, -(-len(metrics) // _METRICS_PER_CALL), -(-len(pairs) // _PARAMS_PER_CALL))
    for call in range(calls):
        client.log_batch(
            run_id,
            metrics=metrics[call * _METRICS_PER_CALL : (call + 1) * _METRICS_PER_CALL],
            params=pairs[call * _PARAMS_PER_CALL : (call + 1) * _PARAMS_PER_CALL],
            tags=[RunTag(name, text) for name, text in tags.items()] if call == calls - 1 else [],
        )


def log_file(client: MlflowClient, run_id: str, artifacts: str, path: Path, folder: str | None = None) -> None:
    """Upload a file as an artifact.

    Beside a local database its content is copied: MLflow would first ask for the whole run, and would copy modes and
    times as well, which some file systems refuse.

    Args:
        client: of the server or database.
        run_id: of the run.
        artifacts: address of the run's files; empty where it is not known.
        path: of the file.
        folder: below the run's files; None: at their top.
    """
    place = urlsplit(artifacts)
    if place.scheme == "file":
        copy_file(path, Path(unquote(place.path), folder or "", path.name))
    else:
        client.log_artifact(run_id, str(path), folder)


def log_json(client: MlflowClient, run_id: str, artifacts: str, name: str, value: dict[str, Any]) -> None:
    """Upload `value` as a JSON file; arguments as of `log_file`."""
    place = urlsplit(artifacts)
    if place.scheme == "file":
        write_json_file(Path(unquote(place.path), name), value)
    else:
        client.log_dict(run_id, value, name)


def write_json_file(path: Path, value: Any) -> None:
    """Write `value` as indented JSON and create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), "utf-8")


def flat_params(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested settings by dotted path, as texts of the length that MLflow takes."""
    return [(name, str(value)[:PARAM_LENGTH]) for name, value in _flat(params)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
