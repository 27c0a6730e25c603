"""Caltech-UCSD Birds-200-2011 (Wah et al. 2011, CNS-TR-2011-001), in its official layout.

`images.txt`, `image_class_labels.txt`, `train_test_split.txt` (1 = train) and `bounding_boxes.txt` (x y width height)
share image ids; `classes.txt` names the class ids. The archive has 8 stray files that no list names, so the lists
count, not the folder's content. NABirds has the same lists and uses `read_entries` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from suite.data.catalogue import DatasetInfo
from suite.data.datasets.annotations import (
    ListedImage,
    assemble,
    check_known_class,
    check_no_empty_class,
    check_same_ids,
    filter_list,
    line_of,
    listed_path,
    parse_split,
    parse_xywh,
    read_table,
    starts_with,
)
from suite.data.datasets.names import normal
from suite.data.record import Dataset
from suite.errors import DataError


def parse(root: Path) -> Dataset:
    """Read the lists in `root`; no image is opened. DataError for lists that do not fit each other."""
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


def read_entries(root: Path, name: str, names: Mapping[int, str]) -> list[ListedImage]:
    """The images of the four lists in the order of `images.txt`, checked against each other."""
    images_file, labels_file = root / "images.txt", root / "image_class_labels.txt"
    split_file, box_file = root / "train_test_split.txt", root / "bounding_boxes.txt"
    images = read_table(images_file, name, "<path below images/>", listed_path)
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
    location = f"{images_file}, id "
    return [ListedImage(i, f"images/{p}", labels[i], boxes[i], splits[i], location + i) for i, p in images.items()]


def write_subset_lists(subset: Dataset, out: Path) -> None:
    """Write the lists of the images of `subset`, cut from those in `subset.root`, into `out`."""
    write_image_lists(subset, out)
    used = {subset.classes[record.label] for record in subset.train if record.label is not None}
    filter_list(subset.root / "classes.txt", out / "classes.txt", lambda line: normal(line.partition(" ")[2]) in used)


def write_image_lists(subset: Dataset, out: Path) -> None:
    """The lists by image id, which CUB and NABirds share."""
    ids = {record.id for record in (*subset.train, *subset.test)}
    for name in (
        "images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "sizes.txt",
        "photographers.txt",
    ):  # fmt: skip
        filter_list(subset.root / name, out / name, starts_with(ids))


INFO = DatasetInfo(
    name="cub",
    label="CUB",
    folders=("CUB_200_2011",),
    markers=("images.txt",),
    parse=parse,
    train=5994,
    test=5794,
    classes=200,
    licence="non-commercial research and education; photographers keep the copyright",
    source="https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz)",
    subset_lists=write_subset_lists,
    depicts="birds",
)
