"""The official annotation files of a subset: the lines, or MATLAB entries, of the images that are kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from suite.data.datasets import aircraft, cars
from suite.data.record import Dataset
from suite.data.synthetic.layouts import write_mat


def write_lists(subset: Dataset, out: Path) -> None:
    """Write into `out` what of the annotations below `subset.root` belongs to the records of `subset`."""
    write = _WRITERS.get(subset.name)
    if write is not None:
        write(subset, out)


def _filter(source: Path, target: Path, keep: Callable[[str], bool]) -> None:
    """The lines of a list that are kept, unchanged; nothing where there is no such list."""
    if not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = source.read_text("utf-8-sig").splitlines()
    target.write_text("".join(f"{line}\n" for line in lines if keep(line)), "utf-8", newline="\n")


def _first(ids: Collection[str]) -> Callable[[str], bool]:
    return lambda line: line.strip().partition(" ")[0] in ids


def _caltech(subset: Dataset, out: Path) -> None:
    """CUB and NABirds: lists by image id. NABirds' class files name the whole hierarchy and stay as they are."""
    ids = {record.id for record in (*subset.train, *subset.test)}
    for name in (
        "images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "sizes.txt",
        "photographers.txt",
    ):  # fmt: skip
        _filter(subset.root / name, out / name, _first(ids))
    if subset.name == "cub":
        used = {subset.classes[record.label] for record in subset.train if record.label is not None}
        _filter(subset.root / "classes.txt", out / "classes.txt", lambda line: line.partition(" ")[2].strip() in used)
        return
    for name in ("classes.txt", "hierarchy.txt"):
        if (subset.root / name).is_file():
            shutil.copyfile(subset.root / name, out / name)


def _aircraft(subset: Dataset, out: Path) -> None:
    ids = {record.id for record in (*subset.train, *subset.test)}
    used = {subset.classes[record.label] for record in subset.train if record.label is not None}
    data = subset.root / "data"
    _filter(data / "variants.txt", out / "data/variants.txt", lambda line: line.strip() in used)
    for split in ("train", "val", "trainval", "test"):
        _filter(data / f"images_variant_{split}.txt", out / f"data/images_variant_{split}.txt", _first(ids))
    if aircraft.read_boxes(data / "images_box.txt"):
        _filter(data / "images_box.txt", out / "data/images_box.txt", _first(ids))


def _cars(subset: Dataset, out: Path) -> None:
    meta, train, test = cars.places(subset.root)
    (out / "devkit").mkdir(parents=True)
    shutil.copyfile(meta, out / "devkit/cars_meta.mat")
    for file, records, target in (
        (train, subset.train, "devkit/cars_train_annos.mat"),
        (test, subset.test, f"{cars.TEST}.mat"),
    ):
        names = {record.path.rpartition("/")[2] for record in records}
        table = np.atleast_1d(cars.load_mat(file, "annotations"))
        kept = table[[str(name) in names for name in table["fname"]]]
        write_mat(out / target, {"annotations": kept[None]}, "a subset of the official annotations")


_WRITERS: dict[str, Callable[[Dataset, Path], None]] = {
    "cub": _caltech,
    "nabirds": _caltech,
    "aircraft": _aircraft,
    "cars": _cars,
}
