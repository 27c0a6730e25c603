"""A folder of images as a dataset: what is read, what is left out and said, what is refused; and lists that name files
in another spelling than the disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.data.datasets.folder import parse_folder
from suite.data.datasets.load import load_dataset
from suite.data.record import Dataset
from suite.data.verify import verify
from suite.errors import DataError
from tests.data.conftest import Layouts, write_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with two images in each split."""
    root = tmp_path / "wild"
    for seed, place in enumerate(("train/heron", "train/kite", "test/heron", "test/kite")):
        for n in range(2):
            write_image(root / place / f"{n}.jpg", seed=10 * seed + n)
    return root


def paths(dataset: Dataset) -> list[str]:
    return [record.path for record in (*dataset.train, *dataset.test)]


def said(dataset: Dataset) -> str:
    return "\n".join(f"{finding.level}: {finding.text}" for finding in dataset.findings)


def test_every_format_and_sub_folders_are_read(root: Path) -> None:
    for suffix in (".webp", ".BMP", ".tif", ".gif", ".jp2", ".JPEG", ".Png", ".ppm"):
        write_image(root / "train/kite/deep/er" / f"x{suffix[1:]}{suffix}")
    dataset = parse_folder("wild", root)
    assert len(dataset.train) == 12
    assert {record.label for record in dataset.train if "deep" in record.path} == {1}
    assert dataset.train[0].id == dataset.train[0].path == "train/heron/0.jpg"
    assert not dataset.findings


