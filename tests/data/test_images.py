"""The decoded store and its saliency: same pixels, boxes in scale, built once, atomic, usable by several processes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from suite.data.catalogue import DATASETS
from suite.data.datasets.fingerprint import fingerprint
from suite.data.datasets.load import load_dataset
from suite.data.decoded.images import build_store, store_folder
from suite.data.decoded.parallel import parallel
from suite.data.decoded.saliency import build_maps
from suite.data.decoded.shape import resized_shape
from suite.data.decoded.split import SplitSource
from suite.data.record import Box, Dataset, Record
from suite.data.saliency.detectors import DETECTORS, make_detector
from suite.data.saliency.maps import compute_saliency
from suite.data.spec import SaliencySpec
from suite.errors import DataError

MASKS = SaliencySpec(
    detector="masks", threshold=0.3, min_side=0.05, version=DETECTORS["masks"].version, weights_sha256=None
)


@pytest.fixture
def cub(drawn: Path) -> Dataset:
    return load_dataset("cub", drawn)


def photos(root: Path, banner: int = 0) -> Dataset:
    """Two lossless images of known pixels: 60 x 40 with a box, and one smaller than the store's size."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    records = []
    for index, (height, width) in enumerate([(40, 60), (10, 12)]):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(root / f"{index}.png")
        box = Box(6, 4, 30, 20) if index == 0 else None
        records.append(Record(str(index), f"{index}.png", index, box))
    return Dataset("cub", root, (records[0],), (records[1],), ("a", "b"), banner=banner)


def test_short_side_comes_down_to_the_size_and_never_up() -> None:
    assert resized_shape(40, 60, 20) == (20, 30)
    assert resized_shape(60, 40, 20) == (30, 20)
    assert resized_shape(10, 12, 20) == (10, 12)
    assert resized_shape(1, 1000, 20) == (1, 1000)


def test_pixels_boxes_and_labels(tmp_path: Path) -> None:
    dataset = photos(tmp_path / "d")
    store = build_store(dataset, "f" * 64, 20, tmp_path / "cache")
    assert store.image(0).shape == (20, 30, 3)
    with Image.open(dataset.root / "1.png") as small:
        assert np.array_equal(store.image(1), np.asarray(small))
    with Image.open(dataset.root / "0.png") as large:
        expected = np.asarray(large.resize((30, 20), Image.Resampling.LANCZOS))
    assert np.array_equal(store.image(0), expected)
    assert store.boxes[0].tolist() == [3, 2, 15, 10]
    assert np.isnan(store.boxes[1]).all()
    assert store.labels.tolist() == [0, 1]
    assert (list(store.indices("train")), list(store.indices("test"))) == ([0], [1])
    assert store.facts.subset


def test_a_banner_is_cut_off_before_resizing(tmp_path: Path) -> None:
    dataset = photos(tmp_path / "d", banner=4)
    store = build_store(dataset, "f" * 64, 20, tmp_path / "cache")
    with Image.open(dataset.root / "1.png") as small:
        assert np.array_equal(store.image(1), np.asarray(small)[:6])
    assert store.boxes[0].tolist() == pytest.approx([6 * 33 / 60, 4 * 20 / 36, 30 * 33 / 60, 20 * 20 / 36], abs=1e-4)


def test_built_once_and_shared(cub: Dataset, tmp_path: Path) -> None:
    print_of = fingerprint(cub, tmp_path)
    calls: list[int] = []
    stores: list[Any] = []

    def build() -> None:
        stores.append(build_store(cub, print_of, 32, tmp_path, lambda done, _: calls.append(done)))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = len(cub.train) + len(cub.test)
    assert calls == list(range(1, total + 1))  # one of the four did the work
    assert len({store.folder for store in stores}) == 1
    assert not list(tmp_path.glob("images/.*"))


def test_a_broken_photograph_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = photos(tmp_path / "d")
    (dataset.root / "1.png").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"1\.png"):
        build_store(dataset, "f" * 64, 20, tmp_path / "cache")
    assert not store_folder(tmp_path / "cache", "cub", "f" * 64, 20).exists()
    assert not [p for p in (tmp_path / "cache" / "images").iterdir() if p.suffix != ".lock"]


def test_writing_into_a_view_of_the_store_does_not_reach_the_file(tmp_path: Path) -> None:
    store = build_store(photos(tmp_path / "d"), "f" * 64, 20, tmp_path / "cache")
    before = (store.folder / "pixels.u8").read_bytes()
    store.image(0)[:] = 0
    assert (store.folder / "pixels.u8").read_bytes() == before


def test_maps_have_the_images_sizes_and_boxes_the_masks_extent(cub: Dataset, drawn: Path, tmp_path: Path) -> None:
    maps = compute_saliency(cub, cub.train, make_detector("masks", drawn, tmp_path), tmp_path)
    store = build_store(cub, fingerprint(cub, tmp_path), 32, tmp_path)
    built = build_maps(store, cub, MASKS, maps)
    source = SplitSource(store, "train", built)
    assert len(source) == len(cub.train)
    for index in range(len(source)):
        image, mask = source.image(index), source.saliency(index)
        assert mask.shape[1:] == image.shape[1:]
        left, top, right, bottom = source.salient_box(index)
        official = store.boxes[index]
        assert np.abs(np.array([left, top, right, bottom]) - official).max() <= 2
        assert mask[0, top:bottom, left:right].max() > 200
    assert sum(built.fallbacks.values()) <= 2


def test_maps_of_another_threshold_are_other_maps(cub: Dataset, drawn: Path, tmp_path: Path) -> None:
    maps = compute_saliency(cub, cub.train, make_detector("masks", drawn, tmp_path), tmp_path)
    store = build_store(cub, fingerprint(cub, tmp_path), 32, tmp_path)
    build_maps(store, cub, MASKS, maps)
    build_maps(store, cub, MASKS.model_copy(update={"threshold": 0.9}), maps)
    assert len(list((tmp_path / "images").glob("*-masks-*-v1"))) == 2


def test_parallel_keeps_order_and_raises() -> None:
    assert list(parallel(lambda x: x * x, range(100))) == [x * x for x in range(100)]

    def fail(x: int) -> int:
        if x == 5:
            raise DataError("five")
        return x

    with pytest.raises(DataError, match="five"):
        list(parallel(fail, range(100)))


def test_a_source_without_maps_says_so(tmp_path: Path) -> None:
    source = SplitSource(build_store(photos(tmp_path / "d"), "f" * 64, 20, tmp_path / "cache"), "train")
    with pytest.raises(ValueError, match="without saliency"):
        source.saliency(0)
    assert DATASETS["cub"].labelled
