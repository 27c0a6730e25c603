"""Saliency maps, computed once and read by every job: 8-bit grey PNGs at each image's own resolution.

Their files are `<cache>/saliency/<dataset>-<detector>-<12 hex>/maps/<record path>.png` beside a manifest.json; the hex
is a hash of the detector's identity and of the names of the dataset's images and their boxes. Every PNG carries the
SHA-256 of its image, so that a replaced image is noticed and an interrupted run resumes after the last finished map.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
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
from suite.data.saliency.box import MIN_SIDE, REASONS, THRESHOLD, Reason, overlap, salient_box
from suite.data.saliency.detectors import DETECTORS, Detector, Identity, make_detector
from suite.data.spec import SaliencySpec
from suite.errors import DataError
from suite.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt

FORMAT = 1  # raised when the maps' files or the box's defaults change
HEADER = re.compile(rb"image_sha256\0([0-9a-f]{64}).*fallback\0(none|empty|small|full)", re.DOTALL)
log = logging.getLogger(__name__)


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

    def box(
        self, record: Record, threshold: float = THRESHOLD, min_side: float = MIN_SIDE
    ) -> tuple[Box, Reason | None]:
        """`salient_box` of the map; the whole image, where it is used instead, ends above a banner."""
        saliency = self.map(record)
        return salient_box(saliency[: len(saliency) - self.dataset.banner], threshold, min_side)

    def missing(self, records: Iterable[Record]) -> list[Record]:
        """The records without a map of their present content. DataError if an image cannot be read."""
        wanted = list(records)
        hashes = content_hashes(self.dataset, wanted, self.cache)
        return [r for r in wanted if (header := read_header(self.file(r))) is None or header[0] != hashes[r.path]]

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
        facts = write_manifest(maps, detector)
    if todo and sum(facts["fallbacks"].values()):
        where, of = maps.folder.name, facts["computed"]
        log.warning("%s: no box in some of %d maps, the whole image is used: %s", where, of, facts["fallbacks"])
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
    _, reason = salient_box(picture)
    text = PngImagePlugin.PngInfo()
    text.add_text("image_sha256", image_sha256)
    text.add_text("fallback", reason or "none")
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


def read_header(file: Path) -> tuple[str, str] | None:
    """SHA-256 of a map's image, and the reason why its box is the whole image, or "none"; None without such a map."""
    try:
        with file.open("rb") as f:
            header = HEADER.search(f.read(256))
    except OSError:
        return None
    return (header[1].decode(), header[2].decode()) if header else None


def write_manifest(maps: SaliencyMaps, detector: Identity) -> dict[str, Any]:
    """Write and return manifest.json: the detector, the number of maps, and how many give no box for which reason."""
    records = (*maps.dataset.train, *maps.dataset.test)
    headers = {r.path: h for r in records if (h := read_header(maps.file(r))) is not None}
    reasons = Counter(reason for _, reason in headers.values())
    fallbacks = {reason: reasons[reason] for reason in REASONS}
    content = hashlib.sha256(json.dumps(sorted((path, h[0]) for path, h in headers.items())).encode())
    facts: dict[str, Any] = {
        "format": FORMAT,
        "dataset": maps.dataset.name,
        "synthetic": maps.dataset.synthetic,
        "detector": detector.name,
        "version": detector.version,
        "oracle": detector.oracle,
        "weights_sha256": detector.weights_sha256,
        "threshold": THRESHOLD,
        "min_side": MIN_SIDE,
        "images": len(records),
        "computed": len(headers),
        "fallbacks": fallbacks,
        "images_sha256": content.hexdigest(),  # over (path, SHA-256 of the image) of every map
    }
    write_json(maps.folder / "manifest.json", facts)
    return facts


def box_quality(
    dataset: Dataset, maps: SaliencyMaps, threshold: float = THRESHOLD, records: Sequence[Record] | None = None
) -> dict[str, float]:
    """Overlap of the maps' boxes with the official ones, over `records` (else every image with a box and a map).

    Keys: `images`; `mean_iou`; `above_half`, the share with an overlap above 0.5; `whole_image_iou`, the mean overlap
    of the whole image; `fallbacks`, the number of images whose box is the whole image. For reporting only: tuning on
    it would use annotation. Raises DataError if there is no such image.
    """
    pool = (*dataset.train, *dataset.test) if records is None else records
    with_both = [(r, r.box) for r in pool if r.box is not None and maps.file(r).is_file()]
    if not with_both:
        raise DataError(f"{dataset.info.label}: no image has both an official box and a saliency map. {maps.advice()}")
    overlaps, whole, fallbacks = [], [], 0
    for record, official in with_both:
        saliency = maps.map(record)
        box, reason = salient_box(saliency[: len(saliency) - dataset.banner], threshold)
        overlaps.append(overlap(box, official))
        whole.append(overlap(Box(0, 0, saliency.shape[1], saliency.shape[0] - dataset.banner), official))
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
    told = None if progress is None else named(progress, f"saliency {dataset.name} {split}")
    return compute_saliency(dataset, records, detector, cache, cores(), progress=told)


def named(progress: Progress, what: str) -> Callable[[int, int], None]:
    """A function to call with (done, total)."""
    return lambda done, total: progress(what, done, total)
