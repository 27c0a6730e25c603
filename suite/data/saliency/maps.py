"""Saliency maps, computed once and read by every job: 8-bit grey PNGs at each image's own resolution.

Their files are `<cache>/saliency/<dataset>-<detector>-<12 hex>/maps/<record path>.png` beside a manifest.json; the hex
is a hash of the detector's identity and of the names of the dataset's images and their boxes. Every PNG carries the
SHA-256 of its image, so that a replaced image is noticed and an interrupted run resumes after the last finished map.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin

from suite.atomic import atomic_file, write_json
from suite.cores import cores
from suite.data.datasets.files import decode
from suite.data.datasets.fingerprint import content_hashes
from suite.data.decoded.parallel import parallel
from suite.data.record import Box, Dataset, Record, Split
from suite.data.saliency.box import overlap, salient_box
from suite.data.saliency.detectors import DETECTORS, Detector, Identity, make_detector
from suite.data.spec import SaliencySpec
from suite.errors import DataError
from suite.progress import Progress, labelled_progress

if TYPE_CHECKING:
    import numpy.typing as npt

FORMAT = 1  # raised when the maps' files change
HEADER = re.compile(rb"image_sha256\0([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class SaliencyMaps:
    """The maps of one dataset by one detector, some of which may not be computed yet. Made by `of`; can be pickled."""

    dataset: Dataset
    detector: str
    cache: Path
    folder: Path

    @classmethod
    def of(cls, dataset: Dataset, detector: Identity, cache: Path) -> SaliencyMaps:
        """The maps below `cache`; for a built-in detector `DETECTORS[name]` is enough. Looks at no file."""
        images = sorted((r.path, r.box) for r in (*dataset.train, *dataset.test))
        d = detector
        facts = [FORMAT, d.name, d.version, d.oracle, d.weights_sha256, dataset.name, dataset.banner, images]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
        label = f"{d.name}-oracle" if d.oracle else d.name
        return cls(dataset, d.name, cache, cache / "saliency" / f"{dataset.name}-{label}-{key}")

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the last complete computation; DataError if there was none."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        except (OSError, ValueError) as e:
            raise DataError(f"no saliency maps in {self.folder}. {self.advice()}") from e
        return content

    def file(self, record: Record) -> Path:
        """The file of the map of `record`, whether or not it exists."""
        return (self.folder / "maps" / record.path).with_suffix(".png")

    def map(self, record: Record) -> npt.NDArray[np.uint8]:
        """The map, uint8 [H, W] as the upright image, 0 in a banner. DataError if it is missing or damaged."""
        return read_map(self.file(record), record.path, self.advice())

    def missing(self, records: Iterable[Record]) -> list[Record]:
        """The records without a map of their present content. DataError if an image cannot be read."""
        wanted = list(records)
        hashes = content_hashes(self.dataset, wanted, self.cache)
        return [r for r in wanted if read_header(self.file(r)) != hashes[r.path]]

    def advice(self) -> str:
        """The command that computes the maps."""
        return f"Compute them with: suite data saliency {self.dataset.name} --detector {self.detector}"


def compute_saliency(
    dataset: Dataset,
    records: Iterable[Record],
    detector: Detector,
    cache: Path,
    threads: int = 1,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> SaliencyMaps:
    """Compute the maps of `records` that are missing or out of date. Safe to call from several processes.

    Args:
        dataset: of the images.
        records: the images.
        detector: called from several threads.
        cache: folder of derived data.
        threads: images at the same time.
        progress: called with (done, total) after each.

    Raises:
        DataError: an image cannot be decoded, or an oracle lacks an annotation; finished maps are kept.
    """
    from suite.locks import FileLock

    wanted = list(records)
    maps = SaliencyMaps.of(dataset, detector, cache)
    maps.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(maps.folder / ".lock"):
        todo = maps.missing(wanted)
        hashes = content_hashes(dataset, todo, cache)

        def compute(record: Record) -> None:
            compute_one(maps, detector, record, hashes[record.path])

        for done, _ in enumerate(parallel(compute, todo, threads), 1):
            if progress is not None:
                progress(done, len(todo))
        write_manifest(maps, detector)
    return maps


def compute_one(maps: SaliencyMaps, detector: Detector, record: Record, image_sha256: str) -> None:
    """Compute the map of one image and write it atomically."""
    dataset = maps.dataset
    image = decode(dataset.root / record.path)
    rows = len(image) - dataset.banner
    if rows < 1:
        raise DataError(
            f"{dataset.root / record.path} has {len(image)} rows, not more than the {dataset.banner} of the banner."
        )
    picture = np.round(detector(image[:rows], record, dataset) * 255).astype(np.uint8)
    text = PngImagePlugin.PngInfo()
    text.add_text("image_sha256", image_sha256)
    full = np.pad(picture, ((0, dataset.banner), (0, 0)))
    with atomic_file(maps.file(record)) as file:
        Image.fromarray(full).save(file, format="PNG", pnginfo=text)


def read_map(file: Path, path: str, advice: str) -> npt.NDArray[np.uint8]:
    """The map in `file` as uint8 [H, W]. DataError that names the image `path` if it is missing or damaged."""
    try:
        with Image.open(file) as image:
            return np.array(image.convert("L"))
    except (OSError, SyntaxError) as e:
        raise DataError(f"no readable saliency map {file} for '{path}'. {advice}") from e


def read_header(file: Path) -> str | None:
    """SHA-256 of a map's image; None without such a map."""
    try:
        with file.open("rb") as f:
            header = HEADER.search(f.read(256))
    except OSError:
        return None
    return header[1].decode() if header else None


