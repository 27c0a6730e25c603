"""Decoded image store: every image of a dataset, decoded and resized once, in one memory-mapped uint8 file.

A training loop never decodes a JPEG: it slices this file, whose pages all jobs and workers on a machine share.
Images keep their aspect ratio: the short side is at most `size`, smaller ones stay as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from suite.atomic import atomic_folder, write_json
from suite.cores import cores
from suite.data.datasets.files import decode_image
from suite.data.record import Dataset, Record, Split
from suite.errors import StoreError

FORMAT = 1
Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None]  # done, total
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Facts:
    """What the store remembers of its dataset, so that jobs and reports need not read the dataset again."""

    dataset: str
    fingerprint: str
    size: int
    describe: str
    subset: bool
    synthetic: bool
    classes: list[str]


@dataclass(frozen=True)
class ImageStore:
    """Images of both splits, training images first."""

    folder: Path
    facts: Facts
    pixels: Pixels  # flat, memory-mapped
    starts: NDArray[np.int64]  # [N] first byte of each image in `pixels`
    shapes: NDArray[np.int64]  # [N, 2] height, width
    labels: NDArray[np.int64]  # [N], -1 where unlabelled
    boxes: NDArray[np.float32]  # [N, 4] official boxes in the store's pixels, NaN where unknown
    paths: tuple[str, ...]  # [N] relative to the dataset's folder
    train_count: int

    def indices(self, split: Split) -> range:
        """Positions of one split's images."""
        return range(self.train_count) if split == "train" else range(self.train_count, len(self.starts))

    def image(self, index: int) -> Pixels:
        """uint8 [H, W, 3], a view into the memory map."""
        height, width = self.shapes[index]
        start = self.starts[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


def store_folder(cache: Path, dataset: str, fingerprint: str, size: int) -> Path:
    """Where the store of a dataset's content at a size is, whether or not it has been built."""
    return cache / "images" / f"{dataset}-{fingerprint[:16]}-{size}px-v{FORMAT}"


def open_store(folder: Path) -> ImageStore:
    """Map a finished store. Copy-on-write, so that no job can change what another one reads.

    Raises:
        StoreError: it is not there; says how to get it back.
    """
    if not folder.is_dir():
        raise StoreError(f"the decoded images {folder} are gone. The same `suite run` as before makes them again.")
    facts = Facts(**json.loads((folder / "facts.json").read_text("utf-8")))
    with np.load(folder / "index.npz") as index:
        arrays = {name: index[name] for name in ("starts", "shapes", "labels", "boxes")}
        paths = tuple(str(path) for path in index["paths"])
        train_count = int(index["train_count"])
    pixels = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="c")
    return ImageStore(folder, facts, pixels, paths=paths, train_count=train_count, **arrays)


def build_store(
    dataset: Dataset, fingerprint: str, size: int, cache: Path, progress: Progress | None = None
) -> ImageStore:
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


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width with the short side brought down to `size`; never up."""
    short = min(height, width)
    if short <= size:
        return height, width
    return max(1, round(height * size / short)), max(1, round(width * size / short))


def _write(dataset: Dataset, fingerprint: str, size: int, folder: Path, progress: Progress | None) -> None:
    records = (*dataset.train, *dataset.test)

    def load(record: Record) -> tuple[Pixels, tuple[int, int]]:
        image = decode_image(dataset.root / record.path)
        width, rows = image.width, image.height - dataset.banner
        if dataset.banner:
            image = image.crop((0, 0, width, rows))
        height, width_out = resized_shape(rows, width, size)
        if (width_out, height) != image.size:
            image = image.resize((width_out, height), Image.Resampling.LANCZOS)
        return np.asarray(image), (rows, width)

    starts, shapes, boxes = [], [], []
    position = 0
    with (folder / "pixels.u8").open("wb") as file, _WriteBehind(file.fileno()) as disk:
        for done, (record, (image, original)) in enumerate(zip(records, parallel(load, records), strict=True), 1):
            file.write(np.ascontiguousarray(image).data)
            starts.append(position)
            shapes.append(image.shape[:2])
            boxes.append(_scaled_box(record, original, image.shape))
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
        labels=np.array([-1 if record.label is None else record.label for record in records], np.int64),
        boxes=np.array(boxes, np.float32),
        paths=np.array([record.path for record in records]),
        train_count=np.array(len(dataset.train)),
    )
    facts = Facts(
        dataset.name, fingerprint, size, dataset.describe(), dataset.subset, dataset.synthetic, list(dataset.classes)
    )
    write_json(folder / "facts.json", asdict(facts))


class _WriteBehind:
    """Brings a growing file to the disk while it is written, by a thread of its own: the wait at the end, with every
    core idle, is then for the last piece alone."""

    PIECE = 32 * 2**20  # bytes

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pool = ThreadPoolExecutor(1)
        self._waiting = 0
        self._last: Future[None] | None = None

    def __enter__(self) -> _WriteBehind:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def wrote(self, count: int) -> None:
        """So many bytes more are in the file. Raises OSError where those before could not be brought to the disk."""
        self._waiting += count
        if self._waiting >= self.PIECE and (self._last is None or self._last.done()):
            self._check()
            self._waiting = 0
            self._last = self._pool.submit(os.fsync, self._descriptor)

    def finish(self) -> None:
        """Everything is on the disk, or OSError: the system reports a failed write once, to whoever waits first."""
        self._check()
        os.fsync(self._descriptor)

    def _check(self) -> None:
        if self._last is not None:
            self._last.result()


def _scaled_box(record: Record, original: tuple[int, int], shape: tuple[int, ...]) -> list[float]:
    if record.box is None:
        return [float("nan")] * 4
    scale_y, scale_x = shape[0] / original[0], shape[1] / original[1]
    x0, y0, x1, y1 = record.box
    box = [x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y]
    return [min(max(v, 0.0), float(limit)) for v, limit in zip(box, (shape[1], shape[0]) * 2, strict=True)]


def parallel(function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """`map` over all cores in order, with a bounded number of results in memory (Pillow releases the lock)."""
    workers = cores()
    iterator = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(function, item) for item in islice(iterator, 4 * workers)]
        try:
            while pending:
                yield pending.pop(0).result()
                pending += [pool.submit(function, item) for item in islice(iterator, 1)]
        finally:
            for future in pending:
                future.cancel()
