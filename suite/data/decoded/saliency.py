"""Saliency maps in the decoded store's layout: one memory-mapped uint8 file, and a salient box per image."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from suite.atomic import atomic_folder, write_json
from suite.data.decoded.images import ImageStore, Pixels, Progress, parallel
from suite.data.record import Dataset, Record, Split
from suite.data.saliency.maps import SaliencyMaps, salient_box
from suite.data.spec import SaliencySpec
from suite.errors import StoreError
from suite.jobs.identity import content_key

FORMAT = 1


@dataclass(frozen=True)
class MapStore:
    """Saliency of one split of an image store. Training opens the training split's alone."""

    values: Pixels  # flat, memory-mapped; the split's images one behind the other, as in the store
    boxes: NDArray[np.int64]  # [N, 4] left, top, right, bottom (exclusive)
    fallbacks: dict[str, int]  # reason -> how many images use the whole image as their salient box


def map_folder(store: ImageStore, saliency: SaliencySpec, split: Split = "train") -> Path:
    """Where the maps of a detector are kept, beside the images."""
    name = f"{store.folder.name}-{saliency.detector}-{content_key(saliency)[:12]}-v{FORMAT}"
    return store.folder.parent / (name if split == "train" else f"{name}-{split}")


def open_maps(store: ImageStore, saliency: SaliencySpec, split: Split = "train") -> MapStore:
    """Map finished saliency maps, copy-on-write."""
    folder = map_folder(store, saliency, split)
    if not folder.is_dir():
        raise StoreError(f"the saliency maps {folder} are gone. The same `suite run` as before makes them again.")
    fallbacks = json.loads((folder / "fallbacks.json").read_text("utf-8"))
    return MapStore(np.memmap(folder / "maps.u8", np.uint8, mode="c"), np.load(folder / "boxes.npy"), fallbacks)


def build_maps(
    store: ImageStore,
    dataset: Dataset,
    saliency: SaliencySpec,
    maps: SaliencyMaps,
    progress: Progress | None = None,
    split: Split = "train",
) -> MapStore:
    """Bring a dataset's cached PNG maps into the store's sizes, unless that has been done."""
    folder = map_folder(store, saliency, split)
    if not folder.is_dir():
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with atomic_folder(folder) as temporary:
                    _write(store, dataset, saliency, maps, temporary, progress, split)
    return open_maps(store, saliency, split)


def _write(
    store: ImageStore,
    dataset: Dataset,
    saliency: SaliencySpec,
    maps: SaliencyMaps,
    folder: Path,
    progress: Progress | None,
    split: Split,
) -> None:
    records = list(zip(store.indices(split), dataset.split(split), strict=True))

    def load(item: tuple[int, Record]) -> tuple[Pixels, tuple[int, int, int, int], str | None]:
        index, record = item
        full = maps.map(record)
        height, width = store.shapes[index].tolist()
        cut = Image.fromarray(full[: full.shape[0] - dataset.banner])
        values = np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR))  # Lanczos would overshoot
        box, reason = salient_box(values, saliency.threshold, saliency.min_side)
        return values, (int(box.x0), int(box.y0), int(box.x1), int(box.y1)), reason

    boxes, fallbacks = [], Counter[str]()
    with (folder / "maps.u8").open("wb") as file:
        for done, (values, box, reason) in enumerate(parallel(load, records), 1):
            file.write(np.ascontiguousarray(values).data)
            boxes.append(box)
            if reason is not None:
                fallbacks[reason] += 1
            if progress is not None:
                progress(done, len(records))
        file.flush()
        os.fsync(file.fileno())
    np.save(folder / "boxes.npy", np.array(boxes, np.int64))
    write_json(folder / "fallbacks.json", dict(fallbacks))