def write_manifest(maps: SaliencyMaps, detector: Identity) -> None:
    """Write manifest.json: the detector and the number of maps."""
    records = (*maps.dataset.train, *maps.dataset.test)
    hashes = {r.path: image for r in records if (image := read_header(maps.file(r))) is not None}
    content = hashlib.sha256(json.dumps(sorted(hashes.items())).encode())
    facts = {
        "format": FORMAT,
        "dataset": maps.dataset.name,
        "synthetic": maps.dataset.synthetic,
        "detector": detector.name,
        "version": detector.version,
        "oracle": detector.oracle,
        "weights_sha256": detector.weights_sha256,
        "images": len(records),
        "computed": len(hashes),
        "images_sha256": content.hexdigest(),  # over (path, SHA-256 of the image) of every map
    }
    write_json(maps.folder / "manifest.json", facts)


def box_quality(dataset: Dataset, maps: SaliencyMaps, threshold: float, min_side: float) -> dict[str, float]:
    """Overlap of the maps' boxes (`salient_box`) with the official ones, over every image with both.

    Keys: `images`; `mean_iou`; `above_half`, the share with an overlap above 0.5; `whole_image_iou`, the mean overlap
    of the whole image; `fallbacks`, the number of images whose box is the whole image. For reporting only: tuning on
    it would use annotation. Raises DataError if there is no such image.
    """
    with_both = [(r, r.box) for r in (*dataset.train, *dataset.test) if r.box is not None and maps.file(r).is_file()]
    if not with_both:
        raise DataError(f"{dataset.info.label}: no image has both an official box and a saliency map. {maps.advice()}")
    overlaps, whole, fallbacks = [], [], 0
    for record, official in with_both:
        saliency = maps.map(record)
        saliency = saliency[: len(saliency) - dataset.banner]
        box, reason = salient_box(saliency, threshold, min_side)
        overlaps.append(overlap(box, official))
        whole.append(overlap(Box(0, 0, saliency.shape[1], saliency.shape[0]), official))
        fallbacks += reason is not None
    scores = np.array(overlaps)
    return {
        "images": len(with_both),
        "mean_iou": float(scores.mean()),
        "above_half": float((scores > 0.5).mean()),
        "whole_image_iou": float(np.mean(whole)),
        "fallbacks": fallbacks,
    }


def saliency_maps(
    dataset: Dataset,
    saliency: SaliencySpec,
    data_root: Path,
    cache: Path,
    progress: Progress | None = None,
    split: Split = "train",
    records: Sequence[Record] | None = None,
) -> SaliencyMaps:
    """Maps of one split's images (or of `records` alone), computed where they are missing.

    Raises:
        ImageError: an image cannot be read.
        DataError: the detector's weights or annotations are missing.
    """
    maps = SaliencyMaps.of(dataset, DETECTORS[saliency.detector], cache)
    records = dataset.split(split) if records is None else records
    if not maps.missing(records):
        return maps
    detector = make_detector(saliency.detector, data_root, cache)
    count_progress = None if progress is None else labelled_progress(progress, f"saliency {dataset.name} {split}")
    return compute_saliency(dataset, records, detector, cache, cores(), progress=count_progress)
