"""Localisation and background reliance of whole cells, measured again by slow and separate computations."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from methods.measures.counterfactuals import COUNTERFACTUAL_KINDS, Counterfactuals
from methods.measures.localisation import OVERLAPS, energy, overlaps, pointing
from suite.cli.select import SelectorOptions
from suite.data.decoded.images import ImageStore, open_store, store_folder
from suite.data.decoded.saliency import map_folder, open_maps
from suite.data.decoded.split import SplitSource
from suite.data.record import Split
from suite.data.saliency.box import salient_box
from suite.data.saliency.detectors import DETECTORS, masked
from suite.data.saliency.maps import SaliencyMaps
from suite.errors import DataError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import JobEnd, run_job
from suite.kinds.background import BackgroundSpec
from suite.kinds.localisation import LocalisationSpec
from suite.planning.plan import Plan, data_facts
from suite.store.cells import result_lines
from suite.store.ledger import record_cells
from suite.store.store import Store
from suite.training.localisation import localisation
from suite.training.schedule import derived_seed
from suite.training.session import Interrupted, Session
from suite.weights import load_weights

CPU = Device(accelerator="cpu", threads=1)
SPLITS: tuple[Split, ...] = ("train", "test")
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> tuple[Plan, Store]:
    """Two cells with every job done."""
    runs = tmp_path_factory.mktemp("measured")
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    profile["defaults"] |= {
        "localisation": {"threshold_images": 100, "thresholds": 8},
        "background": {"fill": "tile"},
    }
    path = runs / "measuring.yaml"
    path.write_text(yaml.safe_dump(profile), "utf-8")
    methods = ["random", "byol"]
    plan = SelectorOptions("paper_table1", str(path), drawn, runs / "runs", ["cub"], methods, None, None, None).plan(
        False
    )
    store = Store(runs / "runs")
    record_cells(store, "tiny", {}, plan.cell_jobs, data_facts(plan))
    prepare(plan.jobs, plan.datasets, drawn, runs / "runs" / "cache", lambda *_: None)
    for job in plan.jobs:
        done = run_job(job, JobContext(RunPaths(store.root, store.root / "cache"), CPU))
        assert done == JobEnd("done"), job.name
    return plan, store


def opened(plan: Plan, spec: LocalisationSpec | BackgroundSpec) -> ImageStore:
    folder = store_folder(plan.workspace.cache, spec.data.name, spec.data.fingerprint, spec.data.store_size)
    return open_store(folder)


def test_the_maps_of_each_split_are_those_of_its_images(measured: tuple[Plan, Store]) -> None:
    plan, _ = measured
    spec = plan.cell_jobs[0].protocols[1].spec
    assert isinstance(spec, LocalisationSpec)
    assert spec.saliency is not None
    assert spec.finetune is not None
    images, dataset = opened(plan, spec), plan.datasets["cub"]
    drawn_maps = SaliencyMaps.of(dataset, DETECTORS["masks"], plan.workspace.cache)
    for split in SPLITS:
        source = SplitSource(images, split, open_maps(images, spec.saliency, split))
        assert len(source) == len(dataset.split(split)) > 0
        for index, record in enumerate(dataset.split(split)):
            found = source.saliency(index)[0].numpy()
            height, width = found.shape
            drawn_map = Image.fromarray(drawn_maps.map(record)).resize((width, height), Image.Resampling.BILINEAR)
            assert np.array_equal(found, drawn_map)
            box, _ = salient_box(found, spec.saliency.threshold, spec.saliency.min_side)
            assert source.salient_box(index) == tuple(box)
    assert map_folder(images, spec.saliency) != map_folder(images, spec.saliency, "test")


def slow_maps(model: Classifier, image: Tensor, label: int, side: int) -> tuple[Tensor, Tensor]:
    """Grad-CAM by its equations and the squared norm of the features, for one image [1, 3, S, S]."""
    features = model.backbone(image).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.fc(features.mean(dim=(2, 3)))[0, label], features)
    cam = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True)).detach()
    norm = torch.linalg.vector_norm(features.detach(), dim=1, keepdim=True) ** 2
    large = (interpolate(m, (side, side), mode="bilinear", align_corners=False)[:, 0] for m in (cam, norm))
    return tuple(large)  # type: ignore[return-value]


@pytest.mark.parametrize("place", [0, 1], ids=["random", "byol"])
def test_localisation_is_what_an_image_by_image_computation_gives(measured: tuple[Plan, Store], place: int) -> None:
    plan, store = measured
    item = plan.cell_jobs[place]
    spec, result = item.protocols[1].spec, store.result(item.protocols[1].key)
    assert isinstance(spec, LocalisationSpec)
    assert result is not None
    assert spec.finetune is not None
    assert result.counts == {"n_test": 12, "n_thresholds": 24}  # there are no more training images
    images = opened(plan, spec)
    tuned = Classifier(build_backbone(spec.backbone), 3)
    tuned.load_state_dict(load_weights(store.weights(spec.finetune, "model.safetensors")))
    torch.manual_seed(derived_seed(spec.seed, "init"))  # the network that fine-tuning of Random started from
    frozen = Classifier(build_backbone(spec.backbone), 3)
    if spec.init is not None:
        frozen.backbone.load_state_dict(load_weights(store.weights(spec.init, "backbone.safetensors")))
    tuned.eval()
    frozen.eval()
    side = spec.image_size
    maps: dict[str, Tensor] = {}
    boxes: dict[str, Tensor] = {}
    for split in SPLITS:
        parts = []
        for index in images.indices(split):
            image = torch.from_numpy(images.image(index)).permute(2, 0, 1)[None]
            squeezed = interpolate(image, (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
            inputs, label = ((squeezed / 255 - MEAN) / STD)[None], int(images.labels[index])
            parts.append((slow_maps(tuned, inputs, label, side)[0], slow_maps(frozen, inputs, 0, side)[1]))
        for name, column in zip(("cam", "act"), zip(*parts, strict=True), strict=True):
            maps[f"{name}_{split}"] = torch.cat(column)
        places = list(images.indices(split))
        scale = side / images.shapes[places][:, [1, 0, 1, 0]]
        boxes[split] = torch.from_numpy(images.boxes[places] * scale)
    tried = [step / 8 for step in range(8)]
    for name in ("cam", "act"):
        tested, official = maps[f"{name}_test"], boxes["test"]
        expected = {"pointing": pointing(tested, official).mean(), "energy": energy(tested, official).mean()}
        on_training = overlaps(maps[f"{name}_train"], boxes["train"], tried)
        for wanted in OVERLAPS:
            shares = [(on_training[:, column] >= wanted).mean() for column in range(8)]
            chosen = tried[shares.index(max(shares))]
            expected[f"boxacc_{100 * wanted:.0f}"] = (overlaps(tested, official, [chosen]) >= wanted).mean()
        for metric, value in expected.items():
            assert result.metrics[f"{name}_{metric}"] == pytest.approx(100 * float(value), abs=1e-3), (name, metric)


def test_baselines_and_thresholds_need_no_network(measured: tuple[Plan, Store]) -> None:
    plan, store = measured
    metrics = []
    for item in plan.cell_jobs:
        result = store.result(item.protocols[1].key)
        assert result is not None
        metrics.append(result.metrics)
    baselines = ("centre_", "whole_", "masks_")
    same = [{name: value for name, value in one.items() if name.startswith(baselines)} for one in metrics]
    assert same[0] == same[1]
    assert metrics[0] != metrics[1]
    images = opened(plan, plan.cell_jobs[0].protocols[1].spec)  # type: ignore[arg-type]
    boxes = images.boxes[list(images.indices("test"))].astype(np.float64)
    area = images.shapes[list(images.indices("test"))].prod(axis=1)
    share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / area
    for name in ("whole_pointing", "whole_energy"):
        # pixels count as inside by their centres, so the pointing game is only near to the exact share
        assert same[0][name] == pytest.approx(100 * share.mean(), abs=3 if "pointing" in name else 1e-3)
    for wanted in OVERLAPS:
        assert same[0][f"whole_boxacc_{100 * wanted:.0f}"] == pytest.approx(100 * (share >= wanted).mean())
    assert same[0]["masks_pointing"] == 100
    assert same[0]["masks_pxap"] > 99


def test_thresholds_never_see_a_test_image(
    measured: tuple[Plan, Store], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With other boxes in the test split they stay the same, with other boxes in the training split they change."""
    plan, store = measured
    spec = plan.cell_jobs[0].protocols[1].spec
    assert isinstance(spec, LocalisationSpec)
    assert spec.saliency is not None
    assert spec.finetune is not None
    images = opened(plan, spec)
    few = spec.model_copy(update={"localisation": spec.localisation.model_copy(update={"threshold_images": 10})})
    caplog.set_level("INFO", logger="suite")

    def chosen(split: str, box: list[float]) -> list[str]:
        sources = {s: SplitSource(images, s, open_maps(images, spec.saliency, s)) for s in SPLITS}
        sources[split].official_boxes = torch.tensor(box).expand(len(sources[split]), 4)
        caplog.clear()
        weights = store.weights(spec.finetune, "model.safetensors")
        outcome = localisation(few, sources["train"], sources["test"], None, 3, None, weights, session(tmp_path))
        assert outcome.counts["n_thresholds"] == 10
        return [record.getMessage() for record in caplog.records if "thresholds by overlap" in record.getMessage()]

    assert len(chosen("test", [0, 0, 5, 5])) == 5
    assert chosen("test", [0, 0, 5, 5]) == chosen("test", [20, 20, 40, 40])
    assert chosen("train", [0, 0, 5, 5]) != chosen("train", [10, 5, 30, 35])


