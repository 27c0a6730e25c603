"""Obtain a checkpoint file by path or URL, and its SHA-256. A URL must carry the SHA-256 that is expected."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from suite.atomic import write_json
from suite.errors import DataError, UsageError
from suite.locks import FileLock
from suite.paths import user_path

_HASH = re.compile(r"[0-9a-f]{64}")


def obtain_file(source: str, cache: Path, download: bool = True) -> tuple[Path, str]:
    """The file and its SHA-256.

    Args:
        source: a path, or an address with the hash that the file must have, ``https://...#sha256=<64 hex digits>``.
            A path may name its hash too.
        cache: downloads and known hashes are kept here. A file is hashed again only when its size or time changed.
        download: False: an address is answered from its hash alone, whether or not the file is there.

    Raises:
        UsageError: an address without a hash, or a hash that is none.
        DataError: not there, not to be had, or with another hash. A wrong download is not kept.
    """
    place, expected = _parts(source)
    if urlsplit(place).scheme not in {"http", "https"}:
        path = user_path(place, "a checkpoint's path").resolve()
        if not path.is_file():
            raise DataError(f"{path} is a folder, not a file." if path.is_dir() else f"the file {path} does not exist.")
        found = file_digest(path, cache)
        if expected is not None and found != expected:
            raise DataError(f"{path} has SHA-256 {found}, expected {expected}.")
        return path, found
    if expected is None:
        raise UsageError(f"{place} needs the hash of the file behind it: write {place}#sha256=<64 hex digits>.")
    path = cache / "downloads" / f"{expected[:16]}-{Path(urlsplit(place).path).name or 'file'}"
    if download:
        _download(place, expected, path, cache)
    return path, expected


def _parts(source: str) -> tuple[str, str | None]:
    place, mark, fragment = source.partition("#sha256=")
    if not mark:
        return place, None
    if not _HASH.fullmatch(fragment.lower()):
        raise UsageError(f"#sha256= expects 64 hexadecimal digits, got '{fragment}'.")
    return place, fragment.lower()


def _download(address: str, expected: str, path: Path, cache: Path) -> None:
    if path.is_file() and file_digest(path, cache) == expected:
        return
    import pooch
    import requests

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # several runs at once load it once
        try:
            # pooch writes to a temporary name and keeps it only where the hash fits.
            pooch.retrieve(address, known_hash=f"sha256:{expected}", fname=path.name, path=path.parent)
        except ValueError as error:
            found = re.search(r"got ([0-9a-f]{64})", str(error))
            raise DataError(
                f"{address} is not the expected file: SHA-256 {found[1] if found else 'unknown'}, expected {expected}. "
                "Nothing was kept."
            ) from None
        except (requests.RequestException, OSError) as error:
            raise DataError(
                f"{address} cannot be downloaded ({type(error).__name__}: {error}). Get the file on a machine with a "
                "network and give its path instead."
            ) from None


def file_digest(path: Path, cache: Path, kind: str = "sha256") -> str:
    """Hex digest (sha256 or md5) of a file, kept in `cache` until the file's size or time changes."""
    stat = path.stat()
    state = {"path": str(path), "size": stat.st_size, "time": stat.st_mtime_ns}
    prefix = "file" if kind == "sha256" else f"file-{kind}"
    note = cache / "fingerprints" / f"{prefix}-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"
    if note.is_file():
        known = json.loads(note.read_text("utf-8"))
        if {name: known.get(name) for name in state} == state:
            return str(known[kind])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, kind).hexdigest()
    write_json(note, {**state, kind: digest})
    return digest