def test_nothing_is_left_out_without_a_word(root: Path) -> None:
    for name in ("train/.ipynb_checkpoints/a.jpg", "train/heron/._0.jpg", "test/__MACOSX/b.jpg", "test/kite/Thumbs.db"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    for name in ("train/heron/new.heic", "train/heron/readme.txt", "train/kite/nothing", "train/loose.jpg"):
        (root / name).write_bytes(b"x")
    write_image(root / "extra/heron/9.jpg")
    (root / "train/vacant").mkdir()
    dataset = parse_folder("wild", root)
    assert len(paths(dataset)) == 8
    assert dataset.classes == ("heron", "kite")
    for text in (
        "warning: 1 files are pictures or films in formats .*.heic 1.*'train/heron/new.heic'",
        "note: 2 files do not have the suffix of an image .*'train/heron/readme.txt', 'train/kite/nothing'",
        "note: 4 hidden or companion files are left out: ",
        "warning: 1 images are in no class folder and left out: train/loose.jpg",
        "note: 1 folders beside train/ and test/ are not read: extra",
        "note: 1 class folders hold no image and are left out: vacant",
    ):
        assert re.search(text, said(dataset)), text


def test_verify_says_it_again_when_nothing_has_to_be_read(layouts: Layouts, tmp_path: Path) -> None:
    root = layouts.coco()
    verify("coco", layouts.root, tmp_path, lambda *_: None)
    (root / "train2017/late.heic").write_bytes(b"x")
    again = verify("coco", layouts.root, tmp_path, lambda *_: None)
    assert again.cached
    assert [finding.level for finding in again.findings] == ["warning"]


def test_one_picture_in_two_formats_is_pointed_out(root: Path) -> None:
    write_image(root / "train/heron/0.png")
    assert "1 x images of one folder differ in their suffix only: 'train/heron/0.jpg' = '0.png'" in said(
        parse_folder("wild", root)
    )


@pytest.mark.parametrize("names", [("Train", "TEST"), ("training", "testing"), ("train", "val"), ("train", "Valid")])
def test_other_names_of_the_splits(root: Path, names: tuple[str, str]) -> None:
    for old, new in zip(("train", "test"), names, strict=True):
        (root / old).rename(root / f"_{old}")
        (root / f"_{old}").rename(root / new)
    dataset = parse_folder("wild", root)
    assert {path.partition("/")[0] for path in paths(dataset)} == set(names)
    assert ("is used as the test split" in said(dataset)) == names[1].lower().startswith("val")


def test_one_folder_around_it(root: Path) -> None:
    outer = root.parent / "outer"
    outer.mkdir()
    root.rename(outer / "wild")
    assert len(paths(parse_folder("wild", outer))) == 8


def test_the_two_unicode_forms_of_a_class_are_one(root: Path) -> None:
    (root / "train/heron").rename(root / "train/zo\u0308")
    (root / "test/heron").rename(root / "test/z\u00f6")
    dataset = parse_folder("wild", root)
    folders = [{r.label: r.path.split("/")[1] for r in records} for records in (dataset.train, dataset.test)]
    assert folders == [{0: "kite", 1: "zo\u0308"}, {0: "kite", 1: "z\u00f6"}]


def test_links(root: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere/a.jpg")
    (root / "train/kite/linked").symlink_to(tmp_path / "elsewhere")
    assert "train/kite/linked/a.jpg" in paths(parse_folder("wild", root))
    (root / "train/kite/loop").symlink_to(root / "train")
    with pytest.raises(DataError, match="one of its own parent folders"):
        parse_folder("wild", root)
    (root / "train/kite/loop").unlink()
    (root / "train/kite/gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(DataError, match=r"nowhere.jpg, which does not exist"):
        parse_folder("wild", root)


def twin(root: Path) -> None:
    write_image(root / "train/caf\u00e9/0.jpg")
    write_image(root / "train/cafe\u0301/0.jpg")


def unreadable_class(root: Path) -> None:
    for file in (root / "test/kite").iterdir():
        file.rename(file.with_suffix(".heic"))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "two folders of one name": (twin, "two folders for the class"),
    "no image": (unreadable_class, "test/kite holds no image .2 other files are left out: 'test/kite/[01].heic'"),
    "capitals": (lambda r: (r / "test/kite").rename(r / "test/Kite"), "Some differ in capitals only: kite"),
    "two train folders": (lambda r: write_image(r / "Training/kite/1.jpg"), "several folders for one split"),
    "no test": (lambda r: (r / "test").rename(r / "other"), "has no folder test/.* It holds other, train"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(root: Path, case: str) -> None:
    spoil, message = REFUSED[case]
    spoil(root)
    with pytest.raises(DataError, match=message):
        parse_folder("wild", root)


def test_a_name_that_is_not_utf8(root: Path) -> None:
    try:
        (root / "train/kite/0.jpg").rename(root / "train/kite" / b"m\xf6we.jpg".decode("utf-8", "surrogateescape"))
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"m.xf6we.jpg' is not UTF-8.*convmv"):
        parse_folder("wild", root)


@pytest.mark.parametrize("after", ["003.Third_0.JPG", "003.Third_0.png", "003.THIRD_0.jpg"])
def test_a_listed_image_in_another_spelling(layouts: Layouts, after: str) -> None:
    folder = layouts.cub() / "images/003.Third"
    (folder / "003.Third_0.jpg").rename(folder / after)
    dataset = load_dataset("cub", layouts.root)
    assert dataset.train[0].path == f"images/003.Third/{after}"
    assert "1 listed images have another spelling" in said(dataset)


def test_lists_of_windows_and_names_of_a_mac(layouts: Layouts) -> None:
    root = layouts.cub()
    (root / "images/003.Third").rename(root / "images/003.Tho\u0308rd")
    text = (root / "images.txt").read_text().replace("003.Third/", "003.Th\u00f6rd\\")
    (root / "images.txt").write_bytes(("\ufeff" + text.replace("\n", " \t\r\n")).encode("utf-16-le"))
    dataset = load_dataset("cub", layouts.root)
    assert dataset.train[0].path == "images/003.Tho\u0308rd/003.Third_0.jpg"
    assert len(dataset.train) == 4


def test_two_listed_images_are_never_one_file(layouts: Layouts) -> None:
    folder = layouts.cub() / "images/003.Third"
    (folder / "003.Third_1.jpg").unlink()
    (folder / "003.Third_0.jpg").rename(folder / "003.third_0.JPG")
    text = (layouts.root / "CUB_200_2011/images.txt").read_text().replace("003.Third_1.jpg", "003.THIRD_0.jpg")
    (layouts.root / "CUB_200_2011/images.txt").write_text(text)
    with pytest.raises(DataError, match="1 of 6 listed images are missing"):
        load_dataset("cub", layouts.root)


def test_first_stage_sets_read_sub_folders_and_keep_ids_apart(layouts: Layouts) -> None:
    root = layouts.imagenet()
    write_image(root / "train/n01/more/n01_1.webp")
    ids = sorted(record.id for record in load_dataset("imagenet", layouts.root).train)
    assert ids == ["n02_1", "train/n01/more/n01_1.webp", "train/n01/n01_1.JPEG"]
