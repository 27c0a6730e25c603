"""FGVC-Aircraft 2013b, its 100 variants (Maji et al. 2013, arXiv:1306.5151), in its official layout.

Train is the official train + val. The bottom 20 rows of every image are a copyright banner (`Dataset.banner`).
"""

from __future__ import annotations

from pathlib import Path

from suite.data.catalogue import DatasetInfo
from suite.data.datasets.annotations import (
    ListedImage,
    assemble,
    check_known_class,
    check_no_empty_class,
    check_same_ids,
    checked_box,
    filter_list,
    parse_path,
    read_lines,
    read_table,
    starts_with,
)
from suite.data.datasets.names import normal
from suite.data.record import Box, Dataset, Split
from suite.errors import DataError

BANNER = 20  # rows


def parse(root: Path) -> Dataset:
    """Read the lists in `root`/data; no image is opened. DataError for lists that do not fit each other."""
    data = root / "data"
    names = read_variants(data / "variants.txt")
    trainval = data / "images_variant_trainval.txt"
    if trainval.exists():
        train_files = [trainval]
    else:
        train_files = [data / "images_variant_train.txt", data / "images_variant_val.txt"]
    boxes = read_boxes(data / "images_box.txt")
    entries = [entry for file in train_files for entry in read_split(file, "train", names, boxes)]
    entries += read_split(data / "images_variant_test.txt", "test", names, boxes)
    check_no_empty_class({e.class_id for e in entries}, dict(enumerate(names)), data / "variants.txt")
    dataset = assemble("aircraft", root, entries, dict(enumerate(names)), banner=BANNER)
    if boxes:
        check_same_ids({e.id for e in entries}, "the images_variant lists", boxes, data / "images_box.txt")
    return dataset


def read_variants(file: Path) -> list[str]:
    """The variant names, one a line; the line number is the class id. DataError if one comes twice."""
    names = [line.strip() for line in read_lines(file, "aircraft") if line.strip()]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if twice:
        raise DataError(f"{file}: the variant '{twice[0]}' is listed twice: expected every name once")
    return names


def read_split(file: Path, split: Split, names: list[str], boxes: dict[str, Box]) -> list[ListedImage]:
    """One list of `<image id> <variant>`; a variant's name may have spaces."""
    class_ids = {name: i for i, name in enumerate(names)}
    entries = []
    table = read_table(file, "aircraft", "<variant>", str.strip)
    for number, (image, variant) in enumerate(table.items(), 1):
        location = f"{file}, id {image}"
        if variant not in class_ids:
            check_known_class(variant, class_ids, location, file.parent / "variants.txt")
        path = image_path(image, f"{file} (entry {number})")
        entries.append(ListedImage(image, path, class_ids[variant], boxes.get(image), split, location))
    return entries


def image_path(image: str, location: str) -> str:
    """`data/images/<id>.jpg`; DataError for an id that is not a plain file name."""
    try:
        if "/" in image:
            raise ValueError("an image id has no folder")
        return f"data/images/{parse_path(image)}.jpg"
    except ValueError as e:
        raise DataError(f"{location}: image id '{image}': {e}") from e


def read_boxes(file: Path) -> dict[str, Box]:
    """`images_box.txt`, or nothing where the file is absent: some copies of the dataset come without it."""
    if not file.exists():
        return {}
    return read_table(file, "aircraft", "<xmin> <ymin> <xmax> <ymax>", parse_inclusive)


def parse_inclusive(text: str) -> Box:
    """`xmin ymin xmax ymax`, counted from 1 and inclusive, as a half-open Box counted from 0."""
    x0, y0, x1, y1 = (float(part) for part in text.split())
    return checked_box(x0 - 1, y0 - 1, x1, y1)


def write_subset_lists(subset: Dataset, out: Path) -> None:
    """Write the lists of the images of `subset`, cut from those in `subset.root`, into `out`."""
    ids = {record.id for record in (*subset.train, *subset.test)}
    used = {subset.classes[record.label] for record in subset.train if record.label is not None}
    data = subset.root / "data"
    filter_list(data / "variants.txt", out / "data/variants.txt", lambda line: normal(line) in used)
    for split in ("train", "val", "trainval", "test"):
        name = f"images_variant_{split}.txt"
        filter_list(data / name, out / "data" / name, starts_with(ids))
    if read_boxes(data / "images_box.txt"):
        filter_list(data / "images_box.txt", out / "data/images_box.txt", starts_with(ids))


INFO = DatasetInfo(
    name="aircraft",
    label="Aircraft",
    folders=("fgvc_aircraft", "fgvc-aircraft-2013b"),
    markers=("data/variants.txt",),
    parse=parse,
    train=6667,  # the official train + val
    test=3333,
    classes=100,
    licence="non-commercial research only; photographers keep the copyright",
    source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ (fgvc-aircraft-2013b.tar.gz)",
    subset_lists=write_subset_lists,
    depicts="aircraft",
)
