"""Loading datasets: the official layouts, every kind of bad input, and the official lists where they are at hand."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.data.datasets import aircraft, cub, nabirds
from suite.data.datasets.annotations import ListedImage, assemble
from suite.data.datasets.fingerprint import fingerprint
from suite.data.datasets.load import load_dataset
from suite.data.record import Box, Dataset
from suite.errors import DataError, UsageError

NAMES = ["cub", "nabirds", "aircraft", "cars", "coco", "imagenet"]


@pytest.mark.parametrize("name", ["cub", "nabirds", "aircraft", "cars"])
def test_labelled_layouts(layouts, name):
    getattr(layouts, name)()
    dataset = load_dataset(name, layouts.root)
    assert (len(dataset.train), len(dataset.test), len(dataset.classes)) == (4, 2, 2)
    assert {r.label for r in dataset.train} == {r.label for r in dataset.test} == {0, 1}
    assert all((dataset.root / r.path).is_file() and r.box for r in (*dataset.train, *dataset.test))
    assert dataset.subset
    assert not dataset.synthetic


def test_details_of_each_layout(layouts):
    for name in NAMES:
        getattr(layouts, name)()
    found = {name: load_dataset(name, layouts.root) for name in NAMES}
    first = found["cub"].train[0]
    assert (first.id, first.path) == ("1", "images/003.Third/003.Third_0.jpg")
    assert first.box == Box(0.5, 2, 10.5, 22)
    assert found["cub"].classes == ("003.Third", "012.Twelfth")
    assert found["nabirds"].classes == ("Third Kind", "Twelfth Kind (male)")
    assert found["aircraft"].classes == ("707-320", "DC 10")
    assert [(r.id, r.label) for r in found["aircraft"].train][:2] == [("0000001", 1), ("0000002", 0)]
    assert found["aircraft"].train[0].box == Box(0, 0, 20, 10)
    assert found["aircraft"].banner == 20
    assert found["cars"].classes == ("Acura", "BMW X5")
    assert found["cars"].test[0].id == "cars_test/00001"
    assert found["cars"].test[0].box == Box(1, 2, 20, 15)
    assert [r.id for r in found["coco"].train] == ["000000000009", "000000000025", "000000000030"]
    assert [r.path for r in found["imagenet"].train] == ["train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG"]
    assert found["imagenet"].train[0].label is None
    assert found["coco"].test == ()


def test_aircraft_without_boxes_and_with_trainval(layouts):
    data = layouts.aircraft() / "data"
    (data / "images_box.txt").unlink()
    lists = [data / f"images_variant_{part}.txt" for part in ("train", "val")]
    before = load_dataset("aircraft", layouts.root)
    (data / "images_variant_trainval.txt").write_text("".join(f.read_text() for f in lists))
    for f in lists:
        f.unlink()
    assert load_dataset("aircraft", layouts.root) == before
    assert before.train[0].box is None


def test_nested_folders(layouts):
    layouts.cub().rename(layouts.root / "inner")
    (layouts.root / "CUB_200_2011").mkdir()
    (layouts.root / "inner").rename(layouts.root / "CUB_200_2011/CUB_200_2011")
    cars = layouts.cars()
    for part in ("cars_train", "cars_test"):
        (cars / part).rename(cars / "inner")
        (cars / part).mkdir()
        (cars / "inner").rename(cars / part / part)
    coco = layouts.coco()
    (coco / "train2017").rename(coco / "inner")
    (coco / "train2017").mkdir()
    (coco / "inner").rename(coco / "train2017/train2017")
    assert load_dataset("cub", layouts.root).root == layouts.root / "CUB_200_2011/CUB_200_2011"
    assert load_dataset("cars", layouts.root).train[0].path == "cars_train/cars_train/00001.jpg"
    assert len(load_dataset("coco", layouts.root).train) == 3


def test_a_linked_dataset_folder_and_inner_links_are_fine(layouts, tmp_path):
    root = layouts.cub()
    root.rename(tmp_path / "elsewhere")
    root.symlink_to(tmp_path / "elsewhere")
    (root / "images/003.Third").rename(root / "images/real")
    (root / "images/003.Third").symlink_to("real")
    assert len(load_dataset("cub", layouts.root).train) == 4


def test_synthetic_is_marked(layouts):
    layouts.coco()
    (layouts.root / "SYNTHETIC.json").write_text("{}")
    assert load_dataset("coco", layouts.root).synthetic


def test_not_found_says_where_and_how(layouts):
    with pytest.raises(
        DataError, match=r"fgvc_aircraft.*fgvc-aircraft-2013b.*SUITE_DATA.*robots.ox.ac.uk.*non-commercial"
    ):
        load_dataset("aircraft", layouts.root)
    with pytest.raises(DataError, match="looks like the dataset itself"):
        load_dataset("cub", layouts.cub())
    with pytest.raises(DataError, match=r"The folder .*nowhere does not exist"):
        load_dataset("cub", layouts.root / "nowhere")
    with pytest.raises(UsageError, match="did you mean 'cub'"):
        load_dataset("cubs", layouts.root)


def change(file: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return apply


def link_outside(what: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        (root / what).rename(root.parent / "moved")
        (root / what).symlink_to(root.parent / "moved")

    return apply


BAD_CUB: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing list": (lambda r: (r / "train_test_split.txt").unlink(), r"missing list .*train_test_split.txt.*caltech"),
    "missing image": (
        lambda r: (r / "images/003.Third/003.Third_1.jpg").unlink(),
        r"1 of 6 .*003.Third_1.jpg.*caltech",
    ),
    "a folder named like an image": (
        lambda r: [(r / "images/003.Third/003.Third_1.jpg").unlink(), (r / "images/003.Third/003.Third_1.jpg").mkdir()],
        r"1 of 6 .*missing",
    ),
    "list is binary": (lambda r: (r / "images.txt").write_bytes(b"\x1f\x8b\xff"), r"images.txt is not text"),
    "list is empty": (lambda r: (r / "images.txt").write_text("\n"), r"images.txt has no entries"),
    "malformed line": (change("images.txt", "2 003.Third/003.Third_1.jpg", "2"), r"images.txt:2: expected '<id> <path"),
    "malformed box": (change("bounding_boxes.txt", "1 0.5 2.0", "1 2.0"), r"bounding_boxes.txt:1: .*<x> <y>"),
    "nan box": (change("bounding_boxes.txt", "1 0.5", "1 nan"), r"bounding_boxes.txt:1: .*finite"),
    "empty box": (change("bounding_boxes.txt", "10.0 20.0", "0 20.0"), r"bounding_boxes.txt:1: .*positive"),
    "malformed split": (change("train_test_split.txt", "4 0", "4 2"), r"train_test_split.txt:3: .*1 for train or 0"),
    "malformed label": (change("image_class_labels.txt", "1 3", "1 three"), r"image_class_labels.txt:1: .*<class id>"),
    "malformed class": (change("classes.txt", "3 003", "three 003"), r"classes.txt: line 1 has class id 'three'"),
    "label outside the list": (
        change("image_class_labels.txt", "2 3", "2 99"),
        r"labels.txt line 2: class '99' is not one",
    ),
    "path with ..": (change("images.txt", "1 003.Third/", "1 ../003.Third/"), r"images.txt:1: .*inside the dataset"),
    "absolute path": (change("images.txt", "1 003.Third/", "1 /etc/"), r"images.txt:1: .*inside the dataset"),
    "duplicate id": (change("images.txt", "2 003", "1 003"), r"images.txt:2: id '1' is already on line 1"),
    "id in both splits": (
        change("train_test_split.txt", "4 0", "2 0"),
        r"split.txt:3: id '2' .*'train', here with 'test'",
    ),
    "path in both splits": (
        change("images.txt", "4 003.Third/003.Third_2", "4 003.Third/003.Third_1"),
        r"003.Third_1.jpg' is in both splits.*id 2 and .*id 4",
    ),
    "path twice": (
        change("images.txt", "003.Third/003.Third_1", "003.Third/003.Third_0"),
        r"Third_0.jpg' is listed twice",
    ),
    "listed class without image": (
        change("classes.txt", "12 012", "11 Empty\n12 012"),
        r"1 of 3 classes have no image.*Empty",
    ),
    "class without training image": (
        lambda r: [change("train_test_split.txt", f"{i} 1", f"{i} 0")(r) for i in "12"],
        r"test images but no train image, such as '003.Third'",
    ),
    "class without test image": (change("train_test_split.txt", "8 0", "8 1"), r"no test image, such as '012.Twelfth'"),
    "empty split": (
        lambda r: [change("train_test_split.txt", f"{i} 0", f"{i} 1")(r) for i in "48"],
        r"test split is empty",
    ),
    "image with neither split": (
        change("train_test_split.txt", "4 0\n", ""),
        r"split.txt: no entry for 1 of the 6 .*'4'",
    ),
    "unknown split id": (
        change("train_test_split.txt", "4 0\n", "4 0\n99 1\n"),
        r"line 4 has the unknown image id '99'",
    ),
    "link out, one image": (
        link_outside("images/003.Third/003.Third_0.jpg"),
        r"003.Third_0.jpg is a link to .*outside",
    ),
    "link out, a folder": (link_outside("images/003.Third"), r"003.Third is a link to .*moved, outside"),
    "link out, all images": (link_outside("images"), r"is a link to .*moved.*outside"),
}


@pytest.mark.parametrize("case", BAD_CUB)
def test_bad_input(layouts, case):
    spoil, message = BAD_CUB[case]
    spoil(layouts.cub())
    with pytest.raises(DataError, match=message):
        load_dataset("cub", layouts.root)


BAD_AIRCRAFT = {
    "unknown variant": (
        change("data/images_variant_test.txt", "DC 10", "DC 11"),
        r"test.txt, id 0000005: class 'DC 11'",
    ),
    "both splits": (change("data/images_variant_test.txt", "0000005", "0000001"), r"'0000001' is in both splits"),
    "train and val": (change("data/images_variant_val.txt", "0000003", "0000001"), r"'0000001' is listed twice"),
    "variant without image": (change("data/variants.txt", "DC 10", "DC 10\nDC 9"), r"1 of 3 classes .*'DC 9'"),
    "variant twice": (change("data/variants.txt", "DC 10", "DC 10\nDC 10"), r"variant 'DC 10' is listed twice"),
    "id with a folder": (change("data/images_variant_val.txt", "0000003", "../3"), r"val.txt .*image id '../3'"),
    "unknown box id": (change("data/images_box.txt", "0000001", "0000009"), r"no entry for 1 .*'0000001'"),
    "no val list": (lambda r: (r / "data/images_variant_val.txt").unlink(), r"missing list .*images_variant_val.txt"),
}


@pytest.mark.parametrize("case", BAD_AIRCRAFT)
def test_bad_aircraft(layouts, case):
    spoil, message = BAD_AIRCRAFT[case]
    root = layouts.aircraft()
    if "id" in case and "box" not in case:
        (root / "data/images_box.txt").unlink()
    spoil(root)
    with pytest.raises(DataError, match=message):
        load_dataset("aircraft", layouts.root)


def test_bad_cars(layouts):
    root = layouts.cars()
    test = root / "cars_test_annos_withlabels.mat"
    layouts.cars_annotations(test, [1, 99])
    with pytest.raises(DataError, match=r"withlabels.mat entry 2: class '99' is not one of the 3"):
        load_dataset("cars", layouts.root)
    layouts.cars_annotations(test, [1, 3], label="other")
    with pytest.raises(DataError, match=r"no field class.*devkit's cars_test_annos.mat has no labels"):
        load_dataset("cars", layouts.root)
    test.write_text("<!DOCTYPE html>")
    with pytest.raises(DataError, match="expected a MATLAB file with 'annotations'"):
        load_dataset("cars", layouts.root)
    test.unlink()
    with pytest.raises(DataError, match=r"missing list .*cars_test_annos_withlabels.mat"):
        load_dataset("cars", layouts.root)


@pytest.mark.parametrize("name", ["coco", "imagenet"])
def test_empty_unlabelled_folder(layouts, name):
    root = getattr(layouts, name)()
    for image in [*root.rglob("*.jpg"), *root.rglob("*.JPEG")]:
        image.unlink()
    with pytest.raises(DataError, match=r"has no .jpg"):
        load_dataset(name, layouts.root)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=30, unique=True))
def test_labels_are_ranks_of_the_official_ids(ids):
    entries = [
        ListedImage(f"{split}{c}", f"{split}/{c}.jpg", c, None, split, "") for c in ids for split in ("train", "test")
    ]
    dataset = assemble("cub", Path("x"), entries, {c: f"name {c}" for c in range(2001)})
    assert [(r.label, dataset.classes[r.label]) for r in dataset.train] == [
        (sorted(ids).index(c), f"name {c}") for c in ids
    ]
    assert sorted({r.label for r in dataset.train}) == list(range(len(ids)))


def test_fingerprint_follows_content_not_place(layouts, tmp_path):
    root = layouts.cub()
    cache = tmp_path / "cache"
    before = fingerprint(load_dataset("cub", layouts.root), cache)
    moved = layouts.root.rename(tmp_path / "other")
    root = moved / root.name
    dataset = load_dataset("cub", moved)
    assert fingerprint(dataset, cache) == fingerprint(dataset, tmp_path / "new") == before
    (cache / "fingerprints/cub.json").write_text("{damaged")
    assert fingerprint(dataset, cache) == before
    image = root / dataset.test[0].path
    data = image.read_bytes()
    image.write_bytes(data[::-1])  # the same size: only the time tells
    os.utime(image, ns=(1, 1))
    assert fingerprint(dataset, cache) != before
    image.write_bytes(data)
    assert fingerprint(dataset, cache) == before
    change("bounding_boxes.txt", "10.0", "11.0")(root)
    assert fingerprint(load_dataset("cub", moved), cache) != before
    assert not list(cache.rglob("*.tmp"))


def test_loading_needs_no_torch(layouts):
    layouts.cars()
    code = "import sys; from pathlib import Path; from suite.data.datasets.load import load_dataset as f"
    code += f"; f('cars', Path({str(layouts.root)!r})); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def counts(dataset: Dataset) -> tuple[int, int, int]:
    return len(dataset.train), len(dataset.test), len(dataset.classes)


REAL = {
    "cub": ((600, 528, 20), "CUB_200_2011"),
    "cars": ((480, 331, 20), "stanford_cars"),
    "coco": ((128, 0, 0), "coco"),
    "imagenet": ((250, 0, 0), "imagenet_sample"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_packs(real_data, name):
    expected, folder = REAL[name]
    if not (real_data / folder).is_dir():
        pytest.skip(f"no {folder} in SUITE_DATA")
    dataset = load_dataset(name, real_data)
    if not dataset.subset:
        pytest.skip(f"the complete {name} is here, not the pack")
    assert counts(dataset) == expected


def test_official_cub_lists(real_data):
    lists = real_data / "CUB_200_2011/annotations_full"
    if not lists.is_dir():
        pytest.skip("no CUB_200_2011/annotations_full in SUITE_DATA")
    assert counts(cub.parse(lists)) == (5994, 5794, 200)


def test_official_aircraft_lists(real_data):
    if not (real_data / "fgvc_aircraft").is_dir():
        pytest.skip("no fgvc_aircraft in SUITE_DATA")
    assert counts(aircraft.parse(real_data / "fgvc_aircraft")) == (6667, 3333, 100)


def test_official_nabirds_lists(real_data, tmp_path):
    archive = real_data / "nabirds/nabirds_annotations.tar.xz"
    if not archive.is_file():
        pytest.skip("no nabirds/nabirds_annotations.tar.xz in SUITE_DATA")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path)
    start = time.perf_counter()
    dataset = nabirds.parse(tmp_path)
    assert counts(dataset) == (23929, 24633, 555)
    assert time.perf_counter() - start < 10  # about 0.4 s; the bound only catches a quadratic check
