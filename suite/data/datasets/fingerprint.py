"""One hash of a dataset: its annotations and the content of every image, independent of its place on the disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from suite.atomic import write_json
from suite.cores import cores
from suite.data.record import Dataset, Record
from suite.errors import DataError, StoreError


def fingerprint(dataset: Dataset, cache: Path) -> str:
    """SHA-256 hex of name, classes, banner and of every record: split, id, path, label, box and image content.

    The same on every machine and below every data root. Content hashes are kept in `cache`, so a second call
    compares sizes and times only. Raises DataError if an image cannot be read.
    """
    return combine(dataset, content_hashes(dataset, (*dataset.train, *dataset.test), cache))


def combine(dataset: Dataset, contents: Mapping[str, str]) -> str:
    """The fingerprint of a dataset whose images have these contents."""
    whole = hashlib.sha256(json.dumps([dataset.name, dataset.classes, dataset.banner]).encode())
    for split, records in (("train", dataset.train), ("test", dataset.test)):
        for r in records:
            box = None if r.box is None else [float(v) for v in r.box]
            whole.update(repr((split, r.id, r.path, r.label, box, contents[r.path])).encode())
    return whole.hexdigest()


def content_hashes(dataset: Dataset, records: Iterable[Record], cache: Path) -> dict[str, str]:
    """{record path: SHA-256 hex of the image file}. Only files whose size or time changed are read.

    Raises DataError if an image cannot be read.
    """
    keys = states(dataset, records)
    known = read_store(store_file(dataset, cache))
    new = [path for path, key in keys.items() if key not in known]
    if new:
        with ThreadPoolExecutor(max_workers=cores()) as pool:
            hashes = dict(zip(new, pool.map(lambda p: file_hash(dataset, p), new), strict=True))
        known |= remember(dataset, cache, {keys[path]: digest for path, digest in hashes.items()})
    return {path: known[key] for path, key in keys.items()}


def known_hashes(dataset: Dataset, cache: Path) -> dict[str, str] | None:
    """`content_hashes` of all records if every file is unchanged since it was hashed, else None."""
    known = read_store(store_file(dataset, cache))
    keys = states(dataset, (*dataset.train, *dataset.test))
    return {path: known[key] for path, key in keys.items()} if set(keys.values()) <= known.keys() else None


def states(dataset: Dataset, records: Iterable[Record]) -> dict[str, str]:
    """{record path: key of the file's present state in the store of hashes: path, size and time}."""
    root = str(dataset.root)
    keys: dict[str, str] = {}
    for record in records:
        try:
            stat = os.stat(f"{root}/{record.path}")  # noqa: PTH116  (48,562 of them: Path costs as much again)
        except OSError as e:
            raise unreadable(dataset, record.path, e) from e
        keys[record.path] = f"{record.path}|{stat.st_size}|{stat.st_mtime_ns}"
    return keys


def remember(dataset: Dataset, cache: Path, hashes: Mapping[str, str]) -> dict[str, str]:
    """Add {state: SHA-256 hex} to the stored hashes of a dataset. Returns all of them."""
    file = store_file(dataset, cache)
    known = read_store(file) | dict(hashes)
    with suppress(StoreError):  # a read-only cache: the hashes are computed again next time
        write_json(file, known)
    return known


def store_file(dataset: Dataset, cache: Path) -> Path:
    """The file with the hashes of a dataset's images."""
    return cache / "fingerprints" / f"{dataset.name}.json"


def file_hash(dataset: Dataset, path: str) -> str:
    """SHA-256 hex of one image file; DataError if it cannot be read."""
    try:
        with (dataset.root / path).open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise unreadable(dataset, path, e) from e


def unreadable(dataset: Dataset, path: str, error: OSError) -> DataError:
    """The error for an image that existed when the dataset was loaded."""
    return DataError(
        f"cannot read {dataset.root / path}: {error.strerror}. Check that it still exists and that its disk is mounted."
    )


def read_store(file: Path) -> dict[str, str]:
    """The stored hashes; empty if the file is missing or damaged, since they can be computed again."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
