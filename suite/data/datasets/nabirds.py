"""NABirds v0 (Van Horn et al. 2015), in its official layout: CUB's lists with UUIDs as image ids.

`classes.txt` also names the 456 inner nodes of the class hierarchy (`hierarchy.txt`), which no image has as its label:
the 555 classes are the ids in use, and they are not contiguous.
"""

from __future__ import annotations

from pathlib import Path

from suite.data.datasets.annotations import assemble
from suite.data.datasets.cub import read_classes, read_entries
from suite.data.record import Dataset

MARKER = "images.txt"


def parse(root: Path) -> Dataset:
    """The dataset from the lists in `root`; images are not looked at. DataError for lists that do not fit."""
    names = read_classes(root, "nabirds")
    return assemble("nabirds", root, read_entries(root, "nabirds", names), names)