def session(folder: Path) -> Session:
    from lightning_fabric import Fabric

    return Session(folder, Fabric(accelerator="cpu", devices=1))


def test_background_is_top1_on_each_kind_of_image(measured: tuple[Plan, Store]) -> None:
    plan, store = measured
    for item in plan.cell_jobs:
        spec, result, tuned = (
            item.protocols[-1].spec,
            store.result(item.protocols[-1].key),
            store.result(item.finetune.key),
        )
        assert isinstance(spec, BackgroundSpec)
        assert spec.finetune is not None
        assert result is not None
        assert tuned is not None
        assert result.metrics["original"] == tuned.metrics["top1"]  # no image is left out here
        assert result.counts == {"n_test": 12, "n_left_out": 0, "n_alone": 0}
        assert result.metrics["bg_gap"] == result.metrics["mixed_same"] - result.metrics["mixed_rand"]
        images = opened(plan, spec)
        test = SplitSource(images, "test", open_maps(images, spec.saliency, "test"))
        made = Counterfactuals(test, test.labels, spec.saliency.threshold, "tile", spec.seed)
        model = Classifier(build_backbone(spec.backbone), 3)
        model.load_state_dict(load_weights(store.weights(spec.finetune, "model.safetensors")))
        model.eval()
        for kind in COUNTERFACTUAL_KINDS:
            right = 0
            for index in range(len(made)):
                picture = made.make(index, kind)
                height, width = picture.shape[1:]
                side = round(min(height, width) / spec.eval_resize)
                top, left = (height - side) // 2, (width - side) // 2
                crop = picture[None, :, top : top + side, left : left + side]
                small = interpolate(crop, (32, 32), mode="bilinear", antialias=True, align_corners=False)
                right += int(model((small / 255 - MEAN) / STD).argmax()) == int(made.labels[index])
            assert result.metrics[kind] == pytest.approx(100 * right / 12), kind


