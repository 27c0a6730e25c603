"""Recognising a large dataset that has been looked at before, without listing its files again.

A record in `<cache>/known/` holds the fingerprint, the counts and the modification time of every folder and list of a
dataset. A dataset is the recorded one while these times are the same: a file that is added, removed, renamed or
replaced by a rename changes the time of its folder.

Not noticed: a file whose content is overwritten in place. `suite data verify` looks at every file, and so does
everything for datasets of at most `LARGE` images.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

from suite.atomic import write_json
from suite.data.catalogue import DATASETS
from suite.data.datasets.load import find_folder, is_synthetic, load_dataset
from suite.data.record import Box, Dataset, Finding, Record
from suite.errors import StoreError

LARGE = 20_000  # images; the files of smaller datasets are looked at every time, in tens of milliseconds
FORMAT = 1  # raised when loading changes what it returns for the same folder
SETTLED = 2_000_000_000  # ns; a folder that changed so shortly before it was listed may have changed again unseen


def load_known(name: str, data_root: Path, cache: Path) -> Dataset:
    """As `load_dataset`. The images of a large dataset that is known and unchanged are listed when first asked for."""
    if name not in DATASETS or DATASETS[name].added:
        return load_dataset(name, data_root)
    root = find_folder(DATASETS[name], data_root)
    return _recognised(name, root, data_root, cache) or load_dataset(name, data_root)


def remember_known(dataset: Dataset, fingerprint: str, cache: Path) -> None:
    """Record a large dataset as it was listed; nothing where a folder has changed since, or shortly before."""
    if len(dataset.train) + len(dataset.test) <= LARGE or dataset.info.added or dataset.known_fingerprint is not None:
        return
    times = _times(dataset.root, _places(dataset))
    if times is None or max(times.values()) > dataset.listed_at - SETTLED:
        return
    content = {
        "version": _version(),
        "root": str(dataset.root),
        "fingerprint": fingerprint,
        "splits": {split: _summary(records) for split, records in (("train", dataset.train), ("test", dataset.test))},
        "classes": dataset.classes,
        "banner": dataset.banner,
        "findings": [asdict(finding) for finding in dataset.findings],
        "times": times,
    }
    with suppress(StoreError):  # a read-only cache: the dataset is listed again next time
        write_json(_file(cache, dataset.name, dataset.root), content)


class LaterRecords(Sequence[Record]):
    """The records of a split, of which the number and the first one are known and the rest is loaded when asked for."""

    def __init__(self, count: int, first: Record | None, load: Callable[[], Sequence[Record]]) -> None:
        self._count, self._first, self._load = count, first, load

    @cached_property
    def _all(self) -> Sequence[Record]:
        return self._load()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._first if index == 0 and self._first is not None else self._all[index]


def _recognised(name: str, root: Path, data_root: Path, cache: Path) -> Dataset | None:
    """The recorded dataset if all of its times are as recorded."""
    try:
        content: dict[str, Any] = json.loads(_file(cache, name, root).read_text("utf-8"))
        same = content["version"] == _version() and content["root"] == str(root)
        if not same or _times(root, list(content["times"])) != content["times"]:
            return None
        loaded: list[Dataset] = []

        def load(split: str) -> Sequence[Record]:
            if not loaded:
                loaded.append(load_dataset(name, data_root))
            return loaded[0].train if split == "train" else loaded[0].test

        train, test = (
            LaterRecords(entry["count"], _record(entry["first"]), lambda split=split: load(split))  # type: ignore[misc]
            for split, entry in content["splits"].items()
        )
        return Dataset(
            name, root, train, test, tuple(content["classes"]), content["banner"],
            synthetic=is_synthetic(root, data_root),
            findings=tuple(Finding(**finding) for finding in content["findings"]),
            known_fingerprint=content["fingerprint"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):  # no record, or a damaged one
        return None


def _summary(records: Sequence[Record]) -> dict[str, Any]:
    first = next(iter(records), None)
    return {"count": len(records), "first": None if first is None else asdict(first)}


def _record(fields: dict[str, Any] | None) -> Record | None:
    if fields is None:
        return None
    record = Record(**fields)
    return record if record.box is None else replace(record, box=Box(*record.box))


def _places(dataset: Dataset) -> list[str]:
    """Relative paths of the folders with images and, where lists name these, of every file that may be a list."""
    if dataset.folders:
        return list(dataset.folders)
    places = {record.path.rpartition("/")[0] for record in (*dataset.train, *dataset.test)}
    for folder in {"", *(marker.rpartition("/")[0] for marker in dataset.info.markers)}:
        place = dataset.root / folder
        if place.is_dir():
            places |= {folder, *(f"{folder}/{e.name}".lstrip("/") for e in os.scandir(place) if e.is_file())}
    return sorted(places)


def _times(root: Path, places: list[str]) -> dict[str, int] | None:
    """Modification times in ns; None if one of the places is not there any more."""
    try:
        return {place: os.stat(f"{root}/{place}").st_mtime_ns for place in places}  # noqa: PTH116
    except OSError:
        return None


def _version() -> str:
    """The formats that are read depend on Pillow."""
    return f"{FORMAT} pillow {version('pillow')}"


def _file(cache: Path, name: str, root: Path) -> Path:
    place = hashlib.sha256(str(root.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return cache / "known" / f"{name}-{place}.json"
