"""`suite data verify` on datasets that somebody damaged, and what it costs the second time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.data import verify as module
from suite.data.datasets import aircraft, cars, cub, nabirds
from suite.data.datasets.fingerprint import fingerprint
from suite.data.datasets.load import load_dataset
from suite.data.download.manifest import manifest
from suite.data.verify import verified, verify
from suite.errors import DataError

from .conftest import write_image


def quiet(what: str, done: int, total: int) -> None:
    pass


def found(name: str, root: Path, cache: Path, again: bool = False) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in verify(name, root, cache, quiet, again).findings]


@pytest.mark.parametrize("name", ["cub", "nabirds", "aircraft", "cars", "coco", "imagenet"])
def test_a_sound_dataset_is_read_once(name: str, layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    getattr(layouts, name)()
    if name == "imagenet":  # both of its pictures are the same one
        write_image(layouts.root / "imagenet/train/n02/n02_1.JPEG", seed=1)
    reported: list[tuple[str, int, int]] = []
    first = verify(name, layouts.root, tmp_path, lambda *step: reported.append(step))
    dataset = load_dataset(name, layouts.root)
    assert first.sound
    assert not first.findings
    assert reported[-1] == (f"verify {name}", first.images, first.images)
    monkeypatch.setattr(module, "_check_image", None)  # from here on no image may be read
    monkeypatch.setattr("suite.data.datasets.fingerprint.file_hash", None)
    assert fingerprint(dataset, tmp_path) == first.fingerprint
    second = verify(name, layouts.root, tmp_path, quiet)
    assert second.cached
    assert (second.fingerprint, second.when, second.findings) == (first.fingerprint, first.when, ())
    shutil.copytree(layouts.root, tmp_path / "copy")  # copytree keeps times: the same content at another place
    assert verify(name, tmp_path / "copy", tmp_path, quiet).cached


def test_verifying_gives_the_fingerprint_that_job_keys_have(layouts, tmp_path: Path) -> None:
    layouts.cub()
    assert verify("cub", layouts.root, tmp_path / "a", quiet).fingerprint == fingerprint(
        load_dataset("cub", layouts.root), tmp_path / "b"
    )


def damage(root: Path, image: str, content: bytes) -> None:
    (root / "images" / image).write_bytes(content)


def change(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))


FIRST, LAST = "003.Third/003.Third_0.jpg", "012.Twelfth/012.Twelfth_2.jpg"
FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty": (lambda r: damage(r, FIRST, b""), "error", "the file is empty"),
    "page": (lambda r: damage(r, FIRST, b"<html>"), "error", "it is a web page"),
    "cut": (lambda r: damage(r, LAST, (r / "images" / LAST).read_bytes()[:-300]), "error", "cannot decode .*Twelfth_2"),
    "box outside": (
        lambda r: change(r, "bounding_boxes.txt", "1 0.5 2.0", "1 99 99"),
        "error",
        "1 of 6 boxes lie wholly outside .*Third_0",
    ),
    "box too large": (
        lambda r: change(r, "bounding_boxes.txt", "10.0 20.0", "60.0 20.0"),
        "error",
        "1 of 6 boxes reach over .*another size",
    ),
    "leak": (
        lambda r: shutil.copy(r / "images/003.Third/003.Third_0.jpg", r / "images/003.Third/003.Third_2.jpg"),
        "warning",
        "in train and in test, 1 x: 'images/003.Third/003.Third_0.jpg' = 'images/003.Third/003.Third_2.jpg'",
    ),
    "two labels": (
        lambda r: shutil.copy(r / "images" / FIRST, r / "images/012.Twelfth/012.Twelfth_0.jpg"),
        "warning",
        "under different labels, 1 x",
    ),
    "twice": (
        lambda r: shutil.copy(r / "images" / FIRST, r / "images/003.Third/003.Third_1.jpg"),
        "note",
        "more than once, with one label, 1 x",
    ),
    "stray": (
        lambda r: write_image(r / "images/003.Third/003.Third_0_rgb.jpg", seed=77),
        "note",
        "1 image files are in no list .*_rgb.jpg",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, layouts, tmp_path: Path) -> None:
    spoil, level, text = FAULTS[fault]
    spoil(layouts.cub())
    result = verify("cub", layouts.root, tmp_path, quiet)
    assert [finding.level for finding in result.findings] == [level]
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(result.findings[0].text)
    assert result.sound == (level != "error")
    again = verify("cub", layouts.root, tmp_path, quiet)
    assert again.cached == result.sound  # what is wrong is looked at again, what is odd is remembered
    assert again.findings == result.findings


def test_a_few_boxes_over_the_edge_are_noted(layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NABirds as published has them."""
    monkeypatch.setattr(module, "STRAY_BOXES", 0.2)
    change(layouts.cub(), "bounding_boxes.txt", "10.0 20.0", "60.0 20.0")
    assert [level for level, _ in found("cub", layouts.root, tmp_path)] == ["note"]


