"""Reference rows in a plan: which are left out, what their jobs are, and files of the published structure."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from methods.args import ResNetArgs
from methods.backbones import base
from methods.backbones.registry import build_backbone
from suite.api import plan_request
from suite.cli import main
from suite.data.download.public import public_checkpoints, reference_checkpoints
from suite.errors import UsageError
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import GridSpec, Row, load_grid
from suite.training.layouts import backbone_tensors

GRID = load_grid("beyond")
THREE = ("supervised_resnet50", "dino_resnet50", "dinov2_vits14")


def suite(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["suite", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_grid_has_the_three_and_one_is_flagged_as_supervised() -> None:
    rows = {row.name: row.reference for row in GRID.rows if row.reference is not None}
    assert rows == dict(zip(THREE, ("supervised", "self-supervised", "self-supervised"), strict=True))
    for name in rows:
        assert str(GRID.row(name).stage1_checkpoint).removeprefix("public:") in reference_checkpoints()
    assert not reference_checkpoints().keys() & public_checkpoints().keys()


def test_rows_without_their_file_or_plugin_are_left_out_unless_they_are_named(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(base._BY_ARCH, "vit_small", raising=False)  # another test may have loaded the plugin
    where: dict[str, Any] = {"data": drawn, "runs": tmp_path, "profile": "demo", "datasets": "cub"}
    plan = plan_request("beyond", **where).plan()
    assert plan.left_out.keys() == set(THREE)
    assert "suite data fetch stage1 dino-resnet50" in plan.left_out["dino_resnet50"]
    assert "--plugin examples/vit_backbone.py" in plan.left_out["dinov2_vits14"]
    assert not {cell.row.name for cell in plan.cells} & set(THREE)
    assert not [name for name in plan.missing if name.startswith("public:")]
    named = plan_request("beyond", methods="dino_resnet50", **where).plan()
    assert "public:dino-resnet50" in named.missing
    assert named.left_out == {}
    with pytest.raises(UsageError, match="vit_small"):
        plan_request("beyond", methods="dinov2_vits14", **where).plan()


def test_set_backbone_reaches_the_trained_rows_alone() -> None:
    overrides = {"backbone.arch": "resnet18"}
    selected = cells(GRID, load_profile("demo"), Selection(("cub",), overrides=overrides))
    archs = {cell.row.name: cell.recipe.backbone.arch for cell in selected}
    assert (archs["byol"], archs["dino_resnet50"]) == ("resnet18", "resnet50")


def test_mistakes_in_a_grid() -> None:
    row = {"name": "a", "label": "a", "method": "a", "stage2": False, "reference": "supervised"}
    with pytest.raises(ValueError, match="expected frozen: true, no objective and a stage1_checkpoint"):
        Row.model_validate(row)
    full = Row.model_validate({**row, "frozen": True, "stage1_checkpoint": "a.pth"})
    with pytest.raises(ValueError, match="reference_row 'a' is a row with `reference`"):
        GridSpec(name="g", title="t", datasets=("cub",), reference_row="a", rows=(full,))


def resnet_file(place: Path, classifier: bool) -> None:
    """A state_dict with torchvision's key names; DINO's file is one without a classifier."""
    torch.manual_seed(0)
    tensors = dict(build_backbone(ResNetArgs(arch="resnet10", width=8, stem="half")).state_dict())
    if classifier:
        tensors |= {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, place)


def test_a_reference_row_is_measured_and_reported_beside_the_others(
    tmp_path: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"teacher": tmp_path / "teacher.pth", "other": tmp_path / "other.pth"}
    for name, place in files.items():
        resnet_file(place, classifier=name == "teacher")
    backbone = {"backbone.arch": "resnet10", "backbone.width": 8, "backbone.stem": "half"}
    frozen = {"stage2": False, "frozen": True, "set": backbone}
    rows = [
        {"name": "random", "label": "Random init", "method": "random", "stage2": False},
        {"name": "teacher", "label": "Teacher", "method": "teacher", "reference": "supervised",
         "stage1_checkpoint": str(files["teacher"]), **frozen},
        {"name": "other", "label": "Other", "method": "other", "reference": "self-supervised",
         "stage1_checkpoint": str(files["other"]), **frozen},
        {"name": "gone", "label": "Gone", "method": "gone", "reference": "self-supervised",
         "stage1_checkpoint": str(tmp_path / "gone.pth"), **frozen},
    ]  # fmt: skip
    grid = tmp_path / "mine.yaml"
    content = {"name": "mine", "title": "Mine", "datasets": ["cub"], "reference_row": "random", "rows": rows}
    grid.write_text(yaml.safe_dump(content))
    places = ["--grid", grid, "--runs", tmp_path / "runs"]
    command = ["run", *places, "--data", drawn, "--profile", tiny_profile, "--json"]
    assert suite(monkeypatch, *command) == 0
    said = capsys.readouterr()
    assert "note: reference row gone left out: the file" in said.err
    assert json.loads(said.out)["trained"] == 4  # a fine-tuning and three probes
    assert suite(monkeypatch, "report", *places, "--no-figures", "--out", tmp_path / "out") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Teacher: teacher.pth (SHA-256" in text
    assert "Teacher was pretrained with labels" in text
    assert "No result yet" not in text  # frozen rows are no holes in the table of fine-tuning
    assert "Teacher (reference" not in (tmp_path / "out" / "mine.tex").read_text().partition("suitesetup{")[0]
    probes = list(csv.DictReader((tmp_path / "out" / "mine_probe.csv").open()))
    kinds = {row["row"]: row["kind"] for row in probes}
    assert kinds == {"random": "measured", "teacher": "reference supervised", "other": "reference"}
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "Teacher (reference, supervised) on" in page  # its recipe and jobs


@pytest.mark.parametrize("classifier", [True, False])
def test_files_with_the_published_key_names_give_the_whole_resnet50(classifier: bool) -> None:
    with torch.device("meta"):
        shapes = build_backbone(ResNetArgs(arch="resnet50", width=64, stem="imagenet")).state_dict()
    assert len(shapes) == 318  # torchvision's 320 without its classifier
    tensors = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in shapes.items()}
    extra = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)} if classifier else {}
    found = backbone_tensors({**tensors, **extra}, shapes)
    assert found.tensors.keys() == shapes.keys()
