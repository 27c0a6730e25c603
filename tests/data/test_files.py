"""Images decoded on demand: the same bits as those decoded ahead, files checked before and while they are read."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from suite.data.datasets.fingerprint import fingerprint
from suite.data.datasets.load import load_dataset
from suite.data.decoded.check import check_image, image_size
from suite.data.decoded.files import build_index, has_index, index_folder, open_index
from suite.data.decoded.images import DecodedStore, build_store, store_folder
from suite.data.decoded.saliency import build_maps, map_folder, open_maps
from suite.data.decoded.split import SplitSource
from suite.data.decoded.stores import has_images, image_facts, open_images, prepare_images
from suite.data.record import Box, Dataset, Record, Split
from suite.data.saliency.detectors import DETECTORS, make_detector
from suite.data.saliency.maps import compute_saliency
from suite.data.spec import DataSpec, SaliencySpec
from suite.data.verify import verify
from suite.errors import DataError, ImageError, StoreError

PRINT = "b" * 64
SIZE = 24


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (61, 43), turned: int = 1) -> None:
    """A noisy image file; `turned` is its EXIF orientation."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, shape, np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode=mode if channels > 1 else None).save(path, exif=exif)


def mixed(root: Path, banner: int = 0) -> Dataset:
    """Images of several formats, modes and orientations, large and small, two of them for testing."""
    picture(root / "plain.jpg")
    picture(root / "upright.jpg", size=(40, 70))
    picture(root / "grey.jpg", "L")
    picture(root / "cmyk.jpg", "CMYK")
    picture(root / "turned.jpg", turned=6)
    picture(root / "small.jpg", size=(19, 17))
    picture(root / "other.png", "RGBA")
    picture(root / "täuschend.jpg.png", size=(90, 30), turned=8)
    names = sorted(path.name for path in root.iterdir())
    boxes = [Box(3, 2, 17, 15), *[None] * (len(names) - 1)]
    records = [Record(name, name, index % 2, box) for index, (name, box) in enumerate(zip(names, boxes, strict=True))]
    return Dataset("cub", root, tuple(records[:-2]), tuple(records[-2:]), ("a", "b"), banner=banner)


def both(dataset: Dataset, cache: Path, verified: bool = False) -> tuple[SplitSource, ...]:
    """Training and test images decoded ahead, then on demand."""
    ahead = build_store(dataset, PRINT, SIZE, cache)
    demand = build_index(dataset, PRINT, SIZE, cache, verified=verified)
    splits: tuple[Split, ...] = ("train", "test")
    return tuple(SplitSource(store, split) for store in (ahead, demand) for split in splits)


@pytest.mark.parametrize("banner", [0, 5])
@pytest.mark.parametrize("verified", [False, True])
def test_the_same_bits_labels_and_boxes(banner: int, verified: bool, tmp_path: Path) -> None:
    train, test, demand_train, demand_test = both(mixed(tmp_path / "d", banner), tmp_path / "cache", verified)
    for ahead, demand in ((train, demand_train), (test, demand_test)):
        assert len(ahead) == len(demand) > 1
        for index in range(len(ahead)):
            assert torch.equal(ahead.image(index), demand.image(index))
            assert ahead.image(index).stride() == demand.image(index).stride()
        assert torch.equal(ahead.labels, demand.labels)
        assert torch.equal(ahead.official_boxes.nan_to_num(-1), demand.official_boxes.nan_to_num(-1))


def test_an_index_holds_no_pixels(tmp_path: Path) -> None:
    dataset = mixed(tmp_path / "d")
    store = build_index(dataset, PRINT, SIZE, tmp_path / "cache", verified=False)
    ahead = build_store(dataset, PRINT, SIZE, tmp_path / "cache")
    assert list(store.paths) == list(ahead.paths)
    assert (store.paths[-1], store.paths[1:3]) == (ahead.paths[-1], list(ahead.paths[1:3]))
    assert np.array_equal(store.shapes, ahead.shapes)
    assert store.facts == ahead.facts
    values = [np.load(file) for file in store.folder.glob("*.npy")]
    assert sum(array.nbytes for array in values) <= 80 * len(store.paths)


def test_several_threads_read_the_same(tmp_path: Path) -> None:
    train, _, demand, _ = both(mixed(tmp_path / "d"), tmp_path / "cache")
    places = [index % len(train) for index in range(60)]
    with ThreadPoolExecutor(4) as pool:
        assert all(
            torch.equal(train.image(i), got) for i, got in zip(places, pool.map(demand.image, places), strict=True)
        )


def test_a_file_that_changes_or_goes_is_named(tmp_path: Path) -> None:
    dataset = mixed(tmp_path / "d")
    store = build_index(dataset, PRINT, SIZE, tmp_path / "cache", verified=False)
    place = list(store.paths).index("plain.jpg")
    picture(tmp_path / "d/plain.jpg", size=(33, 33))
    with pytest.raises(ImageError, match=r"plain\.jpg has .* bytes, but had .*suite data verify cub"):
        store.image(place)
    (tmp_path / "d/plain.jpg").unlink()
    with pytest.raises(ImageError, match=r"cannot read .*plain\.jpg: No such file"):
        store.image(place)


@pytest.mark.parametrize("name", ["plain.jpg", "other.png"])
def test_a_cut_off_file_is_found_before_training(name: str, tmp_path: Path) -> None:
    dataset = mixed(tmp_path / "d")
    file = tmp_path / "d" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=name):
        build_index(dataset, PRINT, SIZE, tmp_path / "cache", verified=False)
    assert not [p for p in (tmp_path / "cache/images").iterdir() if p.suffix != ".lock"]


