"""Tiny datasets in every official layout, and the places of the real ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


class Layouts:
    """Writes datasets of 2 classes with 2 training images and 1 test image each below one data root."""

    classes = (3, 12)  # official ids are not contiguous

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def caltech(self, folder: str, ids: list[str]) -> Path:
        """The lists that CUB and NABirds share; images 0, 1 train and 2 test of the first class, then the second."""
        root = self.root / folder
        names = {3: "003.Third", 12: "012.Twelfth"}
        paths = [f"{names[c]}/{names[c]}_{n}.jpg" for c in self.classes for n in range(3)]
        labels = [c for c in self.classes for _ in range(3)]
        write_lines(root / "images.txt", [f"{i} {p}" for i, p in zip(ids, paths, strict=True)])
        write_lines(root / "image_class_labels.txt", [f"{i} {c}" for i, c in zip(ids, labels, strict=True)])
        write_lines(root / "train_test_split.txt", [f"{i} {int(n % 3 < 2)}" for n, i in enumerate(ids)])
        write_lines(root / "bounding_boxes.txt", [f"{i} {n}.5 2.0 10.0 20.0" for n, i in enumerate(ids)])
        write_lines(root / "classes.txt", [f"{c} {name}" for c, name in names.items()])
        for n, p in enumerate(paths):
            write_image(root / "images" / p, seed=n)
        return root

    def cub(self) -> Path:
        return self.caltech("CUB_200_2011", ["1", "2", "4", "5", "7", "8"])

    def nabirds(self) -> Path:
        root = self.caltech("nabirds", [f"0000139e-21dc-4d0c-bfe1-4cae3c85c82{n}" for n in range(6)])
        write_lines(root / "classes.txt", ["0 Birds", "3 Third Kind", "5 Inner Node", "12 Twelfth Kind (male)"])
        return root

    def aircraft(self) -> Path:
        root = self.root / "fgvc_aircraft"
        data = root / "data"
        write_lines(data / "variants.txt", ["707-320", "DC 10"])
        write_lines(data / "images_variant_train.txt", ["0000001 DC 10", "0000002 707-320"])
        write_lines(data / "images_variant_val.txt", ["0000003 DC 10", "0000004 707-320"])
        write_lines(data / "images_variant_test.txt", ["0000005 DC 10", "0000006 707-320"])
        write_lines(data / "images_box.txt", [f"000000{n} 1 1 20 10" for n in range(1, 7)])
        for n in range(1, 7):
            write_image(data / "images" / f"000000{n}.jpg", seed=n)
        return root

    def cars(self) -> Path:
        root = self.root / "stanford_cars"
        meta = np.array(["Acura", "Audi TT", "BMW X5"], dtype=object)
        (root / "devkit").mkdir(parents=True)
        savemat(root / "devkit/cars_meta.mat", {"class_names": meta})
        self.cars_annotations(root / "devkit/cars_train_annos.mat", [1, 1, 3, 3])
        self.cars_annotations(root / "cars_test_annos_withlabels.mat", [3, 1])
        for n in range(4):
            write_image(root / "cars_train" / f"0000{n + 1}.jpg", seed=n)
        for n in range(2):
            write_image(root / "cars_test" / f"0000{n + 1}.jpg", seed=10 + n)
        return root

    @staticmethod
    def cars_annotations(file: Path, classes: list[int], label: str = "class") -> None:
        fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", label, "fname"]
        rows = np.empty(len(classes), dtype=[(f, "O") for f in fields])
        for n, c in enumerate(classes):
            rows[n] = (2, 3, 20, 15, c, f"0000{n + 1}.jpg")
        savemat(file, {"annotations": rows})

    def coco(self) -> Path:
        for n in (9, 25, 30):
            write_image(self.root / "coco/train2017" / f"{n:012}.jpg", seed=n)
        write_image(self.root / "coco/val2017/000000000001.jpg")
        return self.root / "coco"

    def imagenet(self) -> Path:
        for wnid in ("n02", "n01"):
            write_image(self.root / "imagenet/train" / wnid / f"{wnid}_1.JPEG")
        return self.root / "imagenet"


@pytest.fixture
def layouts(tmp_path: Path) -> Layouts:
    return Layouts(tmp_path / "data")


@pytest.fixture
def real_data() -> Path:
    """The folder with the real packs; set SUITE_DATA to run the tests that use it."""
    root = os.environ.get("SUITE_DATA")
    if not root:
        pytest.skip("SUITE_DATA is not set: it names the folder with the real datasets")
    return Path(root)
