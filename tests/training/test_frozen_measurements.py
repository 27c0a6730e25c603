"""Localisation and background reliance of frozen rows, against image-by-image computations with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn.functional import interpolate

import suite
from analysis.report import evaluation_tables
from methods.backbone import Backbone
from methods.measures.counterfactuals import COUNTERFACTUAL_KINDS, Counterfactuals
from methods.measures.localisation import OVERLAPS, energy, overlaps, pointing
from suite.data.decoded.images import ImageStore
from suite.data.decoded.saliency import open_maps
from suite.data.decoded.split import SplitSource
from suite.data.decoded.stores import open_images
from suite.errors import UsageError
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.evaluation import evaluation_grid
from suite.grid.profile import load_profile
from suite.grid.spec import Row
from suite.kinds.background import BackgroundSpec
from suite.kinds.base import Size
from suite.kinds.localisation import LocalisationSpec
from suite.kinds.registry import kind_of, parse_spec
from suite.store.store import Store
from suite.workspace import Workspace

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
DETECTORS = {"masks": ("1", None), "boxes": ("1", None)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> Workspace:
    """A random network, evaluated with everything."""
    root = tmp_path_factory.mktemp("frozen")
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    profile["defaults"] |= {
        "image_size": 64,  # at 32 px the last map of the published network is one pixel
        "localisation": {"threshold_images": 100, "thresholds": 8},
        "background": {"fill": "tile"},
    }
    path = root / "measuring.yaml"
    path.write_text(yaml.safe_dump(profile), "utf-8")
    outcome = suite.evaluate(
        ["resnet10"], datasets="cub", measure="localisation,background", profile=str(path), data=drawn,
        runs=root / "runs", workers=1,
    )  # fmt: skip
    assert outcome.exit_code == 0
    return Workspace(drawn, root / "runs")


def numbers(workspace: Workspace, protocol: str) -> dict[str, float]:
    frame = suite.results(workspace.runs)
    part = frame[frame["protocol"] == protocol]
    assert set(part["n"]) <= {12}
    return dict(zip(part["metric"], part["value"], strict=True))


def spec_of(workspace: Workspace, kind: str) -> tuple[LocalisationSpec | BackgroundSpec, ImageStore, Backbone]:
    store = Store(workspace.runs)
    (spec,) = [
        store.spec(path.parent.name)
        for path in workspace.runs.glob("*/job.yaml")
        if f"kind: {kind}" in path.read_text()
    ]
    assert isinstance(spec, LocalisationSpec | BackgroundSpec)
    backbone = suite.load_backbone("resnet10/cub/0", runs=workspace.runs)
    return spec, open_images(workspace.cache, spec.data), backbone


@torch.no_grad()
def test_localisation_of_the_features_alone(measured: Workspace) -> None:
    spec, images, backbone = spec_of(measured, "localisation")
    assert isinstance(spec, LocalisationSpec)
    assert (spec.finetune, spec.saliency) == (None, None)
    side, maps, boxes = spec.image_size, {}, {}
    for split in ("train", "test"):
        parts: list[Tensor] = []
        for index in images.indices(split):
            image = torch.from_numpy(images.image(index)).permute(2, 0, 1)[None]
            squeezed = interpolate(image, (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
            norms = backbone(((squeezed / 255 - MEAN) / STD)[None]).square().sum(dim=1, keepdim=True)
            parts.append(interpolate(norms, (side, side), mode="bilinear", align_corners=False)[:, 0])
        places = list(images.indices(split))
        maps[split] = torch.cat(parts)
        boxes[split] = torch.from_numpy(images.boxes[places] * side / images.shapes[places][:, [1, 0, 1, 0]])
    expected = {
        "act_pointing": float(pointing(maps["test"], boxes["test"]).mean()),
        "act_energy": float(energy(maps["test"], boxes["test"]).mean()),
    }
    tried = [step / 8 for step in range(8)]
    on_training = overlaps(maps["train"], boxes["train"], tried)
    for wanted in OVERLAPS:
        shares = [(on_training[:, column] >= wanted).mean() for column in range(8)]
        best = tried[shares.index(max(shares))]
        expected[f"act_boxacc_{100 * wanted:.0f}"] = (overlaps(maps["test"], boxes["test"], [best]) >= wanted).mean()
    values = numbers(measured, "localisation")
    for metric, value in expected.items():
        assert values[metric] == pytest.approx(100 * value, abs=1e-3), metric
    assert {name.partition("_")[0] for name in values} == {"act", "centre", "whole"}


@torch.no_grad()
def test_background_by_scikit_learns_nearest_neighbours(measured: Workspace) -> None:
    spec, images, backbone = spec_of(measured, "background")
    assert isinstance(spec, BackgroundSpec)
    assert spec.finetune is None
    assert spec.knn is not None

    def feature(picture: Tensor) -> list[float]:
        height, width = picture.shape[1:]
        side = round(min(height, width) / spec.eval_resize)
        top, left = (height - side) // 2, (width - side) // 2
        crop = picture[None, :, top : top + side, left : left + side]
        small = interpolate(crop, (64, 64), mode="bilinear", antialias=True, align_corners=False)
        return backbone.pooled((small / 255 - MEAN) / STD)[0].tolist()

    train = SplitSource(images, "train")
    test = SplitSource(images, "test", open_maps(images, spec.saliency, "test"))
    temperature = spec.knn.temperature
    knn = KNeighborsClassifier(
        spec.knn.k, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / temperature)
    )
    knn.fit([feature(train.image(index)) for index in range(len(train))], train.labels.numpy())
    made = Counterfactuals(test, test.labels, spec.saliency.threshold, "tile", spec.seed)
    values = numbers(measured, "background")
    for kind in COUNTERFACTUAL_KINDS:
        predicted = knn.predict([feature(made.make(index, kind)) for index in range(len(made))])
        assert values[kind] == pytest.approx(100 * (predicted == made.labels.numpy()).mean()), kind
    assert values["original"] == numbers(measured, "knn")["top1"]  # no image is left out here
    assert values["bg_gap"] == values["mixed_same"] - values["mixed_rand"]


def test_tables_say_what_was_measured(measured: Workspace) -> None:
    tables = {table.protocol: table for table in evaluation_tables(measured, "tiny")}
    assert list(tables) == ["probe", "localisation", "background"]
    assert "kNN on the frozen backbone" in " ".join(tables["background"].caption)
    looks = " ".join(tables["localisation"].notes)
    assert "CAM" not in looks
    assert {column.label for column in tables["localisation"].columns} == {"Feat."}
    assert {row.name for row in tables["localisation"].blocks[0].baselines} == {"centre", "whole"}


def test_only_what_is_asked_for_is_measured() -> None:
    def kinds(*measure: str) -> list[str]:
        grid = evaluation_grid(["resnet18"], ["cub"], measure)
        (cell,) = cells(grid, load_profile("evaluate"), Selection())
        planned = jobs_of(cell, {"cub": "f" * 64}, DETECTORS)
        for job in planned.jobs:
            assert parse_spec(job.spec.model_dump(mode="json")) == job.spec
        return [job.spec.kind for job in planned.jobs]

    assert kinds() == ["probe"]
    assert kinds("background") == ["probe", "background"]
    assert kinds("background", "localisation") == ["probe", "localisation", "background"]
    with pytest.raises(UsageError, match="did you mean 'localisation'"):
        evaluation_grid(["resnet18"], ["cub"], ["localization"])
    with pytest.raises(ValueError, match="not frozen"):
        Row(name="a", label="A", method="a", stage2=False, measure=("background",))


def test_no_map_is_read_for_localisation_and_the_test_images_maps_for_background() -> None:
    grid = evaluation_grid(["resnet18"], ["cub"], ("localisation", "background"))
    (cell,) = cells(grid, load_profile("evaluate"), Selection())
    jobs = {job.spec.kind: job for job in jobs_of(cell, {"cub": "f" * 64}, DETECTORS).jobs}
    assert list(kind_of(jobs["localisation"].spec).maps(jobs["localisation"].spec)) == []
    (maps,) = kind_of(jobs["background"].spec).maps(jobs["background"].spec)
    assert (maps.split, maps.saliency.detector) == ("test", "boxes")
    size = Size(train=2000, test=100, classes=10)
    costs = {name: kind_of(job.spec).images(job.spec, size) for name, job in jobs.items()}
    assert costs == {"probe": 2100, "localisation": 1100, "background": 2500}
