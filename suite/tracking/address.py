"""The address of the MLflow server or database, from the environment, an option or the runs folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from suite.errors import UsageError
from suite.paths import user_path
from suite.redact import remember_address

_SQLITE = "sqlite:///"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def tracking_uri(runs: Path) -> str:
    """$MLFLOW_TRACKING_URI, else a database inside `runs`."""
    text = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return given_uri(text, "MLFLOW_TRACKING_URI") if text else sqlite_uri(runs.resolve() / "mlflow.db")


def given_uri(text: str, origin: str) -> str:
    """An address as a user writes it: `~` and `$NAME` in the path of a database or folder are expanded, and the path
    is made absolute. What is secret in it will be masked wherever it is printed.

    Raises:
        UsageError: a path in it cannot be expanded, or the address is the path of a file.
    """
    remember_address(text)
    if text.startswith(_SQLITE) and "?" not in text and len(text) > len(_SQLITE):
        return sqlite_uri(user_path(_database(text), origin))
    if not _SCHEME.match(text) and text != "databricks":
        path = user_path(text, origin)
        if path.is_file():
            raise UsageError(f"{origin}: {path} is a file. If it is a database, its address is {sqlite_uri(path)}")
        return str(path)
    return text


def sqlite_uri(path: Path) -> str:
    """The address of a SQLite database, whatever characters its path has. SQLAlchemy 2.1 decodes `%41`, 2.0 does not,
    both take what follows a `?` for options."""
    plain = f"{_SQLITE}{path}"
    if "%" not in plain and "?" not in plain:
        return plain
    for uri in (plain, f"{_SQLITE}{quote(str(path), safe='/ :')}"):
        if "?" not in uri and _database(uri) == str(path):
            return uri
    return plain


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite database; None for other addresses."""
    return Path(_database(uri)) if uri.startswith(_SQLITE) and len(uri) > len(_SQLITE) else None


def stray_folder(uri: str) -> Path | None:
    """The folder that MLflow makes beside the database because it does not decode the address; None where it makes
    none, or where that folder exists already."""
    path = sqlite_path(uri)
    taken = Path(uri.removeprefix(_SQLITE)).parent
    return taken if path is not None and taken != path.parent and not taken.exists() else None


def _database(uri: str) -> str:
    """The path in a SQLite address as SQLAlchemy reads it."""
    if "%" not in uri and "?" not in uri:
        return uri.removeprefix(_SQLITE)
    try:
        from sqlalchemy import make_url

        return make_url(uri).database or ""
    except (ImportError, ValueError):
        return unquote(uri.removeprefix(_SQLITE).partition("?")[0])
