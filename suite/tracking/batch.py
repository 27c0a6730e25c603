"""Metrics, parameters and tags to MLflow in as few calls as it allows, with times that follow from the store."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from suite.filesystem import UNSUPPORTED, copy_file
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
    pairs = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in _flat(params)]
    calls = max(1, -(-len(metrics) // _METRICS_PER_CALL), -(-len(pairs) // _PARAMS_PER_CALL))
    for call in range(calls):
        client.log_batch(
            run_id,
            metrics=metrics[call * _METRICS_PER_CALL : (call + 1) * _METRICS_PER_CALL],
            params=pairs[call * _PARAMS_PER_CALL : (call + 1) * _PARAMS_PER_CALL],
            tags=[RunTag(name, text) for name, text in tags.items()] if call == calls - 1 else [],
        )


def log_file(client: MlflowClient, run_id: str, path: Path, folder: str | None = None) -> None:
    """Upload a file as an artifact. MLflow copies modes and times as well; beside a local database, where the file
    system refuses that, the content alone is copied."""
    try:
        client.log_artifact(run_id, str(path), folder)
    except OSError as error:
        place = urlsplit(client.get_run(run_id).info.artifact_uri)
        if error.errno not in UNSUPPORTED | {errno.EPERM} or place.scheme != "file":
            raise
        copy_file(path, Path(unquote(place.path), folder or "", path.name))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
