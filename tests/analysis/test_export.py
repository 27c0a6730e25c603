"""An exported network is the one that was trained, and loads without the suite where torchvision has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch import nn

from analysis.export.export import export_cell, find_cell
from methods.args import BackboneArgs
from methods.backbone import Backbone, Classifier
from methods.backbones.registry import build_backbone
from suite.errors import StoreError, UsageError
from suite.grid.cell_jobs import CellJobs
from suite.grid.cells import Selection
from suite.store.cells import CellRecord
from suite.store.store import Store, sha256
from suite.weights import save_weights
from suite.workspace import Workspace

from .made_store import fill

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
PUBLISHED = {"backbone.arch": "resnet18", "backbone.width": 64, "backbone.stem": "imagenet"}


def network(args: BackboneArgs, classes: int = 20) -> Classifier:
    """Random, with running statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    model = Classifier(build_backbone(args), classes)
    model.train()(IMAGES)
    return model.eval()


def give_weights(store: Store, key: str, module: nn.Module, name: str) -> None:
    """Put weights beside a finished job, as training does."""
    path = store.checkpoint(key) / name
    save_weights(path, module)
    result = store.result(key)
    assert result is not None
    store.finish(result.model_copy(update={"files": {name: sha256(path)}}))


def made(root: Path, overrides: dict[str, object], method: str = "byol") -> tuple[CellJobs, Classifier]:
    selection = Selection(methods=(method,), datasets=("cub",), seeds=(0,), overrides=overrides)
    (item,) = fill(root, "paper_table1", selection, suspicious={f"{method}/cub/0": "top-1 5.00 is not above chance"})
    model = network(item.cell.recipe.backbone)
    for job in item.stages:
        give_weights(Store(root), job.key, model.backbone, "backbone.safetensors")
    give_weights(Store(root), item.finetune.key, model, "model.safetensors")
    return item, model


