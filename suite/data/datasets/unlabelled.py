"""First-stage image sets, used without labels: COCO train2017 (arXiv:1405.0312) and ImageNet's training images
(Russakovsky et al. 2015, arXiv:1409.0575).

There is no list: every image file of the training folder counts, sorted by path. Validation and test images are
never looked at.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from suite.data.catalogue import DatasetInfo
from suite.data.datasets.annotations import obtain
from suite.data.datasets.walk import same_names, walk
from suite.data.record import Dataset, Finding, Record
from suite.errors import DataError


def parse_coco(root: Path) -> Dataset:
    """COCO's training images, `train2017/*.jpg`. DataError if there is none."""
    return _parse(COCO, root)


def parse_imagenet(root: Path) -> Dataset:
    """ImageNet's training images, `train/<wnid>/*.JPEG`. DataError if there is none."""
    return _parse(IMAGENET, root)


def training_folder(info: DatasetInfo, root: Path) -> str:
    """The folder with the training images, relative to `root`; DataError if it is missing."""
    for folder in reversed(info.markers):  # the deepest first: train2017/train2017 holds the images, train2017 none
        if (root / folder).is_dir():
            return folder
    raise DataError(f"{root}: no folder {' or '.join(info.markers)} with training images. {obtain(info.name)}")


def _parse(info: DatasetInfo, root: Path) -> Dataset:
    """Every image of the training folder. The id is the file name without its suffix, or the path if that repeats."""
    folder = training_folder(info, root)
    listing = walk(root, folder)
    if not listing.images:
        raise DataError(
            f"{root}: the training folder has no .jpg, .png or other image{listing.left_out()}. {obtain(info.name)}"
        )
    stems = [path.rpartition("/")[2].rpartition(".")[0] for path in listing.images]
    repeated = {stem for stem, count in Counter(stems).items() if count > 1}
    records = tuple(
        Record(path if stem in repeated else stem, path, None, None)
        for stem, path in zip(stems, listing.images, strict=True)
    )
    findings: tuple[Finding, ...] = (*listing.findings(), *(same_names(listing.images) if repeated else ()))
    return Dataset(
        info.name, root, records, test=(), classes=(), findings=findings, listed_from_disk=True,
        folders=tuple(listing.folders),
    )  # fmt: skip


COCO = DatasetInfo(
    name="coco",
    label="COCO",
    folders=("coco",),
    markers=("train2017", "images/train2017", "train2017/train2017"),  # the first is the official place
    parse=parse_coco,
    train=118287,
    test=0,
    classes=0,
    licence="annotations CC BY 4.0; every image has its own Flickr licence",
    source="http://images.cocodataset.org/zips/train2017.zip",
    depicts="scenes",
)
IMAGENET = DatasetInfo(
    name="imagenet",
    label="ImageNet-1K",
    folders=("imagenet", "ILSVRC2012", "imagenet_sample"),
    markers=("train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train"),
    parse=parse_imagenet,
    train=1281167,
    test=0,
    classes=0,
    licence="non-commercial research and education, ImageNet terms of access",
    source="https://image-net.org (ILSVRC2012 training images)",
    depicts="scenes",
)