def test_bits_that_change_under_a_file(layouts, tmp_path: Path) -> None:
    image = layouts.cub() / "images" / FIRST
    before = image.stat()
    assert not found("cub", layouts.root, tmp_path)
    data = bytearray(image.read_bytes())
    data[-100] ^= 1
    image.write_bytes(data)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not found("cub", layouts.root, tmp_path)  # as announced: only sizes and times are looked at
    levels = found("cub", layouts.root, tmp_path, again=True)
    assert any(level == "error" and "another content than when they were last read" in text for level, text in levels)


def test_aircraft_without_picture_above_the_banner(layouts, tmp_path: Path) -> None:
    root = layouts.aircraft()
    write_image(root / "data/images/0000001.jpg", size=(40, 20))
    assert found("aircraft", layouts.root, tmp_path)[0][1].endswith("20 rows, not more than the 20 of the banner")


def test_missing_images_and_lists_stop_at_once(layouts, tmp_path: Path) -> None:
    (layouts.cub() / "images" / FIRST).unlink()
    with pytest.raises(DataError, match="1 of 6 listed images are missing"):
        verify("cub", layouts.root, tmp_path, quiet)


def test_a_damaged_record_is_made_again(layouts, tmp_path: Path) -> None:
    layouts.coco()
    verify("coco", layouts.root, tmp_path, quiet)
    dataset = load_dataset("coco", layouts.root)
    [record] = (tmp_path / "verified").glob("coco-*.json")
    good = json.loads(record.read_text())
    for content in ("{", "[]", json.dumps(good | {"format": 0}), json.dumps({"format": good["format"]})):
        record.write_text(content)
        assert verified(dataset, tmp_path) is None
    assert not verify("coco", layouts.root, tmp_path, quiet).cached


def test_lists_of_a_complete_dataset_are_compared(layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.cub()
    monkeypatch.setattr("suite.data.record.Dataset.subset", False)
    [(level, text)] = found("cub", layouts.root, tmp_path)
    assert level == "warning"
    assert "these lists differ from the official ones: 'images.txt'" in text


OFFICIAL = {
    "cub": ("CUB_200_2011/annotations_full", cub.parse, (5994, 5794, 200)),
    "nabirds": ("nabirds/nabirds_annotations.tar.xz", nabirds.parse, (23929, 24633, 555)),
    "aircraft": ("fgvc_aircraft", aircraft.parse, (6667, 3333, 100)),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_lists_parse_and_have_the_manifest_s_checksums(name: str, real_data: Path, tmp_path: Path) -> None:
    place, parse, counts = OFFICIAL[name]
    root = real_data / place
    if not root.exists():
        pytest.skip(f"no {place} in SUITE_DATA")
    if root.is_file():
        shutil.unpack_archive(root, tmp_path / "lists")
        root = tmp_path / "lists"
    dataset = parse(root)
    assert (len(dataset.train), len(dataset.test), len(dataset.classes)) == counts
    assert not dataset.subset
    assert not list(module._lists(dataset))
    assert manifest()[name].lists


def test_official_cars_lists(real_data: Path) -> None:
    """The devkit has no test labels: its classes, training entries and the number of test images are all there is."""
    import numpy as np

    kit = real_data / "stanford_cars/devkit_full"
    if not kit.is_dir():
        pytest.skip("no stanford_cars/devkit_full in SUITE_DATA")
    names = dict(enumerate(np.atleast_1d(cars.load_mat(kit / "cars_meta.mat", "class_names")), 1))
    train = cars.read_split(kit / "cars_train_annos.mat", "train", "cars_train", names)
    test = np.atleast_1d(cars.load_mat(kit / "cars_test_annos.mat", "annotations"))
    assert (len(train), len(test), len(names), len({entry.class_id for entry in train})) == (8144, 8041, 196, 196)
    with pytest.raises(DataError, match="has no labels"):
        cars.read_split(kit / "cars_test_annos.mat", "test", "cars_test", names)


@pytest.mark.slow
def test_the_real_cars_have_one_picture_under_two_labels(real_data: Path, tmp_path: Path) -> None:
    if not (real_data / "stanford_cars").is_dir():
        pytest.skip("no stanford_cars in SUITE_DATA")
    result = verify("cars", real_data, tmp_path, quiet)
    assert result.sound
    assert any("02456.jpg' = 'cars_train/02598.jpg" in finding.text for finding in result.findings)
