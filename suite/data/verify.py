"""`suite data verify`: check lists, counts, every image, boxes and repeated pictures of a dataset.

The result is stored under the dataset's fingerprint (`<cache>/verified/`), and the images' hashes where job keys take
them from (`<cache>/fingerprints/`): a verified dataset is neither hashed nor decoded again while no size and no time
of a file has changed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from suite.atomic import write_json
from suite.data.datasets.annotations import some
from suite.data.datasets.files import decode_image
from suite.data.datasets.fingerprint import combine, known_hashes, read_store, remember, states, store_file, unreadable
from suite.data.datasets.known import remember_known
from suite.data.datasets.load import load_dataset
from suite.data.decoded.parallel import parallel
from suite.data.download.manifest import manifest
from suite.data.record import Dataset, Finding, Level, Record
from suite.errors import DataError
from suite.progress import Progress

FORMAT = 1  # raised when a check is added
STRAY_BOXES = 0.01  # NABirds as published has .4 % of its boxes outside their images; lists of another size have most


@dataclass(frozen=True)
class Verification:
    """The result of verifying a dataset."""

    dataset: str
    describe: str
    fingerprint: str
    images: int
    findings: tuple[Finding, ...]
    when: str  # UTC
    seconds: float
    cached: bool = False  # found now, or earlier for the same content

    @property
    def sound(self) -> bool:
        """Whether there is no error."""
        return not any(finding.level == "error" for finding in self.findings)


class _ImageCheck(NamedTuple):
    digest: str
    width: int
    height: int
    fault: str | None


def verify(name: str, data_root: Path, cache: Path, progress: Progress, again: bool = False) -> Verification:
    """Check lists, counts, every image, boxes and repeated pictures of a dataset.

    Args:
        name: of the dataset.
        data_root: folder that holds the datasets.
        cache: folder for the result and the hashes.
        progress: called after each image.
        again: read every image even if sizes and times are unchanged, and compare it with its stored hash.

    Raises:
        DataError: the dataset is not found, its lists contradict each other, or images are missing.
    """
    dataset = load_dataset(name, data_root)
    earlier = None if again else verified(dataset, cache)
    if earlier is not None:
        remember_known(dataset, earlier.fingerprint, cache)
        return earlier
    began = time.monotonic()
    records = (*dataset.train, *dataset.test)
    keys = states(dataset, records)  # before reading: a file that changes meanwhile is read again next time
    before = read_store(store_file(dataset, cache))
    checks: dict[str, _ImageCheck] = {}
    for done, (record, check) in enumerate(
        zip(records, parallel(lambda r: _check_image(dataset, r), records), strict=True), 1
    ):
        checks[record.path] = check
        progress(f"verify {name}", done, len(records))
    hashes = {path: check.digest for path, check in checks.items()}
    findings = [
        *_unreadable(checks),
        *_changed({path: before[key] for path, key in keys.items() if key in before}, hashes),
        *_boxes(dataset, checks),
        *_repeated(dataset, hashes),
        *_lists(dataset),
    ]
    verification = Verification(
        name, dataset.describe(), combine(dataset, hashes), len(records), tuple(findings),
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), round(time.monotonic() - began, 1),
    )  # fmt: skip
    remember(dataset, cache, {keys[path]: digest for path, digest in hashes.items()})
    remember_known(dataset, verification.fingerprint, cache)
    if verification.sound:
        write_json(_file(cache, name, verification.fingerprint), {"format": FORMAT, **asdict(verification)})
    return _with_those_of_loading(verification, dataset)


def _with_those_of_loading(verification: Verification, dataset: Dataset) -> Verification:
    """Add the findings of loading. They are not stored by content: a file that is left out changes no fingerprint."""
    return replace(verification, findings=tuple(dict.fromkeys((*verification.findings, *dataset.findings))))


def verified(dataset: Dataset, cache: Path) -> Verification | None:
    """The stored result for the present content, or None. Compares sizes and times; reads no image."""
    hashes = known_hashes(dataset, cache)
    if hashes is None:
        return None
    print_ = combine(dataset, hashes)
    try:
        content: dict[str, Any] = json.loads(_file(cache, dataset.name, print_).read_text("utf-8"))
        if content.pop("format") != FORMAT:
            return None
        content["findings"] = tuple(Finding(**finding) for finding in content["findings"])
        return _with_those_of_loading(replace(Verification(**content), cached=True), dataset)
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged: verify again
        return None


def is_verified(name: str, fingerprint: str, cache: Path) -> bool:
    """Whether a dataset of this content has been verified without an error. Looks at no file of the dataset."""
    return _file(cache, name, fingerprint).is_file()


def _file(cache: Path, name: str, fingerprint: str) -> Path:
    return cache / "verified" / f"{name}-{fingerprint[:16]}.json"


def _check_image(dataset: Dataset, record: Record) -> _ImageCheck:
    path = dataset.root / record.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(dataset, record.path, error) from error
    digest = hashlib.sha256(data).hexdigest()
    try:
        width, height = decode_image(path, data).size
    except DataError as error:
        return _ImageCheck(digest, 0, 0, str(error))
    if height <= dataset.banner:
        return _ImageCheck(digest, 0, 0, f"{path} has {height} rows, not more than the {dataset.banner} of the banner")
    return _ImageCheck(digest, width, height, None)


def _unreadable(checks: Mapping[str, _ImageCheck]) -> Iterator[Finding]:
    for check in checks.values():
        if check.fault is not None:
            yield Finding("error", check.fault)


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Finding]:
    """Content that changed while size and time did not: a failing disk, or a faulty copy."""
    changed = [path for path, digest in before.items() if now[path] != digest]
    if changed:
        yield Finding(
            "error",
            f"{len(changed)} images have another content than when they were last read, though neither size nor time "
            f"changed: {some(changed)}. Unpack the archive again and check the disk.",
        )


def _boxes(dataset: Dataset, checks: Mapping[str, _ImageCheck]) -> Iterator[Finding]:
    """Boxes outside their images, with a tolerance of one pixel. The decoded store clips boxes at the image's edge."""
    leaving, outside, boxes = [], [], 0
    for record in (*dataset.train, *dataset.test):
        check = checks[record.path]
        if record.box is None or check.fault is not None:
            continue
        boxes += 1
        x0, y0, x1, y1 = record.box
        if x0 >= check.width or y0 >= check.height or x1 <= 0 or y1 <= 0:
            outside.append(record.path)
        elif max(-x0, -y0, x1 - check.width, y1 - check.height) > 1:
            leaving.append(record.path)
    if outside:
        yield Finding("error", f"{len(outside)} of {boxes} boxes lie wholly outside their images: {some(outside)}.")
    if len(leaving) > STRAY_BOXES * boxes:
        yield Finding(
            "error",
            f"{len(leaving)} of {boxes} boxes reach over the edge of their images: {some(leaving)}. The boxes seem to "
            "be of images of another size.",
        )
    elif leaving:
        yield Finding("note", f"{len(leaving)} of {boxes} boxes reach over the edge and are cut: {some(leaving)}.")