def test_results_go_by_their_own_names(measured: tuple[Plan, Store]) -> None:
    from suite.store.ledger import read_cells

    _, store = measured
    lines = result_lines(store, read_cells(store.root))
    background = {line.metric for line in lines if line.protocol == "background"}
    assert background == {*COUNTERFACTUAL_KINDS, "bg_gap"}
    looks = [line for line in lines if line.protocol == "localisation"]
    assert {"cam_pointing", "act_maxboxacc", "centre_energy", "masks_pxap"} <= {line.metric for line in looks}
    assert {line.n for line in looks} == {12}
    assert all(0 <= line.value <= 100 for line in looks)


def test_nothing_to_measure_and_a_request_to_stop(measured: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, store = measured
    spec = plan.cell_jobs[0].protocols[1].spec
    assert isinstance(spec, LocalisationSpec)
    assert spec.saliency is not None
    assert spec.finetune is not None
    images = opened(plan, spec)
    train, test = (SplitSource(images, s, open_maps(images, spec.saliency, s)) for s in SPLITS)
    weights = store.weights(spec.finetune, "model.safetensors")
    stopping = session(tmp_path)
    stopping.should_stop = lambda: True
    with pytest.raises(Interrupted):
        localisation(spec, train, test, None, 3, None, weights, stopping)
    test.official_boxes = torch.full((12, 4), torch.nan)
    outcome = localisation(spec, train, test, None, 3, None, weights, session(tmp_path))
    assert (outcome.metrics, outcome.counts["n_test"]) == ({}, 0)


def test_maps_that_cannot_be_made_stop_the_run_and_say_what_to_leave_out(
    measured: tuple[Plan, Store], tmp_path: Path
) -> None:
    plan, _ = measured
    item = plan.cell_jobs[0]
    spec = item.protocols[-1].spec
    assert isinstance(spec, BackgroundSpec)
    nowhere = {"cub": replace(plan.datasets["cub"], root=tmp_path)}
    for record in (*nowhere["cub"].train, *nowhere["cub"].test):  # photographs without masks
        place = tmp_path / record.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(plan.datasets["cub"].root / record.path)
    with pytest.raises(DataError, match=r"no segmentation mask.*--set localisation=null --set background=null"):
        prepare([item.protocols[-1]], nowhere, tmp_path, tmp_path / "cache", lambda *_: None)
    assert masked(nowhere.values()) == set()
    assert masked(plan.datasets.values()) == {"cub"}


def test_a_truncated_photograph_is_named_without_advice_that_does_not_help(
    measured: tuple[Plan, Store], tmp_path: Path
) -> None:
    """Leaving the measurements out would not make the photograph readable."""
    plan, _ = measured
    copy = tmp_path / "cub"
    shutil.copytree(plan.datasets["cub"].root, copy)
    damaged = copy / plan.datasets["cub"].test[0].path
    damaged.write_bytes(damaged.read_bytes()[:200])
    job = plan.cell_jobs[0].protocols[1]
    assert isinstance(job.spec, LocalisationSpec)
    with pytest.raises(DataError, match="cannot decode") as caught:
        prepare([job], {"cub": replace(plan.datasets["cub"], root=copy)}, tmp_path, tmp_path / "cache", lambda *_: None)
    assert damaged.name in str(caught.value)
    assert "localisation=null" not in str(caught.value)
