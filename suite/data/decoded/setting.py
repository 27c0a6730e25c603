"""The rule by which a dataset is decoded ahead of training or on demand, and the disk that either takes.

`$SUITE_DECODE`: `auto` (the default), `ahead`, `demand`, or a number of GB. Decoded images are read much faster than
JPEGs are decoded (tests/benchmarks/bench_data.py has the rates), so `auto` decodes ahead what is small enough:

- a set with labels up to 64 GB: it is read for hundreds of epochs. NABirds, the largest, takes 51 GB at 512 px.
- a set without labels, which serves first stages only, up to 0.1 GB: COCO would take 109 GB beside its files of 19 GB.

A number replaces both limits. The form is no part of a job's identity: the pixels are the same bits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from suite.atomic import write_json
from suite.data.decoded.shape import resized_shape
from suite.data.record import Dataset
from suite.errors import ImageError, StoreError, UsageError

LABELLED_GB = 64.0
UNLABELLED_GB = 0.1
SAMPLE = 256  # images whose headers give the expected size of the rest
INDEX_BYTES = 120  # per image: shape, label, box, length and path


def decodes_ahead(labelled: bool, decoded_bytes: float) -> bool:
    """Whether a dataset is decoded ahead of training, by `$SUITE_DECODE`.

    Args:
        labelled: whether the suite uses labels of the set; without, it serves first stages only.
        decoded_bytes: that its decoded images take.

    Raises:
        UsageError: the variable holds something else.
    """
    setting = os.environ.get("SUITE_DECODE") or "auto"
    if setting in {"ahead", "demand"}:
        return setting == "ahead"
    limit = LABELLED_GB if labelled else UNLABELLED_GB
    if setting != "auto":
        try:
            limit = float(setting)
        except ValueError:
            limit = float("nan")
        if not limit >= 0:
            raise UsageError(f"SUITE_DECODE expects auto, ahead, demand or a number of GB, got '{setting}'.")
    return decoded_bytes <= limit * 1e9


def on_demand_only() -> bool:
    """Whether decoded images are not to be used even where they are there."""
    return os.environ.get("SUITE_DECODE") == "demand"


@dataclass(frozen=True)
class Sizes:
    """Sizes of some images of a dataset, and the number of all."""

    count: int
    sample: Sequence[tuple[int, int]]  # height and width in px, without the banner

    def decoded_bytes(self, size: int) -> int:
        """Expected bytes of all images, decoded with a short side of at most `size` px."""
        if not self.sample:
            return 0
        pixels = sum(height * width for height, width in (resized_shape(h, w, size) for h, w in self.sample))
        return round(3 * pixels / len(self.sample) * self.count)

    @property
    def index_bytes(self) -> int:
        """Expected bytes of an index of all images."""
        return self.count * INDEX_BYTES


def assumed_sizes(count: int, size: int) -> Sizes:
    """For a dataset that is not there: 4 : 3, with the short side of the store."""
    return Sizes(count, [(size, round(size * 4 / 3))] if count else [])


def sampled_sizes(dataset: Dataset, fingerprint: str, cache: Path) -> Sizes:
    """Sizes of images at regular intervals. Read once per content of a dataset and kept in the cache."""
    file = cache / "image_sizes" / f"{dataset.name}-{fingerprint[:16]}.json"
    count = len(dataset.train) + len(dataset.test)
    try:
        sample = json.loads(file.read_text("utf-8"))["sample"]
        return Sizes(count, [(int(height), int(width)) for height, width in sample])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it can be read again
        pass
    sample = _sample(dataset, count)
    with suppress(StoreError):  # a read-only cache: read again next time
        write_json(file, {"sample": sample})
    return Sizes(count, sample)


def _sample(dataset: Dataset, count: int) -> list[tuple[int, int]]:
    from suite.data.decoded.check import image_size

    records = (*dataset.train, *dataset.test)
    sample = []
    for place in range(0, count, max(1, count // SAMPLE)):
        try:
            (height, width), _ = image_size(dataset.root / records[place].path)
        except ImageError:  # named when every image is checked
            continue
        sample.append((max(1, height - dataset.banner), width))
    return sample
