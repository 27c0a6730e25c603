"""A labelled dataset as a folder of images: `train/<class>/` and `test/<class>/`, as torchvision's ImageFolder.

Classes are the folders of `train/`; images in sub-folders of a class belong to it. Accepted besides: other capitals,
`training/` and `testing/`; a validation folder where there is no `test/`; one folder around the two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from suite.data.datasets.formats import is_companion
from suite.data.datasets.names import check_utf8, folded, normal
from suite.data.datasets.walk import Listing, same_names, walk
from suite.data.record import Dataset, Finding, Record
from suite.errors import DataError
from suite.text import few

_NAMES = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
_Classes = dict[str, tuple[str, Listing]]  # class name in normal form -> its folder's name on the disk, its content


@dataclass(frozen=True)
class _Splits:
    """The two folders, by their names below `root`."""

    root: Path
    train: str
    test: str
    findings: tuple[Finding, ...]


def parse_folder(name: str, root: Path) -> Dataset:
    """The dataset below `root`; classes and images are sorted by name. Links may lead anywhere.

    Raises:
        DataError: a split is missing, the two have different classes, or a class has no image.
    """
    splits = _find_splits(root)
    whole = Listing()
    train, test = (_classes(splits.root, split, whole) for split in (splits.train, splits.test))
    findings = [*splits.findings, *_in_no_class(whole), *_drop_empty(train, test)]
    _check_classes(splits, train, test)
    train_records, test_records = (_records([split[key][1] for key in train]) for split in (train, test))
    findings += same_names(record.path for record in (*train_records, *test_records))
    return Dataset(
        name, splits.root, train_records, test_records, tuple(folder for folder, _ in train.values()),
        findings=(*findings, *whole.findings()), listed_from_disk=True,
    )  # fmt: skip


def _find_splits(root: Path) -> _Splits:
    """Which folders hold the training and the test images."""
    folders = _folders(root)
    places = {role: _one(root, role, folders) for role in _NAMES}
    if places["train"] is None and len(folders) == 1 and any(map(_role, _folders(root / folders[0]))):
        return _find_splits(root / folders[0])
    train, test, val = (places[role] for role in _NAMES)
    if train is None or (test is None and val is None):
        there = f"It holds {few(folders)}." if folders else "It holds no folder."
        packed = " Names with a back-slash come from an archive of Windows: unpack it with another program."
        there += packed if any("\\" in entry.name for entry in root.iterdir()) else ""
        missing_split = "train" if train is None else "test"
        raise DataError(
            f"{root} has no folder {missing_split}/; expected train/<class>/ and test/<class>/ with images. {there}"
        )
    notes = [] if test is not None else [f"there is no test/: {val}/ is used as the test split."]
    unread = [f for f in folders if f not in {train, test or val}]
    if unread:
        notes.append(f"{len(unread)} folders beside {train}/ and {test or val}/ are not read: {few(unread)}.")
    return _Splits(root, train, test or val or "", tuple(Finding("note", note) for note in notes))


def _folders(root: Path) -> list[str]:
    """The folders in `root` but for hidden ones."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_companion(entry.name))


def _role(folder: str) -> str | None:
    return next((role for role, names in _NAMES.items() if folded(folder) in names), None)


def _one(root: Path, role: str, folders: list[str]) -> str | None:
    """The folder of a role; DataError if there are several."""
    fits = [folder for folder in folders if _role(folder) == role]
    if len(fits) > 1:
        raise DataError(f"{root} has several folders for one split: {few(fits)}. Keep one of them.")
    return fits[0] if fits else None


def _classes(root: Path, split: str, whole: Listing) -> _Classes:
    """The classes of a split by name. Other content of the split's folders is added to `whole`."""
    top = walk(root, split, recursive=False, links_anywhere=True)
    whole.add(top)
    classes: _Classes = {}
    for path in top.below:
        folder = path.rpartition("/")[2]
        check_utf8(folder, str(root / split))
        if normal(folder) in classes:
            raise DataError(
                f"{root / split} has two folders for the class '{normal(folder)}': their names differ in blanks at an "
                f"end or in their Unicode form (composed or decomposed letters) only. Move the images into one."
            )
        listing = walk(root, path, links_anywhere=True)
        classes[normal(folder)] = (folder, listing)
        whole.add(Listing(companions=listing.companions, others=listing.others, folders=listing.folders))
    return classes


def _in_no_class(top: Listing) -> list[Finding]:
    """Images that lie in train/ or test/ itself."""
    if not top.images:
        return []
    return [Finding("warning", f"{len(top.images):,} images are in no class folder and left out: {few(top.images)}.")]


def _drop_empty(train: _Classes, test: _Classes) -> list[Finding]:
    """Remove the class folders that hold an image in neither split."""
    both = dict.fromkeys((*train, *test))
    empty = [key for key in both if not any(key in split and split[key][1].images for split in (train, test))]
    for key in empty:
        train.pop(key, None)
        test.pop(key, None)
    if not empty:
        return []
    return [Finding("note", f"{len(empty)} class folders hold no image and are left out: {few(empty)}.")]


def _check_classes(splits: _Splits, train: _Classes, test: _Classes) -> None:
    root, names = splits.root, f"{splits.train}/ and {splits.test}/"
    if train.keys() != test.keys():
        only_train, only_test = sorted(train.keys() - test.keys()), sorted(test.keys() - train.keys())
        capitals = {folded(key) for key in only_train} & {folded(key) for key in only_test}
        advice = f" Some differ in capitals only: {few(sorted(capitals))}." if capitals else ""
        raise DataError(
            f"{root}: {names} must have the same classes; only in {splits.train}: {few(only_train)}; only in "
            f"{splits.test}: {few(only_test)}.{advice}"
        )
    if len(train) < 2:
        raise DataError(
            f"{root}/{splits.train}: expected at least two classes, one folder each, found {few(list(train))}."
        )
    for split, classes in ((splits.train, train), (splits.test, test)):
        for folder, listing in classes.values():
            if not listing.images:
                raise DataError(f"{root}/{split}/{folder} holds no image{listing.left_out()}.")


def _records(listings: list[Listing]) -> tuple[Record, ...]:
    """One listing per class, in the order of the labels. Id and path are the same: the place below the root."""
    return tuple(Record(path, path, label, None) for label, one in enumerate(listings) for path in one.images)
