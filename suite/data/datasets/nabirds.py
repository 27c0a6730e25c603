"""NABirds v0 (Van Horn et al. 2015), in its official layout: CUB's lists with UUIDs as image ids.

`classes.txt` also names the 456 inner nodes of the class hierarchy (`hierarchy.txt`), which no image has as its label:
the 555 classes are the ids in use, and they are not contiguous.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from suite.data.catalogue import DatasetInfo
from suite.data.datasets.annotations import assemble
from suite.data.datasets.cub import read_classes, read_entries, write_image_lists
from suite.data.record import Dataset


def parse(root: Path) -> Dataset:
    """Read the lists in `root`; no image is opened. DataError for lists that do not fit each other."""
    names = read_classes(root, "nabirds")
    return assemble("nabirds", root, read_entries(root, "nabirds", names), names)


def write_subset_lists(subset: Dataset, out: Path) -> None:
    """As CUB's; the class files name the whole hierarchy and stay as they are."""
    write_image_lists(subset, out)
    for name in ("classes.txt", "hierarchy.txt"):
        if (subset.root / name).is_file():
            shutil.copyfile(subset.root / name, out / name)


INFO = DatasetInfo(
    name="nabirds",
    label="NABirds",
    folders=("nabirds",),
    markers=("images.txt",),
    parse=parse,
    train=23929,
    test=24633,
    classes=555,
    licence="non-commercial research; credit the photographers; do not redistribute",
    source="https://dl.allaboutbirds.org/nabirds (ask with the form, then unpack nabirds.tar.gz)",
    subset_lists=write_subset_lists,
    depicts="birds",
)
