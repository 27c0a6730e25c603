"""The shipped grids: their rows, and the published numbers beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.cells.published import published_numbers
from suite.errors import UsageError
from suite.grid.cells import Selection, cells, needed_plugin
from suite.grid.profile import load_profile
from suite.grid.spec import EXPERIMENTS, load_grid

GRIDS = sorted(path.stem for path in (EXPERIMENTS / "grids").glob("*.yaml"))
PUBLISHED = [name for name in GRIDS if load_grid(name).published is not None]  # the small-scale study is ours
PROFILES = sorted(path.stem for path in (EXPERIMENTS / "profiles").glob("*.yaml"))
SCALES = [0.08, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GRIDS)
def test_every_profile_has_a_recipe_for_every_row(name: str, profile: str) -> None:
    grid = load_grid(name)
    found = cells(grid, load_profile(profile), Selection(seeds=(0,)))
    rows = [row for row in grid.rows if needed_plugin(row) is None]  # a reference row may need one
    assert len(found) == len(rows) * len(grid.datasets)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_belong_to_rows_and_datasets_of_the_grid(name: str) -> None:
    grid = load_grid(name)
    numbers = published_numbers(name)
    assert numbers
    assert {row for row, _ in numbers} <= {row.name for row in grid.rows}
    assert {dataset for _, dataset in numbers} <= set(grid.datasets)


def test_the_imagenet_table_holds_what_is_known_and_no_more() -> None:
    grid = load_grid("paper_table3")
    assert all(row.stage1 == "imagenet" for row in grid.rows)
    assert "looc" not in {row.method for row in grid.rows}
    assert published_numbers("paper_table3") == {
        ("byol_cvsa", "cub"): 77.1, ("byol_cvsa", "nabirds"): 79.64, ("byol_cvsa", "aircraft"): 87.27,
        ("byol_cvsa", "cars"): 89.76, ("byol_dilo", "cub"): 76.6, ("byol_dilo", "nabirds"): 79.04,
        ("byol_dilo", "aircraft"): 87.03, ("insloc", "cub"): 75.83,
    }  # fmt: skip


def test_the_sweep_is_the_posters() -> None:
    grid = load_grid("ss_scale")
    lines: dict[str, list[float | None]] = {}
    for row in grid.rows:
        lines.setdefault(str(row.series), []).append(row.set.get("views.scale"))
    assert lines == {
        "MoCo.v2+RRC": [None], "BYOL+RRC": [None], "MoCo.v2+SS": SCALES, "BYOL+SS": SCALES, "BYOL+SS+Align": SCALES,
    }  # fmt: skip
    numbers = published_numbers("ss_scale")
    assert len(numbers) == 26
    best = max(numbers, key=lambda key: numbers[key])
    assert (best, numbers[best]) == (("byol_cvsa_0.4", "cub"), 65.09)


def test_a_point_of_the_sweep_trains_at_its_scale_and_is_shared_with_the_table() -> None:
    demo = load_profile("demo")
    (point,) = cells(load_grid("ss_scale"), demo, Selection(only="byol_ss_0.3/cub"))
    assert point.recipe.views is not None
    assert point.recipe.views.model_dump()["scale"] == 0.3
    assert point.resolved.origins["views.scale"] == "row byol_ss_0.3"
    (shared,) = cells(load_grid("ss_scale"), demo, Selection(only="byol_cvsa_0.4/cub"))
    (table,) = cells(load_grid("paper_table1"), demo, Selection(only="byol_cvsa/cub"))
    assert shared.recipe == table.recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sweep": None}, "names no field"),
        ({"sweep": "views.size"}, "unknown field"),
        ({"reference_row": "byol_ss"}, "is not one of the rows"),
    ],
)
def test_mistakes_in_a_sweep(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = yaml.safe_load((EXPERIMENTS / "grids" / "ss_scale.yaml").read_text("utf-8"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, **change}), "utf-8")
    with pytest.raises(UsageError, match=message):
        cells(load_grid(str(tmp_path / "mine.yaml")), load_profile("demo"), Selection())


def test_settings_of_a_grid_are_those_of_every_row_below_the_rows_own(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "name": "mine", "title": "Mine", "datasets": ["cub"], "reference_row": "a", "set": {"finetune.epochs": 3},
        "rows": [
            {"name": "a", "label": "A", "method": "a", "stage2": False},
            {"name": "b", "label": "B", "method": "b", "stage2": False, "set": {"finetune.epochs": 4}},
        ],
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), "utf-8")
    planned = cells(load_grid(str(tmp_path / "mine.yaml")), load_profile("demo"), Selection())
    assert [cell.recipe.finetune.epochs for cell in planned] == [3, 4]
    assert planned[0].resolved.origins["finetune.epochs"] == "row a"
    content["set"] = {"finetune.epoch": 3}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(UsageError, match=r"finetune\.epoch"):
        cells(load_grid(str(tmp_path / "mine.yaml")), load_profile("demo"), Selection())
