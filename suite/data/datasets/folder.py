"""A labelled dataset as a folder of images: `train/<class>/` and `test/<class>/`, the layout of torchvision's
ImageFolder with its split."""

from __future__ import annotations

import os
from pathlib import Path

from suite.data.datasets.unlabelled import image_names
from suite.data.record import Dataset, Record
from suite.errors import DataError


def parse_folder(name: str, root: Path) -> Dataset:
    """The dataset below `root`; classes and images are sorted by name.

    Raises:
        DataError: a split is missing, the two have different classes, or a class has no image.
    """
    found = {split: _class_names(root, split) for split in ("train", "test")}
    classes = found["train"]
    if classes != found["test"]:
        only = {split: sorted(set(names) - set(found[other])) for (split, names), other in
                zip(found.items(), ("test", "train"), strict=True)}  # fmt: skip
        raise DataError(
            f"{root}: train/ and test/ must have the same classes; only in train: {_few(only['train'])}; only in "
            f"test: {_few(only['test'])}."
        )
    if len(classes) < 2:
        raise DataError(f"{root}/train: expected at least two classes, one folder each, found {_few(classes)}.")
    splits = {split: _records(root, split, classes) for split in found}
    return Dataset(name, root, splits["train"], splits["test"], tuple(classes))


def _class_names(root: Path, split: str) -> list[str]:
    if not (root / split).is_dir():
        raise DataError(f"{root} has no folder {split}/; expected train/<class>/ and test/<class>/ with images.")
    return sorted(entry.name for entry in os.scandir(root / split) if entry.is_dir())


def _records(root: Path, split: str, classes: list[str]) -> tuple[Record, ...]:
    records = []
    for label, name in enumerate(classes):
        paths = sorted(image_names(root, f"{split}/{name}"))
        if not paths:
            raise DataError(f"{root}/{split}/{name} holds no image.")
        records += [Record(f"{split}/{name}/{path.rpartition('/')[2]}", path, label, None) for path in paths]
    return tuple(records)


def _few(names: list[str]) -> str:
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"
