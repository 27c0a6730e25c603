"""Image stores: the images of a dataset in the size that training reads, with their labels and boxes.

`DecodedStore` holds every image decoded and resized in one memory-mapped uint8 file, whose pages all jobs on a machine
share; training slices it. `suite.data.decoded.files` has the other form, which decodes the original files on demand.
Images keep their aspect ratio: the short side is at most `size`; smaller images keep their size.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suite.atomic import atomic_folder, write_json
from suite.data.decoded.parallel import parallel
from suite.data.decoded.pixels import Pixels, load_resized, scaled_box
from suite.data.decoded.write_behind import WriteBehind
from suite.data.record import Dataset, Record, Split
from suite.errors import StoreError
from suite.locks import FileLock
from suite.progress import CountProgress

FORMAT = 1


@dataclass(frozen=True)
class Facts:
    """The facts about its dataset that the store records, so that jobs and reports need not read the dataset again."""

    dataset: str
    fingerprint: str
    size: int
    describe: str
    subset: bool
    synthetic: bool
    classes: list[str]

    @classmethod
    def of(cls, dataset: Dataset, fingerprint: str, size: int) -> Facts:
        """The facts of a dataset with this content, at this size."""
        return cls(
            dataset.name, fingerprint, size, dataset.describe(), dataset.subset, dataset.synthetic,
            list(dataset.classes),
        )  # fmt: skip


@dataclass(frozen=True)
class ImageStore(ABC):
    """Images of both splits, training images first."""

    folder: Path
    facts: Facts
    shapes: NDArray[np.int64]  # [N, 2] height, width
    labels: NDArray[np.int64]  # [N], -1 where unlabelled
    boxes: NDArray[np.float32]  # [N, 4] official boxes in the store's pixels, NaN where unknown
    paths: Sequence[str]  # [N] relative to the dataset's folder
    train_count: int

    def indices(self, split: Split) -> range:
        """Positions of one split's images."""
        return range(self.train_count) if split == "train" else range(self.train_count, len(self.shapes))

    @abstractmethod
    def image(self, index: int) -> Pixels:
        """The image as uint8 [H, W, 3]. Called from several threads at once.

        Raises:
            ImageError: its file cannot be decoded.
        """


@dataclass(frozen=True)
class DecodedStore(ImageStore):
    """Images decoded ahead."""

    pixels: Pixels  # flat, memory-mapped
    starts: NDArray[np.int64]  # [N] first byte of each image in `pixels`

    def image(self, index: int) -> Pixels:
        """See ImageStore. A view into the memory map."""
        height, width = self.shapes[index]
        start = self.starts[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


def store_folder(cache: Path, dataset: str, fingerprint: str, size: int) -> Path:
    """Folder of the decoded store of a dataset's content at a size, whether or not it has been built."""
    return cache / "images" / f"{dataset}-{fingerprint[:16]}-{size}px-v{FORMAT}"


def open_store(folder: Path) -> DecodedStore:
    """Map a finished store copy-on-write, so that no job can change what another one reads.

    Raises:
        StoreError: it is not there; says how to rebuild it.
    """
    if not folder.is_dir():
        raise StoreError(f"decoded images not found: {folder}. Re-run the same `suite run` command to rebuild them.")
    facts = read_facts(folder)
    with np.load(folder / "index.npz") as index:
        arrays = {name: index[name] for name in ("starts", "shapes", "labels", "boxes")}
        paths = tuple(str(path) for path in index["paths"])
        train_count = int(index["train_count"])
    pixels = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="c")
    return DecodedStore(folder, facts, paths=paths, train_count=train_count, pixels=pixels, **arrays)


def read_facts(folder: Path) -> Facts:
    """The facts of a finished store of either form."""
    return Facts(**json.loads((folder / "facts.json").read_text("utf-8")))


def build_store(
    dataset: Dataset, fingerprint: str, size: int, cache: Path, progress: CountProgress | None = None
) -> DecodedStore:
    """Decode a dataset unless that has been done. Safe to call from several processes.

    Raises:
        DataError: an image cannot be decoded; nothing is left behind.
    """
    folder = store_folder(cache, dataset.name, fingerprint, size)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with atomic_folder(folder) as temporary:
                    _write(dataset, fingerprint, size, temporary, progress)
    return open_store(folder)


def _write(dataset: Dataset, fingerprint: str, size: int, folder: Path, progress: CountProgress | None) -> None:
    records = (*dataset.train, *dataset.test)

    def load(record: Record) -> tuple[Pixels, tuple[int, int]]:
        image, original = load_resized(dataset.root / record.path, dataset.banner, size)
        return np.asarray(image), original

    starts, shapes, boxes = [], [], []
    position = 0
    with (folder / "pixels.u8").open("wb") as file, WriteBehind(file.fileno()) as disk:
        for done, (record, (image, original)) in enumerate(zip(records, parallel(load, records), strict=True), 1):
            file.write(np.ascontiguousarray(image).data)
            starts.append(position)
            shapes.append(image.shape[:2])
            boxes.append(scaled_box(record, original, image.shape))
            position += image.size
            disk.wrote(image.size)
            if progress is not None:
                progress(done, len(records))
        file.flush()
        disk.finish()
    np.savez(
        folder / "index.npz",
        starts=np.array(starts, np.int64),
        shapes=np.array(shapes, np.int64),
        labels=label_array(records),
        boxes=np.array(boxes, np.float32),
        paths=np.array([record.path for record in records]),
        train_count=np.array(len(dataset.train)),
    )
    write_json(folder / "facts.json", asdict(Facts.of(dataset, fingerprint, size)))


def label_array(records: Sequence[Record]) -> NDArray[np.int64]:
    """Labels [N], -1 where unlabelled."""
    return np.array([-1 if record.label is None else record.label for record in records], np.int64)
