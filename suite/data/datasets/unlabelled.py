"""First-stage image sets, used without labels: COCO train2017 (arXiv:1405.0312) and ImageNet's training images.

There is no list: every image file of the training folder counts, sorted by path. Validation and test images are
never looked at.
"""

from __future__ import annotations

import os
from pathlib import Path

from suite.data.datasets.annotations import obtain
from suite.data.datasets.files import SUFFIXES
from suite.data.record import Dataset, Record
from suite.errors import DataError

FOLDERS = {  # the first is the official place, the others common ones
    "coco": ("train2017", "images/train2017", "train2017/train2017"),
    "imagenet": ("train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train"),
}


def parse_coco(root: Path) -> Dataset:
    """COCO's training images. DataError if there is none."""
    folder = training_folder("coco", root)
    return collect("coco", root, image_names(root, folder))


def parse_imagenet(root: Path) -> Dataset:
    """ImageNet's training images, `train/<wnid>/*.JPEG`. DataError if there is none."""
    folder = training_folder("imagenet", root)
    wnids = sorted(entry.name for entry in os.scandir(root / folder) if entry.is_dir())
    return collect("imagenet", root, [p for w in wnids for p in image_names(root, f"{folder}/{w}")])


def training_folder(name: str, root: Path) -> str:
    """The folder with the training images, relative to `root`; DataError if it is missing."""
    for folder in reversed(FOLDERS[name]):  # the deepest first: train2017/train2017 holds the images, train2017 none
        if (root / folder).is_dir():
            return folder
    raise DataError(f"{root}: no folder {' or '.join(FOLDERS[name])} with training images. {obtain(name)}")


def image_names(root: Path, folder: str) -> list[str]:
    """The image files directly in `folder`, as paths relative to `root`."""
    with os.scandir(root / folder) as entries:
        return [f"{folder}/{e.name}" for e in entries if e.name.lower().endswith(SUFFIXES)]


def collect(name: str, root: Path, paths: list[str]) -> Dataset:
    """The dataset of these images; the id is the file name without its suffix."""
    if not paths:
        raise DataError(f"{root}: the training folder has no {'/'.join(SUFFIXES)} image. {obtain(name)}")
    records = (Record(path.rpartition("/")[2].rpartition(".")[0], path, None, None) for path in sorted(paths))
    return Dataset(name, root, tuple(records), test=(), classes=())