def _repeated(dataset: Dataset, hashes: Mapping[str, str]) -> Iterator[Finding]:
    """Pictures that occur more than once. Published datasets have some, so they are reported and not refused."""
    groups: dict[str, list[tuple[str, Record]]] = defaultdict(list)
    for split, records in (("train", dataset.train), ("test", dataset.test)):
        for record in records:
            groups[hashes[record.path]].append((split, record))
    repeated = [group for group in groups.values() if len(group) > 1]

    def leaks(group: list[tuple[str, Record]]) -> bool:
        return len({split for split, _ in group}) > 1

    def contradicts(group: list[tuple[str, Record]]) -> bool:
        return len({record.label for _, record in group}) > 1

    kinds: tuple[tuple[Level, str, list[list[tuple[str, Record]]]], ...] = (
        ("warning", "the same picture in train and in test", [g for g in repeated if leaks(g)]),
        ("warning", "the same picture under different labels", [g for g in repeated if contradicts(g)]),
        (
            "note",
            "the same picture more than once, with one label",
            [g for g in repeated if not leaks(g) and not contradicts(g)],
        ),
    )
    for level, what, affected in kinds:
        if affected:
            names = ["' = '".join(record.path for _, record in group) for group in affected]
            yield Finding(level, f"{what}, {len(affected)} x: {some(names)}.")


def _lists(dataset: Dataset) -> Iterator[Finding]:
    """Differences between the annotation files of a complete dataset and the official ones."""
    if dataset.subset or dataset.synthetic or dataset.name not in manifest():
        return
    other = []
    for path, expected in manifest()[dataset.name].lists.items():
        file = dataset.root / path
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            other.append(path)
    if other:
        yield Finding("warning", f"these lists differ from the official ones: {some(other)}. Their counts are right.")
