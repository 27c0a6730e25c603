"""Whether the images that a dataset's lists name are there, and which files beside them no list names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from suite.data.datasets.annotations import obtain, some
from suite.data.datasets.formats import is_image_name
from suite.data.datasets.names import folded
from suite.data.datasets.walk import check_inside
from suite.data.record import Dataset, Finding, Record
from suite.errors import DataError


def check_images(dataset: Dataset) -> Dataset:
    """The dataset with the paths that its images have on this disk. One scan per folder; no image is opened.

    A listed file that is not there may lie under another spelling of its name: other capitals, decomposed letters, or
    another image suffix after a conversion. It is taken if exactly one file fits that no list names.

    Raises:
        DataError: an image is missing, or a link leads out of the dataset's folder.
    """
    inside = dataset.root.resolve()
    paths = [record.path for record in (*dataset.train, *dataset.test)]
    present = {folder: scan(dataset.root / folder, inside) for folder in dict.fromkeys(map(_folder, paths))}
    missing = [path for path in paths if _file(path) not in present[_folder(path)]]
    moved = _other_spellings(dataset.root, inside, missing, set(paths)) if missing else {}
    lost = [path for path in missing if path not in moved]
    if lost:
        raise DataError(
            f"{dataset.root}: {len(lost):,} of {len(paths):,} listed images are missing, such as {some(lost)}. "
            f"The lists are there, so unpack or copy the images too. {obtain(dataset.name)}"
        )
    if moved:
        dataset = replace(dataset, train=_renamed(dataset.train, moved), test=_renamed(dataset.test, moved))
    findings = (*_moved(moved), *_unlisted(present, {moved.get(path, path) for path in paths}))
    return replace(dataset, findings=(*dataset.findings, *findings))


def scan(folder: Path, inside: Path) -> set[str]:
    """The names of the files in `folder`; DataError if it, or a link in it, leads out of the dataset's folder."""
    if not folder.is_dir():
        return set()
    check_inside(folder, inside)
    names = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                check_inside(Path(entry.path), inside)
            if entry.is_file():
                names.add(entry.name)
    return names


def _other_spellings(root: Path, inside: Path, missing: Iterable[str], listed: set[str]) -> dict[str, str]:
    """{listed path: the one path on the disk that fits it}."""
    found: dict[str, str] = {}
    taken = set(listed)
    folders: dict[str, str | None] = {}
    files: dict[str, set[str]] = {}
    for path in missing:
        folder = _folder(path)
        if folder not in folders:
            folders[folder] = _folder_spelling(root, folder)
        actual = folders[folder]
        if actual is None:
            continue
        if actual not in files:
            files[actual] = scan(root / actual, inside)
        here = [name for name in files[actual] if _join(actual, name) not in taken or _join(actual, name) == path]
        for key in (folded, _folded_stem):
            wanted = key(_file(path))
            fits = [name for name in here if key(name) == wanted and (name == _file(path) or is_image_name(name))]
            if len(fits) == 1:
                found[path] = _join(actual, fits[0])
                taken.add(found[path])
            if fits:
                break
    return found


def _folder_spelling(root: Path, folder: str) -> str | None:
    """The folder as it is spelled on the disk; None if there is none, or more than one."""
    actual = ""
    for part in folder.split("/") if folder else ():
        place = root / actual
        if not (place / part).is_dir():
            fits = [entry.name for entry in os.scandir(place) if entry.is_dir() and folded(entry.name) == folded(part)]
            if len(fits) != 1:
                return None
            part = fits[0]  # noqa: PLW2901
        actual = _join(actual, part)
    return actual


def _folded_stem(name: str) -> str:
    return folded(name.rpartition(".")[0] or name)


def _renamed(records: Iterable[Record], moved: Mapping[str, str]) -> tuple[Record, ...]:
    return tuple(replace(record, path=moved.get(record.path, record.path)) for record in records)


def _moved(moved: Mapping[str, str]) -> Iterator[Finding]:
    if moved:
        pairs = [f"{listed}' as '{path}" for listed, path in moved.items()]
        yield Finding("note", f"{len(moved):,} listed images have another spelling on the disk: {some(pairs)}.")


def _unlisted(present: Mapping[str, set[str]], listed: set[str]) -> Iterator[Finding]:
    """Image files beside the listed ones that no list names."""
    paths = (_join(folder, name) for folder, names in present.items() for name in names)
    stray = sorted(path for path in paths if path not in listed and is_image_name(_file(path)))
    if stray:
        yield Finding("note", f"{len(stray)} image files are in no list and are not used: {some(stray)}.")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _file(path: str) -> str:
    return path.rpartition("/")[2]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
