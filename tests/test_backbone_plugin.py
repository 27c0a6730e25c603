"""The example of a backbone family, end to end: pretraining, measuring, maps, export and import of a small ViT."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from methods.args import BackboneArgs
from methods.backbone import Classifier, parameter_count
from methods.backbones.registry import build_backbone, cost_of
from methods.measures.grad_cam import grad_cam
from suite.plugin import load_plugins
from suite.training.layouts import backbone_tensors

timm = pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "vit_backbone.py"
TINY = {"patch": 8, "width": 32, "depth": 2, "heads": 2, "grid": 4}
SETTINGS = [part for name, value in TINY.items() for part in ("--set", f"backbone.{name}={value}")]
VIT = ["--plugin", EXAMPLE, "--set", "backbone.arch=vit_small"]


def suite(*arguments: str | Path, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from suite.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory, tiny_profile: Path) -> Path:
    """The tiny profile, with localisation."""
    content: dict[str, Any] = yaml.safe_load(tiny_profile.read_text("utf-8"))
    content["defaults"]["localisation"] = {"threshold_images": 100, "thresholds": 8}
    path = tmp_path_factory.mktemp("vit") / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drawn: Path, profile: Path) -> list[str | Path]:
    """Two rows trained with a small ViT; the options that name grid, data, store and profile."""
    where = ["--grid", "paper_table1", "--data", drawn, "--runs", tmp_path_factory.mktemp("runs"), "--profile", profile]
    output = suite("run", *where, "--dataset", "cub", "--method", "random", "--method", "byol_cvsa", *VIT, *SETTINGS)
    assert "0 failed" in output or "failed" not in output
    return where


def args(**settings: float) -> BackboneArgs:
    load_plugins([EXAMPLE])
    return BackboneArgs.model_validate({"arch": "vit_small", **settings})


@pytest.mark.parametrize(("settings", "side"), [({}, 224), (TINY, 32), (TINY, 43), ({**TINY, "layer_scale": 1e-5}, 32)])
def test_the_cost_is_torchs(settings: dict[str, float], side: int) -> None:
    network = build_backbone(args(**settings))
    for block in network.get_submodule("blocks").children():
        block.get_submodule("attn").fused_attn = False  # torch's counter does not see the fused kernel of a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    assert cost_of(args(**settings), side) == (counter.get_total_flops() // 2, parameter_count(network))


def test_grad_cam_is_the_weighted_sum_of_the_patch_tokens() -> None:
    """Average pooling and a linear layer: the gradient is the class's weights over the number of places."""
    torch.manual_seed(0)
    model = Classifier(build_backbone(args(**TINY)), classes=3).eval()
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    tokens = model.backbone(images)  # [2, 32, 4, 4]
    small = F.relu((model.fc.weight[labels][:, :, None, None] / 16 * tokens).sum(dim=1, keepdim=True))
    expected = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(grad_cam(model, images, labels), expected.detach(), rtol=1e-4, atol=1e-6)


def test_the_published_network_is_timms() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch16_224", num_classes=0, global_pool="avg", fc_norm=False).eval()
    ours = build_backbone(args()).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours.pooled(images), theirs(images))


def test_every_measurement_is_made(finished: list[str | Path]) -> None:
    with (Path(finished[5]) / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["row"] for line in lines} == {"random", "byol_cvsa"}
    assert {line["protocol"] for line in lines} == {"finetune", "knn", "linear", "localisation"}
    report = suite("report", *finished[:2], *finished[4:6], "--plugin", EXAMPLE, "--images", "1")
    assert "failed" not in report
    assert list(Path(finished[5]).glob("report/**/*cam*.png"))


@pytest.mark.parametrize("stage", ["pretrained", "finetuned"])
def test_timm_loads_the_export(stage: str, finished: list[str | Path], tmp_path: Path) -> None:
    export = ["export", *finished[:2], *finished[4:6], "--cell", "byol_cvsa/cub/0", "--stage", stage]
    suite(*export, "--out", tmp_path, "--plugin", EXAMPLE)
    card = (tmp_path / "README.md").read_text("utf-8")
    code = card.partition("```python\n")[2].partition("```")[0]
    assert "import timm" in code
    space: dict[str, Any] = {}
    exec(code.replace('"model.safetensors"', f'"{tmp_path / "model.safetensors"}"'), space)
    images = torch.randn(2, 3, 32, 32)
    backbone = build_backbone(args(**TINY)).eval()
    tensors = load_file(tmp_path / "model.safetensors")
    head = [tensors.pop(f"head.{part}") for part in ("weight", "bias")] if stage == "finetuned" else None
    backbone.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        expected = backbone.pooled(images)
        if head is not None:
            expected = expected @ head[0].T + head[1]
        torch.testing.assert_close(space["model"](images), expected)


