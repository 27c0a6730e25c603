"""`--stage1 public` through the whole product, with small files in the place of the published ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from methods.args import ResNetArgs
from methods.backbones.registry import build_backbone
from suite.cli import main
from suite.data.download import public
from suite.data.download.public import PublicCheckpoint

ROWS = ["--grid", "paper_table3", "--dataset", "cub"]
TWO = [*ROWS, "--method", "rot_pred,insloc"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["suite", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublicCheckpoint:
    """A checkpoint of the tiny profile's network in the list; the file itself is not at its place yet."""
    torch.manual_seed(0)
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="half")).state_dict()
    file = tmp_path / "brought.pth"
    torch.save({"meta": {"epoch": 7}, "state_dict": {f"backbone.{key}": t for key, t in backbone.items()}}, file)
    entry = PublicCheckpoint(
        name="rot_pred-7ep", objective="rot_pred", epochs=7, batch=16, publisher="Somebody",
        digest=f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}", url="http://127.0.0.1:9/rotations.pth",
    )  # fmt: skip
    monkeypatch.setattr(public, "public_checkpoints", lambda: {entry.name: entry})
    monkeypatch.setattr("suite.grid.cells.public_checkpoints", lambda: {entry.name: entry})
    return entry


@pytest.fixture
def without_imagenet(tmp_path: Path, drawn: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    (root / "CUB_200_2011").symlink_to(drawn / "CUB_200_2011")
    return root


def test_fetched_planned_run_and_reported(
    tmp_path: Path,
    weights: PublicCheckpoint,
    without_imagenet: Path,
    tiny_profile: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = ["--data", without_imagenet, "--runs", tmp_path / "runs"]
    where = [*places, "--profile", tiny_profile, "--stage1", "public"]
    one = [*ROWS, "--method", "rot_pred"]
    assert run(monkeypatch, "run", *one, *where) == 2
    assert "Get it: suite data fetch stage1 rot_pred-7ep" in capsys.readouterr().err
    assert run(monkeypatch, "plan", *TWO, *where) == 2
    planned = capsys.readouterr()
    assert "missing public:rot_pred-7ep" in planned.out
    assert "note: insloc: no public checkpoint is known; the first stage is trained here." in planned.err
    fetch = ["data", "fetch", "stage1", "rot_pred-7ep", *places]
    assert run(monkeypatch, *fetch, "--from", tmp_path / "brought.pth") == 0
    assert "rotations.pth, SHA-256" in capsys.readouterr().out
    assert run(monkeypatch, "data", "list", *places) == 0
    listed = capsys.readouterr().out
    assert "1 of 1 public ResNet-50 checkpoints" in listed
    assert "rot_pred-7ep (7 epochs, batch 16, Somebody): " in listed
    assert run(monkeypatch, "run", *one, *where, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trained"] == 3  # second stage, fine-tuning and probe
    assert run(monkeypatch, "run", *one, *places, "--profile", tiny_profile, "--stage1", "rot_pred=rot_pred-7ep",
               "--json") == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["trained"] == 0

    assert run(monkeypatch, "report", "--grid", "paper_table3", "--runs", tmp_path / "runs", "--no-figures",
               "--out", tmp_path / "report") == 0  # fmt: skip
    origin = "taken from rotations.pth (Somebody, 7 epochs on ImageNet-1K, batch 16; SHA-256"
    assert origin in " ".join(capsys.readouterr().out.split())
    assert "rotations.pth (Somebody, 7 epochs" in (tmp_path / "report" / "index.html").read_text("utf-8")
    assert run(monkeypatch, "export", "--grid", "paper_table3", "--cell", "rot_pred/cub/0", "--runs", tmp_path / "runs",
               "--out", tmp_path / "export") == 0  # fmt: skip
    card = (tmp_path / "export" / "README.md").read_text("utf-8")
    assert "Published by Somebody (http://127.0.0.1:9/rotations.pth): 7 epochs on ImageNet-1K, batch 16" in card


@pytest.mark.parametrize(
    ("grid", "given", "message"),
    [
        ("paper_table3", "byol=rot_pred-7ep", "pretrained with rot_pred, not with byol"),
        ("paper_table3", "rot_pred=rot_pred-6ep", "did you mean 'rot_pred-7ep'"),
        ("paper_table2", "rot_pred=rot_pred-7ep", "the first stage of row 'rot_pred' is on coco"),
        ("paper_table2", "public", "The grid with a first stage on ImageNet is paper_table3"),
        ("paper_table1", "public", "none of the selected rows has one"),
        ("paper_table3", "all", "or 'public' for all rows that have one; got 'all'"),
    ],
)
def test_what_does_not_fit_is_named(
    grid: str,
    given: str,
    message: str,
    weights: PublicCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "plan", "--grid", grid, "--stage1", given, "--runs", tmp_path, "--data", tmp_path) == 2
    assert message in capsys.readouterr().err
    assert weights.name == "rot_pred-7ep"
