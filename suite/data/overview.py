"""`suite data list`: the state of every dataset on this machine. No image is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.data.catalogue import DATASETS
from suite.data.datasets.fingerprint import combine, known_hashes
from suite.data.datasets.load import find_folder, load_dataset
from suite.data.record import Dataset, Finding
from suite.data.saliency.detectors import DETECTORS
from suite.data.saliency.maps import SaliencyMaps
from suite.data.verify import verified
from suite.errors import DataError

State = Literal["complete", "subset", "synthetic", "broken", "missing"]
_STORE = re.compile(
    r"(?P<name>.+)-(?P<print>[0-9a-f]{16})-(?P<size>\d+)px-(?P<files>files-)?v[\d.]+"
    r"(-(?P<detector>\w+)-[0-9a-f]{12}-v\d+(-\w+)?)?"
)


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images and classes, each as (on this machine, in the official release)."""

    train: tuple[int, int]
    test: tuple[int, int]
    classes: tuple[int, int]


@dataclass(frozen=True)
class DetectorMaps:
    """Saliency maps of one detector."""

    detector: str
    oracle: bool
    computed: int
    images: int


@dataclass(frozen=True)
class DecodedImages:
    """One store of images, or of saliency maps in their sizes."""

    short_side: int
    on_demand: bool  # decoded by training from the original files; the store is an index
    detector: str | None  # None: the images
    bytes: int
    current: bool | None  # made from the dataset's present content; None: unknown without reading the images


@dataclass(frozen=True)
class Overview:
    """The state of one dataset."""

    name: str
    label: str
    state: State
    folder: str | None
    problem: str | None  # why it cannot be used
    counts: ImageCounts | None
    verified: str | None  # when, UTC
    saliency: tuple[DetectorMaps, ...]
    decoded: tuple[DecodedImages, ...]
    licence: str
    source: str
    findings: tuple[Finding, ...] = ()  # what loading noticed, such as files that are left out


def overview(name: str, data_root: Path, cache: Path) -> Overview:
    """The state of dataset `name`."""
    info = DATASETS[name]
    folder, problem, dataset = None, None, None
    try:
        folder = find_folder(info, data_root)
        dataset = load_dataset(name, data_root)
    except DataError as error:
        problem = str(error)
    counts, when, print_ = None, None, None
    maps: tuple[DetectorMaps, ...] = ()
    state: State = "missing" if folder is None else "broken"
    if dataset is not None:
        state = "synthetic" if dataset.synthetic else "subset" if dataset.subset else "complete"
        counts = ImageCounts(
            (len(dataset.train), info.train), (len(dataset.test), info.test), (len(dataset.classes), info.classes)
        )
        hashes = known_hashes(dataset, cache)
        print_ = None if hashes is None else combine(dataset, hashes)
        earlier = verified(dataset, cache)
        when = None if earlier is None else earlier.when
        maps = tuple(_maps(dataset, cache))
    decoded = tuple(_decoded(name, cache, print_))
    where = None if folder is None else str(folder)
    return Overview(
        name, info.label, state, where, problem, counts, when, maps, decoded, info.licence, info.source,
        () if dataset is None else dataset.findings,
    )  # fmt: skip


def _maps(dataset: Dataset, cache: Path) -> Iterator[DetectorMaps]:
    for info in DETECTORS.values():
        found = SaliencyMaps.of(dataset, info, cache)
        try:
            facts = found.manifest
        except DataError:
            continue
        yield DetectorMaps(info.name, info.oracle, int(facts["computed"]), int(facts["images"]))


def _decoded(name: str, cache: Path, fingerprint: str | None) -> Iterator[DecodedImages]:
    """Every store of the dataset, also outdated ones, which can be deleted."""
    folders = sorted((cache / "images").iterdir()) if (cache / "images").is_dir() else []
    for folder in folders:
        match = _STORE.fullmatch(folder.name)
        if match is None or match["name"] != name or not folder.is_dir():
            continue
        size = sum(file.stat().st_size for file in folder.iterdir())
        current = None if fingerprint is None else fingerprint.startswith(match["print"])
        yield DecodedImages(int(match["size"]), match["files"] is not None, match["detector"], size, current)
