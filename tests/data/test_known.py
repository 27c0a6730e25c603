"""A large dataset that was looked at before is recognised by its folders' times, and by nothing less."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import suite.data.datasets.known as module
from suite.data.datasets.fingerprint import fingerprint
from suite.data.datasets.known import load_known, remember_known
from suite.data.datasets.load import load_dataset
from suite.data.record import Dataset
from tests.data.conftest import Layouts, write_image

NAMES = ["cub", "nabirds", "aircraft", "cars", "coco", "imagenet"]


def settle(root: Path) -> None:
    """As if everything had been written a minute ago."""
    for place in (root, *root.rglob("*")):
        before = place.stat()
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns - 60 * 10**9))


@pytest.fixture(autouse=True)
def _no_dataset_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 1)


def known(name: str, layouts: Layouts, cache: Path) -> Dataset:
    """Loaded once and recorded."""
    settle(getattr(layouts, name)())
    dataset = load_dataset(name, layouts.root)
    remember_known(dataset, fingerprint(dataset, cache), cache)
    return dataset


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_dataset_and_no_file_is_listed(
    name: str, layouts: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = known(name, layouts, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module, "load_dataset", None)
        again = load_known(name, layouts.root, tmp_path)
        assert again.known_fingerprint == fingerprint(before, tmp_path)
        assert again.describe() == before.describe()
        assert (again.classes, again.banner, again.root) == (before.classes, before.banner, before.root)
        assert [len(again.split(split)) for split in ("train", "test")] == [len(before.train), len(before.test)]
        assert again.train[0] == before.train[0]
    assert (tuple(again.train), tuple(again.test)) == (before.train, before.test)
    assert again.train[1:] == before.train[1:]


def replace(file: Path, content: bytes) -> None:
    """As most programs save a file."""
    file.with_suffix(".new").write_bytes(content)
    file.with_suffix(".new").rename(file)


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a new image": ("coco", lambda r: write_image(r / "train2017/new.jpg")),
    "a removed one": ("coco", lambda r: (r / "train2017/000000000009.jpg").unlink()),
    "a renamed one": ("coco", lambda r: (r / "train2017/000000000009.jpg").rename(r / "train2017/8.jpg")),
    "one replaced by a rename": ("coco", lambda r: replace(r / "train2017/000000000009.jpg", b"other")),
    "a new folder": ("imagenet", lambda r: write_image(r / "train/n03/a.JPEG")),
    "a removed folder": ("imagenet", lambda r: shutil.rmtree(r / "train/n01")),
    "a new sub-folder": ("imagenet", lambda r: write_image(r / "train/n01/deep/a.JPEG")),
    "an edited list": ("cub", lambda r: replace(r / "bounding_boxes.txt", (r / "bounding_boxes.txt").read_bytes())),
    "an edited list in data/": ("aircraft", lambda r: os.utime(r / "data/images_box.txt")),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_looked_at(change: str, layouts: Layouts, tmp_path: Path) -> None:
    name, apply = CHANGES[change]
    root = known(name, layouts, tmp_path).root
    assert load_known(name, layouts.root, tmp_path).known_fingerprint is not None
    apply(root)
    assert load_known(name, layouts.root, tmp_path).known_fingerprint is None


def test_a_folder_that_has_just_changed_is_not_trusted(layouts: Layouts, tmp_path: Path) -> None:
    layouts.coco()
    dataset = load_dataset("coco", layouts.root)
    remember_known(dataset, "f" * 64, tmp_path)
    assert not list(tmp_path.glob("known/*"))


def test_a_folder_that_changes_after_it_was_listed_is_not_recorded(layouts: Layouts, tmp_path: Path) -> None:
    settle(layouts.coco())
    dataset = load_dataset("coco", layouts.root)
    write_image(dataset.root / "train2017/late.jpg")
    remember_known(dataset, "f" * 64, tmp_path)
    assert not list(tmp_path.glob("known/*"))


def test_small_datasets_and_those_of_plugins_are_always_looked_at(
    layouts: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGE", 20_000)
    known("coco", layouts, tmp_path)
    assert not list(tmp_path.glob("known/*"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "0"}', '{"version": 1, "root": 3}'])
def test_a_damaged_record_is_ignored(content: str, layouts: Layouts, tmp_path: Path) -> None:
    known("coco", layouts, tmp_path)
    [file] = (tmp_path / "known").iterdir()
    file.write_text(content)
    assert load_known("coco", layouts.root, tmp_path).known_fingerprint is None