def test_the_check_agrees_with_the_decoder(tmp_path: Path) -> None:
    """Whatever bytes are damaged: the quick check finds an error exactly where decoding finds one."""
    from suite.data.datasets.files import decode_image

    file = tmp_path / "photo.jpg"
    picture(file, size=(80, 64))
    whole = file.read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for turn in range(200):
        data = bytearray(whole)
        data[rng.integers(2, 700 if turn % 2 else len(whole))] = rng.integers(256)
        file.write_bytes(data)
        try:
            shape: tuple[int, int] | None = (image := decode_image(file)).height, image.width
        except ImageError:
            shape = None
        if shape is None:
            refused += 1
            with pytest.raises(ImageError):
                check_image(file)
        else:
            assert check_image(file) == (shape, len(data))
            assert image_size(file) == (shape, len(data))
    assert 20 < refused < 180


def test_a_verified_dataset_is_not_decoded_for_its_index(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUITE_DECODE", "demand")
    shutil.copytree(drawn, tmp_path / "data")
    dataset = load_dataset("cub", tmp_path / "data")
    data = DataSpec(name="cub", fingerprint=fingerprint(dataset, tmp_path), store_size=32)
    told: list[str] = []
    prepare_images(dataset, data, tmp_path, lambda what, *_: told.append(what))
    assert set(told) == {"check cub"}
    shutil.rmtree(index_folder(tmp_path, "cub", data.fingerprint, 32))
    verify("cub", tmp_path / "data", tmp_path, lambda *_: None)
    told.clear()
    store = prepare_images(dataset, data, tmp_path, lambda what, *_: told.append(what))
    assert set(told) == {"index cub"}
    monkeypatch.setenv("SUITE_DECODE", "ahead")
    ahead = prepare_images(dataset, data, tmp_path)
    assert isinstance(ahead, DecodedStore)
    assert all(np.array_equal(ahead.image(i), store.image(i)) for i in range(len(ahead.paths)))


def test_a_dataset_that_has_moved_is_found_again(tmp_path: Path) -> None:
    dataset = mixed(tmp_path / "old")
    build_index(dataset, PRINT, SIZE, tmp_path / "cache", verified=False)
    folder = index_folder(tmp_path / "cache", "cub", PRINT, SIZE)
    (tmp_path / "old").rename(tmp_path / "new")
    assert not has_index(folder)
    store = build_index(replace(dataset, root=tmp_path / "new"), PRINT, SIZE, tmp_path / "cache", verified=False)
    assert has_index(folder)
    assert store.image(0).shape[2] == 3


def test_an_index_that_is_not_there_says_how_to_rebuild_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Re-run the same `suite run`"):
        open_index(tmp_path / "nothing")
    data = DataSpec(name="cub", fingerprint=PRINT, store_size=SIZE)
    with pytest.raises(StoreError, match=r"Re-run the same `suite run`"):
        open_images(tmp_path, data)
    assert image_facts(tmp_path, data) is None
    assert not has_images(tmp_path, data)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["cub", "cars"])
def test_maps_read_on_demand_are_the_same_bits(name: str, split: Split, drawn: Path, tmp_path: Path) -> None:
    dataset = load_dataset(name, drawn)
    spec = SaliencySpec(
        detector="masks", threshold=0.3, min_side=0.05, version=DETECTORS["masks"].version, weights_sha256=None
    )
    content = fingerprint(dataset, tmp_path)
    maps = compute_saliency(dataset, dataset.split(split), make_detector("masks", drawn, tmp_path), tmp_path)
    stores = build_store(dataset, content, 32, tmp_path), build_index(dataset, content, 32, tmp_path, verified=False)
    built = [build_maps(store, dataset, spec, maps, split=split) for store in stores]
    ahead, demand = (SplitSource(s, split, m) for s, m in zip(stores, built, strict=True))
    assert built[0].fallbacks == built[1].fallbacks
    for index in range(len(ahead)):
        assert torch.equal(ahead.saliency(index), demand.saliency(index))
        assert demand.saliency(index).shape[1:] == demand.image(index).shape[1:]
        assert ahead.salient_box(index) == demand.salient_box(index)
    folder = map_folder(stores[1], spec, split)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100 * len(ahead) + 1000
    first = dataset.split(split)[0]
    maps.file(first).unlink()
    with pytest.raises(DataError, match=f"(?s){Path(first.path).stem}.*suite data saliency {name}"):
        open_maps(stores[1], spec, split).map(0)


def test_no_more_than_a_tenth_beside_the_files_of_a_first_stage(tmp_path: Path) -> None:
    """By default, at the paper's size, with photographs of COCO's usual size."""
    root = tmp_path / "data/coco/train2017"
    root.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(root / "a.jpg", quality=95)
    for number in range(200):
        os.link(root / "a.jpg", root / f"{number:012}.jpg")
    dataset = load_dataset("coco", tmp_path / "data")
    data = DataSpec(name="coco", fingerprint=fingerprint(dataset, tmp_path / "fp"), store_size=512)
    store = prepare_images(dataset, data, tmp_path / "cache")
    files = sum((root / Path(record.path).name).stat().st_size for record in dataset.train)
    derived = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file())
    assert not store_folder(tmp_path / "cache", "coco", data.fingerprint, 512).exists()
    assert derived <= 0.1 * files
    assert store.image(7).shape == (480, 640, 3)
