"""The result of every dataset loader: images with labels and boxes, and remarks on the loading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from suite.data.catalogue import DATASETS, DatasetInfo

Split = Literal["train", "test"]
Level = Literal["error", "warning", "note"]


class Box(NamedTuple):
    """A rectangle in pixels of the image as it is on disk: left, top (inclusive), right, bottom (exclusive)."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a dataset."""

    id: str  # the dataset's own image id
    path: str  # relative to Dataset.root, with forward slashes
    label: int | None  # 0 .. classes-1 in the order of the sorted official ids; None where unlabelled
    box: Box | None  # the official bounding box, None where the dataset gives none


@dataclass(frozen=True, slots=True)
class Finding:
    """An observation about a dataset: an error spoils results, a warning may, a note does not."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as found on disk, checked and in a fixed order (the official list's, else sorted by path)."""

    name: str
    root: Path
    train: Sequence[Record]
    test: Sequence[Record]
    classes: tuple[str, ...]  # names, position = label; empty where unlabelled
    banner: int = 0  # rows at the bottom of every image that are not picture (FGVC-Aircraft: 20)
    synthetic: bool = False  # rendered by `suite data synth`, not photographed
    findings: tuple[Finding, ...] = field(default=(), compare=False)  # what was left out, or read in another way
    listed_from_disk: bool = False  # the paths are those of files that were just seen, not those of a list
    folders: tuple[str, ...] = field(default=(), compare=False)  # those that were listed, where listed_from_disk
    listed_at: int = field(default=0, compare=False)  # ns since 1970: before the first folder was looked at
    known_fingerprint: str | None = field(default=None, compare=False)  # recorded; see suite.data.datasets.known

    @property
    def info(self) -> DatasetInfo:
        """The catalogue entry."""
        return DATASETS[self.name]

    @property
    def subset(self) -> bool:
        """Whether any count differs from the official release: then results are not comparable with others'."""
        have = (len(self.train), len(self.test), len(self.classes))
        return have != (self.info.train, self.info.test, self.info.classes)

    def split(self, split: Split) -> Sequence[Record]:
        """The records of one split."""
        return self.train if split == "train" else self.test

    def describe(self) -> str:
        """One line for tables and logs, such as ``CUB subset: 600/5994 train, 528/5794 test, 20/200 classes``."""
        i = self.info
        kind = "synthetic" if self.synthetic else "subset" if self.subset else "complete"
        text = f"{i.label} {kind}: {len(self.train)}/{i.train} train"
        if i.labelled:
            text += f", {len(self.test)}/{i.test} test, {len(self.classes)}/{i.classes} classes"
        return text
