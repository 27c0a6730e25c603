"""Describe a tracker's error in one sentence with a remedy, whichever library raised it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from suite.errors import StoreError
from suite.redact import redact
from suite.tracking.address import sqlite_path

_LIBRARIES = {
    *("mlflow", "sqlalchemy", "sqlite3", "alembic", "requests", "urllib3", "http", "json", "google", "azure"),
    *("botocore", "boto3", "s3transfer", "psycopg2", "psycopg", "pymysql", "MySQLdb", "databricks", "jwt"),
}
_REPLAY = "`suite sync` can rebuild its content from the runs folder"

# What the message matches, what it means, and the remedy. The first match counts.
_CASES = (
    (
        r"out-of-date database schema|database schema .*out of date",
        "was made by an older MLflow",
        "Upgrade it with `mlflow db upgrade '{shown}'`, after copying it. " + _REPLAY + ": or move it away, then "
        "`suite sync`.",
    ),
    (
        r"can't locate revision|no such revision",
        "was made by a newer MLflow than the one installed here",
        "Install that version (`pip install --upgrade mlflow`). " + _REPLAY + ": or move it away, then `suite sync`.",
    ),
    (
        r"file is not a database|database disk image is malformed|file is encrypted|no such (table|column)",
        "is damaged, or no database of MLflow",
        _REPLAY + ": move it away, then `suite sync`.",
    ),
    (
        r"readonly database|read-only database|permission denied: .*\.db",
        "cannot be written by this user",
        "{owner}",
    ),
    (
        r"unable to open database file",
        "cannot be opened: its folder does not exist, or this user may not write there",
        "{owner}",
    ),
    (
        r"database is locked|disk i/o error|locking protocol",
        "cannot be locked",
        "Another program holds it, or its file system has no locks: set MLFLOW_TRACKING_URI=sqlite:////PATH/mlflow.db "
        "with a path on a local disk, then `suite sync`.",
    ),
    (
        r"\b401\b|\b403\b|unauthori[sz]ed|forbidden|permission_denied|unauthenticated|authentication failed|"
        r"access denied|not authenticated|nocredentials|unable to locate credentials|invalid credentials",
        "refuses the credentials, or they have no right to write",
        "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; for artifacts, the "
        "credentials of their storage. Then `suite sync`.",
    ),
    (
        r"certificate|sslerror|\bssl\b",
        "has a certificate that is not trusted here",
        "Name the authority's file in MLFLOW_TRACKING_SERVER_CERT_PATH, then `suite sync`.",
    ),
    (
        r"no module named|can't load plugin|modulenotfounderror|pip install",
        "needs a package that is not installed here",
        "Install it with pip (psycopg2-binary for PostgreSQL, pymysql for MySQL, boto3 for S3), then `suite sync`.",
    ),
    (
        r"must be in the 'active'|deleted state|is deleted|already exists in deleted",
        "has runs or an experiment that were deleted meanwhile",
        "`suite sync` makes or restores them.",
    ),
    (
        r"max retries|refused|timed out|timeout|name or service|name resolution|getaddrinfo|unreachable|reset by peer|"
        r"could not connect|connection aborted|remote end closed|\b50[234]\b|no route|can't connect|server closed",
        "does not answer",
        "Start the server (`mlflow server`), or unset MLFLOW_TRACKING_URI to use a database in the runs folder; "
        "`suite sync` catches up.",
    ),
    (
        r"\b404\b|not found|<html|<!doctype|not a valid json|expecting value|extra data",
        "answers, but not as an MLflow server does",
        "Check the address: MLFLOW_TRACKING_URI=http://HOST:PORT, without a page behind it.",
    ),
    (
        r"could not parse|unsupported|invalid uri|failed to parse|no connection adapters|invalid port|port could not|"
        r"invalid ipv6|invalid url|label empty|unknown scheme|model registry|invalid.*tracking",
        "is no address that MLflow understands",
        "Expected http://HOST:PORT or sqlite:////PATH/mlflow.db, in MLFLOW_TRACKING_URI.",
    ),
    (
        r"no space left|database or disk is full|quota exceeded",
        "has no space left",
        "Free some space, then `suite sync`.",
    ),
)


def is_tracker_error(error: BaseException) -> bool:
    """Whether an error comes from the tracker or from the libraries between it and the suite."""
    if isinstance(error, (OSError, ImportError)):
        return True
    return any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(error).__mro__)


def describe_tracker_error(error: BaseException, uri: str) -> str:
    """One sentence on what is wrong with the tracker at `uri`, and one on what to do. Holds no secret."""
    shown = redact(uri)
    text = redact(_all_texts(error))
    lines = redact(str(error)).strip().splitlines() or [type(error).__name__]
    reason = re.sub(r"\s+", " ", lines[0]).removeprefix("(").removesuffix(".")[:200]
    for pattern, problem, remedy in _CASES:
        if re.search(pattern, text, re.IGNORECASE):
            return f"MLflow at {shown} {problem} ({reason}). {remedy.format(shown=shown, owner=_ownership(uri))}"
    return (
        f"MLflow at {shown} cannot be used ({type(error).__name__}: {reason}). Once it can, `suite sync` replays what "
        "it missed."
    )


def tracker_error(error: BaseException, uri: str) -> StoreError:
    """The error that a command ends with."""
    return StoreError(describe_tracker_error(error, uri))


def _all_texts(error: BaseException) -> str:
    """The messages of an error and of what caused it: MLflow wraps what its libraries say."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(texts) < 10:
        texts.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "\n".join(texts)


def _ownership(uri: str) -> str:
    """What to do about a database that this user cannot write."""
    path = sqlite_path(uri)
    elsewhere = "or set MLFLOW_TRACKING_URI to another database; `suite sync` fills it."
    if path is None or not path.exists():
        return f"Check the folder, {elsewhere}"
    if path.stat().st_uid == os.getuid():
        return f"It is yours: chmod u+w {path}, {elsewhere}"
    return f"It belongs to {_owner(path)}, who can open it to the group: chmod g+w {path}, {elsewhere}"


def _owner(path: Path) -> str:
    number = path.stat().st_uid
    with suppress(KeyError, NotImplementedError):
        return "you" if number == os.getuid() else f"user {path.owner()}"
    return f"user number {number}"
