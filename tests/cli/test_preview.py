"""`suite data preview` computes the maps of the images that it uses, and of no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from analysis.figures import views_preview
from methods.backbones.registry import build_backbone
from suite.cli import app
from suite.errors import UsageError
from suite.grid.profile import load_profile
from suite.grid.recipe import resolve
from suite.grid.spec import load_grid
from suite.weights import save_weights

WITHOUT_MAPS = {"random_resized_crop", "contrastive_crop", "multi_crop"}


@pytest.mark.parametrize("view", ["saliency_swap", "dilo", "cast_crop", *sorted(WITHOUT_MAPS)])
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
    assert len(maps) == (0 if view in WITHOUT_MAPS else 5)  # of 24 training images
    assert not list((tmp_path / "runs").rglob("*.u8"))  # decoded images are temporary
    assert "decode" in done.stderr
    assert ("saliency cub" in done.stderr) == (view not in WITHOUT_MAPS)


def test_local_crops_of_an_image_stand_together() -> None:
    views = [torch.full((2, 3, side, side), 10 * number) for number, side in enumerate((8, 8, 4, 4, 4))]
    for view in views:
        view[1] += 1  # the second image
    *large, small = views_preview._joined(views)
    assert [view[:, 0, 0, 0].tolist() for view in large] == [[0, 1], [10, 11]]
    assert small[:, 0, 0, 0].tolist() == [20, 30, 40, 21, 31, 41]
    assert views_preview._joined(views[:2]) == views[:2]


def test_weights_are_for_views_that_depend_on_a_network(
    drawn: Path, tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other weights give other boxes; views that see no network refuse them."""
    monkeypatch.setattr(views_preview, "BACKGROUNDS", 0)
    recipe = resolve(load_profile(str(tiny_profile)), load_grid("beyond").row("byol"), {}).recipe
    torch.manual_seed(5)
    weights = tmp_path / "backbone.safetensors"
    save_weights(weights, build_backbone(recipe.backbone))
    sheets: list[bytes] = []
    for more in ([], ["--weights", str(weights)]):
        out = tmp_path / f"{len(sheets)}.png"
        command = ["data", "preview", "cub", "--images", "6", "--profile", str(tiny_profile), "--data", str(drawn)]
        command += ["--runs", str(tmp_path / "runs"), "--out", str(out), *more]
        done = CliRunner().invoke(app, [*command, "--view", "contrastive_crop"])
        assert done.exit_code == 0, done.output
        sheets.append(out.read_bytes())
    assert sheets[0] != sheets[1]
    refused = CliRunner().invoke(app, [*command, "--view", "random_resized_crop"])
    assert isinstance(refused.exception, UsageError)
    assert "Leave --weights out" in str(refused.exception)