@pytest.mark.parametrize(("arch", "count"), [("resnet18", 120), ("resnet50", 318)])  # the paper's is the second
def test_torchvision_loads_the_backbone_strictly_and_gives_the_same_features(
    tmp_path: Path, arch: str, count: int
) -> None:
    item, model = made(tmp_path / "runs", PUBLISHED | {"backbone.arch": arch})
    workspace = Workspace(tmp_path, tmp_path / "runs")
    export_cell(workspace, "paper_table1", "byol/cub/0", None, "pretrained", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = getattr(torchvision.models, config["architecture"]["torchvision"])()
    theirs.fc = nn.Identity()
    tensors = load_file(tmp_path / "out" / config["weights"]["file"])
    theirs.load_state_dict(tensors)  # strict
    assert len(tensors) == config["weights"]["tensors"] == count
    torch.testing.assert_close(theirs.eval()(IMAGES), model.backbone.pooled(IMAGES))
    assert config["key"] == item.stages[-1].key
    assert config["weights"]["sha256"] == sha256(tmp_path / "out" / "model.safetensors")
    assert [line["protocol"] for line in config["metrics"]][:3] == ["finetune", "knn", "linear"]
    assert [job["spec"]["kind"] for job in config["jobs"]] == ["pretrain"]
    assert config["recipe"]["pretrain"]["epochs"] == item.cell.recipe.pretrain.epochs  # type: ignore[union-attr]


def test_torchvision_loads_the_fine_tuned_network_with_its_head(tmp_path: Path) -> None:
    _, model = made(tmp_path / "runs", PUBLISHED)
    workspace = Workspace(tmp_path, tmp_path / "runs")
    export_cell(workspace, "paper_table1", "byol/cub", "small", "finetuned", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = torchvision.models.resnet18(num_classes=config["head"]["classes"])
    theirs.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    torch.testing.assert_close(theirs.eval()(IMAGES), model(IMAGES))
    assert [line["protocol"] for line in config["metrics"]] == ["finetune"]  # probes are of the backbone before
    assert [job["spec"]["kind"] for job in config["jobs"]] == ["pretrain", "finetune"]
    assert "not above chance" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("stage", ["pretrained", "finetuned"])
def test_the_cards_own_code_loads_a_network_that_torchvision_has_not(tmp_path: Path, stage: str) -> None:
    _, model = made(tmp_path / "runs", {}, "byol_cvsa")
    workspace, out = Workspace(tmp_path, tmp_path / "runs"), tmp_path / "out"
    export_cell(workspace, "paper_table1", "byol_cvsa/cub/0", None, stage, out)  # type: ignore[arg-type]
    assert json.loads((out / "config.json").read_text())["architecture"]["torchvision"] is None
    card = (out / "README.md").read_text()
    assert "torchvision's own constructors do not fit: it has one basic block per stage" in card
    code = (
        card.partition("```python\n")[2]
        .partition("```")[0]
        .replace("model.safetensors", str(out / "model.safetensors"))
    )
    names: dict[str, object] = {}
    exec(code, names)
    loaded = names["model"]
    assert isinstance(loaded, Backbone if stage == "pretrained" else Classifier)
    same = loaded.pooled(IMAGES) if isinstance(loaded, Backbone) else loaded(IMAGES)
    torch.testing.assert_close(same, model.backbone.pooled(IMAGES) if stage == "pretrained" else model(IMAGES))


def test_the_card_says_what_the_number_is_and_is_not(tmp_path: Path) -> None:
    made(tmp_path / "runs", {}, "byol_cvsa")
    workspace = Workspace(tmp_path, tmp_path / "runs")
    export_cell(workspace, "paper_table1", "byol_cvsa/cub/0", None, "pretrained", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pipeline_tag"] == "image-feature-extraction"
    (result,) = front["model-index"][0]["results"]
    assert [metric["type"] for metric in result["metrics"]] == ["accuracy"] * 3
    assert (result["dataset"]["type"], result["dataset"]["split"]) == ("cub", "test")
    for needed in (
        "Profile `small` is not the profile `paper`", "a part of the official data", "not a result of the CVSA paper",
        "non-commercial", "DUTS", "One training with seed 0",
    ):  # fmt: skip
        assert needed in card


def test_the_card_shows_five_numbers_and_folds_the_others(tmp_path: Path) -> None:
    item, _ = made(tmp_path / "runs", {})
    store = Store(tmp_path / "runs")
    measures = {"act_pointing": 61.5, "cam_pointing": 70.0, "act_energy": 41.0, "centre_pointing": 90.0}
    for kind, metrics in {"localisation": measures, "background": {"original": 33.0, "mixed_rand": 21.25}}.items():
        result = store.result(item.measured[kind])
        assert result is not None
        store.finish(result.model_copy(update={"metrics": metrics}))
    workspace, out = Workspace(tmp_path, tmp_path / "runs"), tmp_path / "out"
    export_cell(workspace, "paper_table1", "byol/cub/0", None, "pretrained", out)
    card = (out / "README.md").read_text("utf-8")
    shown, _, folded = card.partition("<details>")
    rows = [line.split("|")[1].strip() for line in shown.partition("## Numbers")[2].splitlines() if "| 528 |" in line]
    assert [name.partition(" of")[0] for name in rows] == [
        "top-1 after fine-tuning the whole network", "top-1", "top-1", "highest activation", "top-1 on the background",
    ]  # fmt: skip
    assert "61.50" in shown
    assert "21.25" in shown
    inside = folded.partition("</details>")[0]
    assert "<summary>4 further numbers</summary>\n\n|" in inside  # without the empty line Markdown shows no table
    assert all(name in inside for name in ("cam_pointing", "act_energy", "centre_pointing", "background, original"))
    ModelCard(card)  # huggingface_hub reads it


def test_without_huggingface_hub_the_card_has_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    made(tmp_path / "runs", {})
    export_cell(
        Workspace(tmp_path, tmp_path / "runs"), "paper_table1", "byol/cub/0", None, "pretrained", tmp_path / "out"
    )
    front = yaml.safe_load((tmp_path / "out" / "README.md").read_text("utf-8").split("---\n")[1])
    assert front["license"] == "other"
    assert "model-index" not in front
    assert ".[hub]" in caplog.text


def test_mistakes_are_named(tmp_path: Path) -> None:
    made(tmp_path / "runs", {})
    fill(tmp_path / "runs", "paper_table1", Selection(methods=("random",), datasets=("cub",), seeds=(0, 1)))
    workspace, out = Workspace(tmp_path, tmp_path / "runs"), tmp_path / "out"
    with pytest.raises(UsageError, match="did you mean 'byol/cub/0'"):
        export_cell(workspace, "paper_table1", "boyl/cub/0", None, "pretrained", out)
    with pytest.raises(UsageError, match="random/cub/0, random/cub/1"):
        export_cell(workspace, "paper_table1", "random/cub", None, "finetuned", out)
    with pytest.raises(UsageError, match="--stage finetuned"):
        export_cell(workspace, "paper_table1", "random/cub/0", None, "pretrained", out)
    with pytest.raises(StoreError, match=r"model\.safetensors is missing"):
        export_cell(workspace, "paper_table1", "random/cub/0", None, "finetuned", out)
    assert not out.exists()
    assert find_cell([CellRecord.model_construct(row="a", dataset="b", seed=3)], "a/b", "g").seed == 3
