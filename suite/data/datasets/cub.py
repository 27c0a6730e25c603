"""Caltech-UCSD Birds-200-2011 (Wah et al. 2011, CNS-TR-2011-001), in its official layout.

`images.txt`, `image_class_labels.txt`, `train_test_split.txt` (1 = train) and `bounding_boxes.txt` (x y width height)
share image ids; `classes.txt` names the class ids. The archive has 8 stray files that no list names, so the lists
count, not the folder's content. NABirds has the same lists and uses `read_entries` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from suite.data.datasets.annotations import (
    Entry,
    assemble,
    check_known_class,
    check_no_empty_class,
    check_same_ids,
    line_of,
    parse_path,
    parse_split,
    parse_xywh,
    read_table,
)
from suite.data.record import Dataset
from suite.errors import DataError

MARKER = "images.txt"


def parse(root: Path) -> Dataset:
    """The dataset from the lists in `root`; images are not looked at. DataError for lists that do not fit."""
    names = read_classes(root, "cub")
    entries = read_entries(root, "cub", names)
    check_no_empty_class({e.class_id for e in entries}, names, root / "classes.txt")
    return assemble("cub", root, entries, names)


def read_classes(root: Path, name: str) -> dict[int, str]:
    """`classes.txt` as {official id: class name}; DataError for an id that is no number."""
    table = read_table(root / "classes.txt", name, "<class name>", str)
    if not all(key.isdecimal() for key in table):
        wrong = next(key for key in table if not key.isdecimal())
        line = line_of(root / "classes.txt", wrong)
        raise DataError(f"{root / 'classes.txt'}: {line} has class id '{wrong}', expected a whole number")
    return {int(key): value for key, value in table.items()}


def read_entries(root: Path, name: str, names: Mapping[int, str]) -> list[Entry]:
    """The images of the four lists in the order of `images.txt`, checked against each other."""
    images_file, labels_file = root / "images.txt", root / "image_class_labels.txt"
    split_file, box_file = root / "train_test_split.txt", root / "bounding_boxes.txt"
    images = read_table(images_file, name, "<path below images/>", parse_path)
    labels = read_table(labels_file, name, "<class id>", int)
    splits = read_table(split_file, name, "<1 for train, 0 for test>", parse_split)
    boxes = read_table(box_file, name, "<x> <y> <width> <height>", parse_xywh)
    for file, table in ((labels_file, labels), (split_file, splits), (box_file, boxes)):
        check_same_ids(images.keys(), images_file.name, table, file)
    unknown = next((i for i in images if labels[i] not in names), None)
    if unknown is not None:
        check_known_class(
            labels[unknown], names, f"{labels_file} {line_of(labels_file, unknown)}", root / "classes.txt"
        )
    where = f"{images_file}, id "
    return [Entry(i, f"images/{p}", labels[i], boxes[i], splits[i], where + i) for i, p in images.items()]