def test_a_foreign_checkpoint_takes_the_first_stages_place(drawn: Path, profile: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = build_backbone(args(**TINY)).state_dict()
    torch.save({"teacher": {f"module.backbone.{name}": t for name, t in theirs.items()}}, tmp_path / "dino.pth")
    where = ["--grid", "paper_table2", "--data", drawn, "--runs", tmp_path, "--profile", profile, "--dataset", "cub"]
    output = suite("run", *where, "--method", "byol", "--stage1", f"byol={tmp_path / 'dino.pth'}", *VIT, *SETTINGS)
    assert f"{len(theirs)} tensors" in output
    (imported,) = [path for path in tmp_path.glob("*/job.yaml") if "kind: import" in path.read_text("utf-8")]
    weights = load_file(imported.parent / "checkpoint" / "backbone.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in theirs.items())


def test_what_a_vit_cannot_do_is_refused_before_anything_starts(drawn: Path, profile: Path, tmp_path: Path) -> None:
    where = ["--grid", "paper_table1", "--data", drawn, "--runs", tmp_path, "--profile", profile, "--dataset", "cub"]
    output = " ".join(suite("plan", *where, "--method", "insloc", *VIT, *SETTINGS, expect=2).split())
    assert "row 'insloc': the objective 'insloc' cuts regions" in output
    assert "'vit_small' has no such map" in output
    assert not list(tmp_path.glob("*/job.yaml"))
    wrong = suite("plan", *where, "--method", "byol", *VIT, "--set", "backbone.detph=2", expect=2)
    assert "did you mean 'backbone.depth'" in " ".join(wrong.split())
    heads = suite("plan", *where, "--method", "byol", *VIT, "--set", "backbone.heads=5", expect=2)
    assert "expected heads that divide the width 384, got 5" in " ".join(heads.split())


def test_the_plugins_code_is_in_the_keys_and_it_is_one_file(drawn: Path, profile: Path, tmp_path: Path) -> None:
    where = ["--grid", "paper_table1", "--data", drawn, "--runs", tmp_path, "--profile", profile, "--dataset", "cub"]

    def keys(plugin: Path) -> set[str]:
        chosen = ["--method", "byol", "--plugin", plugin, "--set", "backbone.arch=vit_small", *SETTINGS, "--json"]
        done = subprocess.run(
            [sys.executable, "-c", "from suite.cli import main; main()", "plan", *map(str, [*where, *chosen])],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return {job["key"] for job in json.loads(done.stdout)["jobs"]}

    edited = tmp_path / "edited.py"
    edited.write_text(EXAMPLE.read_text("utf-8") + "\n# changed\n", "utf-8")
    assert not keys(EXAMPLE) & keys(edited)
    text = EXAMPLE.read_text("utf-8")
    assert text.count("register_backbone(") == 1
    others = [path for room in ("methods", "suite", "analysis") for path in (ROOT / room).rglob("*.py")]
    assert not [path for path in others if "vit_small" in path.read_text("utf-8") or "import timm" in path.read_text()]


def test_a_file_of_dinov2s_structure_is_read_whole_and_its_scales_and_positions_count() -> None:
    """facebookresearch/dinov2's key names: learned scales in every block, 37 x 37 positions, an unused mask token."""
    width, depth, patch, grid = 32, 2, 14, 37
    network = build_backbone(args(**{**TINY, "patch": patch, "grid": grid}, layer_scale=1e-5))
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return 0.1 * torch.randn(*shape, generator=rng)

    file = {"cls_token": draw(1, 1, width), "mask_token": draw(1, width), "pos_embed": draw(1, grid**2 + 1, width)}
    file |= {"patch_embed.proj.weight": draw(width, 3, patch, patch), "patch_embed.proj.bias": draw(width)}
    for block in range(depth):
        sizes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (4 * width, width),
                 "mlp.fc2": (width, 4 * width), "norm1": (width,), "norm2": (width,)}  # fmt: skip
        file |= {f"blocks.{block}.{name}.weight": draw(*size) for name, size in sizes.items()}
        file |= {f"blocks.{block}.{name}.bias": draw(size[0]) for name, size in sizes.items()}
        file |= {f"blocks.{block}.ls{number}.gamma": draw(width) for number in (1, 2)}
    file |= {"norm.weight": draw(width), "norm.bias": draw(width)}
    found = backbone_tensors(file, network.state_dict())
    assert found.tensors.keys() == network.state_dict().keys() == file.keys() - {"mask_token"}
    network.load_state_dict(found.tensors)
    images = torch.randn(2, 3, 42, 42, generator=rng)
    with torch.no_grad():
        before = network.eval().pooled(images)
        network.get_submodule("blocks.1.ls2").gamma.mul_(2)
        after = network.pooled(images)
    assert before.shape == (2, width)
    assert not torch.allclose(before, after)
