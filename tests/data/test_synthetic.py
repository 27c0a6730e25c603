"""The drawn datasets: official layouts, exact masks, same bytes, and classes that live in the bodies alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from torch import Tensor

from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from suite.data.datasets.load import load_dataset
from suite.data.record import Dataset, Record
from suite.data.synthetic import write
from suite.data.synthetic.parts import classes
from suite.data.synthetic.scene import OBJECT_KINDS, render_object, tight_box
from suite.data.synthetic.spec import SET_NAMES, Counts, SyntheticSpec
from suite.data.synthetic.write import MANIFEST, write_synthetic
from suite.errors import DataError
from suite.grid.profile import load_profile
from suite.grid.recipe import resolve
from suite.grid.spec import load_grid

FEW = Counts(classes=3, train=4, test=2)
SMALL = SyntheticSpec(cub=FEW, nabirds=FEW, aircraft=FEW, cars=FEW, coco=4, imagenet=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "data"
    write_synthetic(path, SMALL, workers=1)
    return path


def mask_of(dataset: Dataset, record: Record) -> NDArray[np.uint8]:
    """The silhouette of one picture [H, W], 0 or 255."""
    folder, _, rest = record.path.rpartition("images/") if "images/" in record.path else ("", "", record.path)
    parts = {
        "cars": ("cars_", "segmentations_"),
        "coco": ("train2017/", "segmentations/"),
        "imagenet": ("train/", "segmentations/"),
    }
    old, new = parts.get(dataset.name, ("", f"{folder}segmentations/"))
    path = rest.replace(old, new, 1) if old else new + rest
    return np.asarray(Image.open((dataset.root / path).with_suffix(".png")))


def digest(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", SET_NAMES)
def test_the_loaders_of_the_real_sets_read_them_and_boxes_fit_the_masks(root: Path, name: str) -> None:
    dataset = load_dataset(name, root)
    assert dataset.synthetic
    assert dataset.subset
    expected = (12, 6, 3) if dataset.info.labelled else (4, 0, 0)
    assert (len(dataset.train), len(dataset.test), len(dataset.classes)) == expected
    for record in (*dataset.train, *dataset.test):
        mask = mask_of(dataset, record)
        assert set(np.unique(mask)) == {0, 255}
        assert mask.shape[::-1] == Image.open(dataset.root / record.path).size
        if record.box is not None:
            assert tuple(record.box) == tight_box(mask)
            assert not mask[len(mask) - dataset.banner :].any()
            assert 0.1 < (mask > 0).mean() < 0.6
    labels = [record.label for record in dataset.train]
    if dataset.info.labelled:
        assert all(labels.count(label) == 4 for label in range(3))


def test_torchvision_reads_the_cars(root: Path) -> None:
    from torchvision.datasets import StanfordCars

    cars = StanfordCars(str(root), split="test")
    assert len(cars) == 6
    assert {cars[k][1] for k in range(6)} == {0, 1, 2}


def test_nabirds_has_gaps_and_a_hierarchy(root: Path) -> None:
    folder = root / "nabirds"
    used = sorted({int(line.split()[1]) for line in (folder / "image_class_labels.txt").read_text().splitlines()})
    assert used != list(range(used[0], used[0] + len(used)))
    parents = dict(line.split() for line in (folder / "hierarchy.txt").read_text().splitlines())
    assert all(parents[parents[str(leaf)]] == "0" for leaf in used)


def test_the_same_spec_gives_the_same_bytes_whatever_the_number_of_workers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_FEW", 1)
    write_synthetic(tmp_path / "again", SMALL, workers=2)
    assert digest(tmp_path / "again") == digest(root)


def test_another_seed_gives_other_pictures_of_the_same_classes(root: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "other", SMALL.model_copy(update={"seed": 1, "sets": ("cub",)}), workers=1)
    old, new = digest(root / "CUB_200_2011"), digest(tmp_path / "other" / "CUB_200_2011")
    assert old["classes.txt"] == new["classes.txt"]
    assert not {old[path] for path in old if path.endswith(".jpg")} & set(new.values())


def test_a_finished_folder_is_kept_and_a_foreign_one_refused(root: Path, tmp_path: Path) -> None:
    before = (root / MANIFEST).stat().st_mtime_ns
    write_synthetic(root, SMALL, workers=1)
    assert (root / MANIFEST).stat().st_mtime_ns == before
    assert "drawn by a program" in json.loads((root / MANIFEST).read_text())["statement"]
    with pytest.raises(DataError, match="another spec"):
        write_synthetic(root, SMALL.model_copy(update={"seed": 5}), workers=1)
    (tmp_path / "photograph.jpg").touch()
    with pytest.raises(DataError, match="not synthetic"):
        write_synthetic(tmp_path, SMALL, workers=1)


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "annotate", stop)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "data", SMALL, workers=1)
    assert not list(tmp_path.iterdir())


def test_drawing_does_not_load_torch() -> None:
    code = "import sys, suite.data.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_nothing_outside_the_body_depends_on_the_class(kind: str) -> None:
    for index in range(5):
        first, *others = [render_object(kind, look, 72, (0, 0, index)) for look in classes(OBJECT_KINDS[kind].parts, 6)]
        for other in others:
            # The mask ends where less than half of a pixel is covered; a thin tip fades out beyond that.
            outside = ~binary_dilation((first.mask | other.mask) > 0, iterations=3)
            assert np.array_equal(first.image[outside], other.image[outside])
            assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_classes_differ_in_at_least_two_parts(kind: str) -> None:
    looks = [tuple(look.values()) for look in classes(OBJECT_KINDS[kind].parts, 40)]
    gaps = [sum(a != b for a, b in zip(x, y, strict=True)) for k, x in enumerate(looks) for y in looks[:k]]
    assert min(gaps) == 2


DEMO = resolve(load_profile("demo"), load_grid("paper_table1").row("random"), {}).recipe  # its network and input size


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """The demo's CUB, with torch on one thread."""
    path = tmp_path_factory.mktemp("birds") / "data"
    write_synthetic(path, SyntheticSpec(sets=("cub",)), workers=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_dataset("cub", path)
    torch.set_num_threads(threads)


def near_chance(dataset: Dataset) -> float:
    """Chance plus six hundredths of sampling error (210 answers) and four for what a box's shape gives away."""
    return 1 / len(dataset.classes) + 0.1


def test_a_small_network_learns_the_parts(birds: Dataset) -> None:
    network = _train(*_load(birds, "train", "whole"), len(birds.classes))
    accuracy = {hide: _accuracy(network, *_load(birds, "test", hide)) for hide in ("whole", "body", "noise", "box")}
    assert accuracy.pop("whole") > 0.6
    assert max(accuracy.values()) < near_chance(birds), accuracy


@pytest.mark.slow  # three quarters of a minute on an idle core
def test_backgrounds_alone_teach_nothing(birds: Dataset) -> None:
    network = _train(*_load(birds, "train", "box"), len(birds.classes))
    assert _accuracy(network, *_load(birds, "test", "box")) < near_chance(birds)


def _load(dataset: Dataset, split: str, hide: str) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 72, 72] and labels [N].

    `hide`: whole (nothing), body or box (by grey), noise (the body, by pixels of the background).
    """
    rng = np.random.default_rng(0)
    images, labels = [], []
    for record in dataset.train if split == "train" else dataset.test:
        pixels = np.array(Image.open(dataset.root / record.path))
        body = binary_dilation(mask_of(dataset, record) > 0, iterations=2)
        if hide == "box":
            x0, y0, x1, y1 = tight_box(body.astype(np.uint8))
            body[y0:y1, x0:x1] = True
        if hide == "noise":
            pixels[body] = pixels[~body][rng.integers((~body).sum(), size=body.sum())]
        elif hide != "whole":
            pixels[body] = 128
        images.append(np.asarray(Image.fromarray(pixels).resize((72, 72), Image.Resampling.BILINEAR)))
        labels.append(record.label)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.tensor(labels)


def _train(images: Tensor, labels: Tensor, n_classes: int, epochs: int = 20, batch: int = 32) -> Classifier:
    torch.manual_seed(0)
    network = Classifier(build_backbone(DEMO.backbone), n_classes)
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.Adam(network.parameters(), lr=4e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
            loss = F.cross_entropy(network(_crop(images[rows])), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def _crop(images: Tensor) -> Tensor:
    """Random resized crop to the demo's input size, half to all of the area, and flip."""
    n = len(images)
    area, ratio = torch.empty(n).uniform_(0.5, 1), torch.empty(n).uniform_(0.8, 1.25)
    w, h = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = w * (1 - 2 * torch.randint(2, (n,))), h
    theta[:, 0, 2], theta[:, 1, 2] = (torch.rand(n) * 2 - 1) * (1 - w), (torch.rand(n) * 2 - 1) * (1 - h)
    return F.grid_sample(
        images, F.affine_grid(theta, [n, 3, DEMO.image_size, DEMO.image_size], align_corners=False), align_corners=False
    )


@torch.no_grad()
def _accuracy(network: Classifier, images: Tensor, labels: Tensor) -> float:
    small = F.interpolate(images, DEMO.image_size, mode="bilinear", antialias=True)
    return float((network(small).argmax(dim=1) == labels).float().mean())
