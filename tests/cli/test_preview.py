"""`suite data preview` computes the maps of the images that it uses, and of no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.figures import views_preview
from suite.cli import app


@pytest.mark.parametrize("view", ["saliency_swap", "dilo", "random_resized_crop"])
def test_preview_computes_only_what_it_needs(
    view: str, drawn: Path, tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views_preview, "BACKGROUNDS", 2)
    out = tmp_path / "sheet.png"
    command = ["data", "preview", "cub", "--view", view, "--images", "3", "--profile", str(tiny_profile)]
    place = ["--data", str(drawn), "--runs", str(tmp_path / "runs"), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, *place, "--set", "saliency.detector=spectral"])
    assert done.exit_code == 0, done.output
    assert out.stat().st_size > 0
    maps = list((tmp_path / "runs").rglob("maps/**/*.png"))
    assert len(maps) == (0 if view == "random_resized_crop" else 5)  # of 24 training images
    assert not list((tmp_path / "runs").rglob("*.u8"))  # decoded images are temporary
    assert "decode" in done.stderr
    assert ("saliency cub" in done.stderr) == (view != "random_resized_crop")
