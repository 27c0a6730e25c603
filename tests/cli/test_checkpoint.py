"""A first stage that others trained, through the whole product."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from methods.args import ResNetArgs
from methods.backbones.registry import build_backbone
from suite.cli import main
from suite.kinds.imported import ImportSpec
from suite.store.store import Store

GRID = ["--grid", "paper_table2", "--method", "byol", "--dataset", "cub"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["suite", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def without_coco(tmp_path: Path, drawn: Path) -> Path:
    """A data root with the fine-grained set alone."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "CUB_200_2011").symlink_to(drawn / "CUB_200_2011")
    return root


def checkpoint(path: Path, width: int) -> Path:
    torch.manual_seed(0)
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=width, stem="half"))
    torch.save({"state_dict": {f"backbone.{key}": t for key, t in backbone.state_dict().items()}}, path)
    return path


def test_a_checkpoint_takes_the_place_of_the_first_stage(
    tmp_path: Path,
    without_coco: Path,
    tiny_profile: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--data", without_coco, "--runs", tmp_path / "runs", "--profile", tiny_profile]
    assert run(monkeypatch, "run", *GRID, *where) == 2  # COCO is not there
    given = ["--stage1", f"byol={checkpoint(tmp_path / 'theirs.pth', width=8)}"]
    assert run(monkeypatch, "run", *GRID, *where, *given, "--json") == 0
    # One second stage, two fine-tunings, two probes; the import is no training.
    assert json.loads(capsys.readouterr().out)["trained"] == 5
    store = Store(tmp_path / "runs")
    specs = {path.parent.name: store.spec(path.parent.name) for path in store.root.glob("*/job.yaml")}
    (imported,) = [key for key, spec in specs.items() if spec.kind == "import"]
    children = {spec.init for spec in specs.values() if not isinstance(spec, ImportSpec)}
    assert imported in children
    moved = tmp_path / "elsewhere.pth"
    shutil.copy(tmp_path / "theirs.pth", moved)  # neither name nor place is part of a job
    assert run(monkeypatch, "run", *GRID, *where, "--stage1", f"byol={moved}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trained"] == 0
    assert run(monkeypatch, "report", "--grid", "paper_table2", "--runs", tmp_path / "runs", "--no-figures") == 0
    assert "not trained here but taken from elsewhere.pth" in " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_that_does_not_fit_starts_nothing(
    tmp_path: Path,
    without_coco: Path,
    tiny_profile: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--data", without_coco, "--runs", tmp_path / "runs", "--profile", tiny_profile]
    wide = checkpoint(tmp_path / "wide.pth", width=16)
    assert run(monkeypatch, "run", *GRID, *where, "--stage1", f"byol={wide}") == 2
    assert "other shape: bn1.bias is (16,), expected (8,)" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*/result.json"))
    assert not list((tmp_path / "runs").glob("*/metrics.jsonl"))
    assert run(monkeypatch, "run", *GRID, *where, "--stage1", f"byool={wide}") == 2
    assert "did you mean 'byol'" in capsys.readouterr().err
    assert run(monkeypatch, "run", *GRID, *where, "--stage1", "wide.pth") == 2
    assert "expects OBJECTIVE=FILE" in capsys.readouterr().err
    assert run(monkeypatch, "run", *GRID, *where, "--stage1", f"byol={tmp_path / 'nothing.pth'}") == 2
    assert "nothing.pth does not exist" in capsys.readouterr().err
