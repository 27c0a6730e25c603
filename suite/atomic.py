"""Files and folders that exist completely or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from suite.errors import StoreError
from suite.filesystem import flush_to_disk, rename_folder, replace

_LONGEST = 200  # characters; a file name may have 255 bytes


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a system error into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}. Check free space and permissions.") from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success flush it to disk and rename it, on failure remove it."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            with temporary.open("xb") as file:  # not mkstemp: its mode would have to be changed, which some cannot
                yield file
                file.flush()
                flush_to_disk(file.fileno())
            replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append `line` and wait until it is on disk. A reader may find it cut off, if the disk is full or power fails."""
    with _writing(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        flush_to_disk(file.fileno())


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it on success, removed on failure. `path` must not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        rename_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A new name beside `path`; as long as `path` may be itself."""
    return path.with_name(f".{path.name[:_LONGEST]}.{uuid.uuid4().hex[:12]}.tmp")
