"""Saliency maps in the sizes of an image store, and a salient box per image.

Beside a decoded store all maps lie in one memory-mapped uint8 file. Beside an index of files only the boxes are kept:
a map is read from its PNG file on demand and resized in the same way, to the same bits.
"""

from __future__ import annotations

import json
import logging
import os
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from suite.atomic import atomic_folder, write_json
from suite.data.decoded.images import DecodedStore, ImageStore
from suite.data.decoded.parallel import parallel
from suite.data.decoded.pixels import Pixels
from suite.data.record import Dataset, Record, Split
from suite.data.saliency.box import salient_box
from suite.data.saliency.maps import SaliencyMaps, read_map
from suite.data.spec import SaliencySpec
from suite.errors import StoreError
from suite.filesystem import flush_to_disk
from suite.jobs.identity import content_key
from suite.locks import FileLock
from suite.progress import CountProgress

FORMAT = 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MapStore(ABC):
    """Saliency of one split of an image store. Training opens the training split's alone."""

    boxes: NDArray[np.int64]  # [N, 4] left, top, right, bottom (exclusive)
    fallbacks: dict[str, int]  # reason -> how many images use the whole image as their salient box

    @abstractmethod
    def map(self, index: int) -> Pixels:
        """The map of the split's image `index` as uint8 [H, W], in the store's size.

        Raises:
            DataError: its file cannot be read.
        """


@dataclass(frozen=True)
class DecodedMaps(MapStore):
    """Maps in one memory-mapped file."""

    values: Pixels  # flat; the split's images one behind the other, as in the store
    starts: NDArray[np.int64]  # [N] first byte of each map in `values`
    shapes: NDArray[np.int64]  # [N, 2]

    def map(self, index: int) -> Pixels:
        """See MapStore. A view into the memory map."""
        height, width = self.shapes[index]
        start = self.starts[index]
        return self.values[start : start + height * width].reshape(height, width)


@dataclass(frozen=True)
class MapFiles(MapStore):
    """Maps read from their PNG files on demand."""

    store: ImageStore
    first: int  # position of the split's first image in the store
    folder: Path  # of the PNG files
    banner: int
    advice: str  # the command that computes the maps

    def map(self, index: int) -> Pixels:
        """See MapStore."""
        at = self.first + index
        path = self.store.paths[at]
        full = read_map((self.folder / path).with_suffix(".png"), path, self.advice)
        height, width = self.store.shapes[at].tolist()
        return resized_map(full, self.banner, height, width)


def map_folder(store: ImageStore, saliency: SaliencySpec, split: Split = "train") -> Path:
    """Folder of a detector's maps, beside the images."""
    return map_folder_beside(store.folder, saliency, split)


def map_folder_beside(images: Path, saliency: SaliencySpec, split: Split = "train") -> Path:
    """Folder of a detector's maps beside the folder of an image store."""
    name = f"{images.name}-{saliency.detector}-{content_key(saliency)[:12]}-v{FORMAT}"
    return images.parent / (name if split == "train" else f"{name}-{split}")


def open_maps(store: ImageStore, saliency: SaliencySpec, split: Split = "train") -> MapStore:
    """Map finished saliency maps, copy-on-write.

    Raises:
        StoreError: they are not there; says how to rebuild them.
    """
    folder = map_folder(store, saliency, split)
    if not folder.is_dir():
        raise StoreError(f"saliency maps not found: {folder}. Re-run the same `suite run` command to rebuild them.")
    fallbacks: dict[str, int] = json.loads((folder / "fallbacks.json").read_text("utf-8"))
    boxes: NDArray[np.int64] = np.load(folder / "boxes.npy")
    if not isinstance(store, DecodedStore):
        facts = json.loads((folder / "maps.json").read_text("utf-8"))
        place = folder.parent / facts["folder"]
        first = store.indices(split).start
        return MapFiles(boxes, fallbacks, store, first, place, facts["banner"], facts["advice"])
    places = store.indices(split)
    shapes = store.shapes[places.start : places.stop]
    starts = store.starts[places.start : places.stop] // 3
    values = np.memmap(folder / "maps.u8", np.uint8, mode="c")
    return DecodedMaps(boxes, fallbacks, values, starts - (starts[0] if len(starts) else 0), shapes)


def build_maps(
    store: ImageStore,
    dataset: Dataset,
    saliency: SaliencySpec,
    maps: SaliencyMaps,
    progress: CountProgress | None = None,
    split: Split = "train",
) -> MapStore:
    """Bring a dataset's PNG maps into the store's sizes and find the boxes, unless that has been done.

    Raises:
        DataError: a map is missing or damaged.
    """
    folder = map_folder(store, saliency, split)
    if not folder.is_dir():
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with atomic_folder(folder) as temporary:
                    _write(store, dataset, saliency, maps, temporary, progress, split)
    return open_maps(store, saliency, split)


def resized_map(full: Pixels, banner: int, height: int, width: int) -> Pixels:
    """A map in the size of its image in the store: bilinear, since a Lanczos filter would overshoot.

    Args:
        full: map of the whole file, uint8 [H, W].
        banner: rows at its bottom that are no picture.
        height: of the result.
        width: of the result.
    """
    cut = Image.fromarray(full[: full.shape[0] - banner])
    return np.array(cut.resize((width, height), Image.Resampling.BILINEAR))


def _write(
    store: ImageStore,
    dataset: Dataset,
    saliency: SaliencySpec,
    maps: SaliencyMaps,
    folder: Path,
    progress: CountProgress | None,
    split: Split,
) -> None:
    records = list(zip(store.indices(split), dataset.split(split), strict=True))

    def load(item: tuple[int, Record]) -> tuple[Pixels, tuple[int, int, int, int], str | None]:
        index, record = item
        height, width = store.shapes[index].tolist()
        values = resized_map(maps.map(record), dataset.banner, height, width)
        box, reason = salient_box(values, saliency.threshold, saliency.min_side)
        return values, (int(box.x0), int(box.y0), int(box.x1), int(box.y1)), reason

    boxes, fallbacks = [], Counter[str]()
    keep = isinstance(store, DecodedStore)
    with (folder / ("maps.u8" if keep else "maps.json")).open("wb") as file:
        for done, (values, box, reason) in enumerate(parallel(load, records), 1):
            if keep:
                file.write(np.ascontiguousarray(values).data)
            boxes.append(box)
            if reason is not None:
                fallbacks[reason] += 1
            if progress is not None:
                progress(done, len(records))
        if not keep:
            place = os.path.relpath(maps.folder / "maps", folder.parent)  # a cache may be moved as a whole
            facts = {"folder": place, "banner": dataset.banner, "advice": maps.advice()}
            file.write(json.dumps(facts).encode())
        file.flush()
        flush_to_disk(file.fileno())
    if fallbacks:
        where, of = f"{dataset.name} {split} ({saliency.detector})", len(records)
        log.warning("%s: no box in some of %d maps, the whole image is used: %s", where, of, dict(fallbacks))
    np.save(folder / "boxes.npy", np.array(boxes, np.int64).reshape(-1, 4))
    write_json(folder / "fallbacks.json", dict(fallbacks))
