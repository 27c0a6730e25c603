"""Which datasets are decoded ahead of training, and how much disk that is expected to take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from suite.data.datasets.load import load_dataset
from suite.data.decoded.files import FileStore
from suite.data.decoded.images import DecodedStore, build_store
from suite.data.decoded.setting import Sizes, assumed_sizes, decodes_ahead, sampled_sizes
from suite.data.decoded.stores import open_images, prepare_images
from suite.data.record import Dataset, Record
from suite.data.spec import DataSpec
from suite.errors import UsageError

DATA = DataSpec(name="cub", fingerprint="c" * 64, store_size=20)


@pytest.mark.parametrize(
    ("setting", "labelled", "gigabytes", "ahead"),
    [
        ("", True, 51, True),  # NABirds at the paper's size
        ("auto", True, 70, False),
        ("auto", False, 109, False),  # COCO at the paper's size
        ("auto", False, 0.05, True),  # a demo's scenes
        ("ahead", False, 800, True),
        ("demand", True, 0.001, False),
        ("3.5", True, 3.4, True),
        ("3.5", False, 3.6, False),
        ("0", True, 0.001, False),
    ],
)
def test_the_rule(setting: str, labelled: bool, gigabytes: float, ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUITE_DECODE", setting)
    assert decodes_ahead(labelled, gigabytes * 1e9) is ahead


@pytest.mark.parametrize("setting", ["always", "-1", "nan", "5GB"])
def test_another_setting_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUITE_DECODE", setting)
    with pytest.raises(UsageError, match=f"auto, ahead, demand or a number of GB, got '{setting}'"):
        decodes_ahead(labelled=True, decoded_bytes=1.0)


def photos(root: Path, count: int = 600) -> Dataset:
    """One half 60 x 40, one half 30 x 50; every file opens, since all are the same two."""
    root.mkdir(parents=True)
    for name, size in (("wide", (60, 40)), ("high", (30, 50))):
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(root / f"{name}.jpg")
    names = ["wide" if index < count // 2 else "high" for index in range(count)]
    records = tuple(Record(str(i), f"{name}.jpg", 0, None) for i, name in enumerate(names))
    return Dataset("cub", root, records[:-5], records[-5:], ("a",))


def test_disk_is_expected_by_the_sizes_of_a_sample(tmp_path: Path) -> None:
    dataset = photos(tmp_path / "d")
    sizes = sampled_sizes(dataset, DATA.fingerprint, tmp_path / "cache")
    assert 250 < len(sizes.sample) < 350
    exact = 300 * 3 * (20 * 30 + 20 * 33)
    assert sizes.decoded_bytes(20) == pytest.approx(exact, rel=0.01)
    assert sizes.decoded_bytes(500) == pytest.approx(300 * 3 * (60 * 40 + 30 * 50), rel=0.01)  # never enlarged
    assert build_store(dataset, DATA.fingerprint, 20, tmp_path / "cache").pixels.nbytes == exact
    for file in dataset.root.iterdir():
        file.unlink()  # not read again
    assert sampled_sizes(dataset, DATA.fingerprint, tmp_path / "cache") == sizes
    (kept,) = (tmp_path / "cache/image_sizes").iterdir()
    kept.write_text("{}", "utf-8")  # damaged: files are looked at again, of which there are none now
    assert sampled_sizes(dataset, DATA.fingerprint, tmp_path / "cache") == Sizes(600, [])


def test_a_dataset_that_is_not_there_is_assumed_to_be_4_to_3() -> None:
    assert assumed_sizes(1000, 300).decoded_bytes(300) == 1000 * 300 * 400 * 3
    assert assumed_sizes(0, 300).decoded_bytes(300) == 0
    assert assumed_sizes(1000, 300).index_bytes < 200_000


def test_a_store_that_is_there_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = photos(tmp_path / "d", 20)
    monkeypatch.setenv("SUITE_DECODE", "demand")
    assert isinstance(prepare_images(dataset, DATA, tmp_path), FileStore)
    monkeypatch.setenv("SUITE_DECODE", "ahead")
    assert isinstance(prepare_images(dataset, DATA, tmp_path), DecodedStore)
    monkeypatch.setenv("SUITE_DECODE", "0")
    assert isinstance(prepare_images(dataset, DATA, tmp_path), DecodedStore)  # it takes no more disk
    assert isinstance(open_images(tmp_path, DATA), DecodedStore)
    monkeypatch.setenv("SUITE_DECODE", "demand")
    assert isinstance(prepare_images(dataset, DATA, tmp_path), FileStore)
    assert isinstance(open_images(tmp_path, DATA), FileStore)


def test_synthetic_first_stages_of_the_demo_are_decoded_ahead(drawn: Path, tmp_path: Path) -> None:
    dataset = load_dataset("coco", drawn)
    data = DATA.model_copy(update={"name": "coco"})
    assert isinstance(prepare_images(dataset, data, tmp_path), DecodedStore)
