"""The examples of docs/adding.md that no other test runs: a grid, a profile and an engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import suite

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_grid_and_profile_plan_together(drawn: Path, tmp_path: Path) -> None:
    grid, profile = str(EXAMPLES / "grid.yaml"), str(EXAMPLES / "profile.yaml")
    plan = suite.plan(grid, profile=profile, data=drawn, runs=tmp_path, overrides={"saliency.detector": "boxes"})
    assert plan.missing == {}
    assert {cell.seed for cell in plan.cells} == {0, 1, 2}
    recipes = {cell.row.name: cell.resolved.recipe for cell in plan.cells}
    assert {row: getattr(recipe.views, "scale", None) for row, recipe in recipes.items()} == {
        "byol": recipes["byol"].views.scale, "byol_ss": 0.3, "moco_v2_ss": 0.3, "byol_ss_large": 0.8,
    }  # fmt: skip
    assert recipes["byol"].objective.model_dump()["tau_base"] == 0.99
    assert {recipe.pretrain.epochs for recipe in recipes.values() if recipe.pretrain is not None} == {160}


def engine_module() -> Any:
    spec = importlib.util.spec_from_file_location("inline_engine", EXAMPLES / "inline_engine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_engine_runs_a_grid_in_this_process(drawn: Path, tmp_path: Path, tiny_profile: Path) -> None:
    where: Any = {"profile": str(tiny_profile), "data": drawn, "runs": tmp_path, "datasets": "cub", "seeds": [0]}
    outcome = suite.run("paper_table1", methods="byol", engine=engine_module().InlineEngine(), **where)
    assert outcome.exit_code == 0
    assert outcome.trained == 3
    assert set(suite.results(tmp_path).protocol) == {"finetune", "knn", "linear"}


def test_the_engine_reports_a_failure_and_skips_what_follows(
    drawn: Path, tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.training import pretrain

    def broken(*_: object) -> None:
        raise RuntimeError("made to fail")

    monkeypatch.setattr(pretrain, "run", broken)
    where: Any = {"profile": str(tiny_profile), "data": drawn, "runs": tmp_path, "datasets": "cub", "seeds": [0]}
    outcome = suite.run("paper_table1", methods="byol", engine=engine_module().InlineEngine(), **where)
    assert outcome.exit_code == 1
    assert "made to fail" in outcome.text()
