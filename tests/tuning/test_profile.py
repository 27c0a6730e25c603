"""The best values as a profile: they stand where their fields come from, and nothing else changes."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from suite.data.saliency.detectors import DETECTOR_IDENTITIES
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Cell, Selection, cells
from suite.grid.profile import Profile, load_profile, profile_path
from suite.grid.spec import load_grid
from suite.tuning.profile import edits
from suite.tuning.yaml_file import edited, renamed


def tuned(profile: str, grid: str, method: str, best: dict[str, Any]) -> tuple[str, str]:
    """Texts of the profile before and after."""
    text = profile_path(profile).read_text("utf-8")
    chosen = cells(load_grid(grid), load_profile(profile), Selection(("cub",), (method,)))
    return text, renamed(
        edited(text, edits(load_profile(profile), chosen, best)), "mine", "tuned: by hand", "By a test."
    )


def lines_changed(before: str, after: str) -> list[str]:
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line[1:].strip() for line in found if line.startswith("+") and not line.startswith("+++")]


def keys(profile: Profile, grid: str, **selection: Any) -> dict[str, list[str]]:
    def of(cell: Cell) -> list[str]:
        return [job.key for job in jobs_of(cell, dict.fromkeys(cell.data, "f" * 64), DETECTOR_IDENTITIES).jobs]

    return {cell.id: of(cell) for cell in cells(load_grid(grid), profile, Selection(("cub",), **selection))}


@pytest.mark.parametrize("profile", ["paper", "small", "demo", "study_photos"])  # the last extends another
@pytest.mark.parametrize(
    ("method", "best"),
    [
        ("byol_cvsa", {"views.scale": 0.31, "alignment.mask": "binary", "alignment.weight": 1e-5}),
        ("byol_cvsa", {"views.canvas": "squash", "pretrain.optimizer.nesterov": True}),  # defaults, written nowhere
        ("byol", {"finetune.optimizer.base_lr": 0.25, "finetune.epochs": 7}),
        ("simclr", {"pretrain.optimizer.base_lr": 0.125, "objective.temperature": 0.11}),
        ("looc", {"objective.temperature": 0.11}),  # merged from MoCo v2's section by <<
    ],
)  # fmt: skip
def test_the_written_profile_has_the_trials_jobs(profile: str, method: str, best: dict[str, Any]) -> None:
    _, after = tuned(profile, "paper_table1", method, best)
    written = Profile.model_validate(yaml.safe_load(after))
    assert (written.name, written.note) == ("mine", "tuned: by hand")
    assert keys(written, "paper_table1", methods=(method,)) == keys(
        load_profile(profile), "paper_table1", methods=(method,), overrides=best
    )


def test_comments_stay_and_only_the_lines_of_the_values_change() -> None:
    before, after = tuned("demo", "paper_table1", "byol_cvsa", {"views.scale": 0.31})
    scale = "scale: 0.31   # tuned, see the top of this file; before: 0.4 (the poster's best value for BYOL+SS+Align)"
    assert lines_changed(before, after) == ["# By a test.", "#", "name: mine", "note: 'tuned: by hand'", scale]


def test_a_first_stage_that_reads_the_same_section_keeps_its_value() -> None:
    demo = load_profile("demo")
    best = {"pretrain.optimizer.base_lr": 0.7}
    _, after = tuned("demo", "paper_table2", "byol_cvsa", best)
    written = Profile.model_validate(yaml.safe_load(after))
    (cell,) = [
        c for c in cells(load_grid("paper_table2"), written, Selection(("cub",), ("byol_cvsa",))) if c.row.stage2
    ]
    assert cell.recipe.pretrain is not None
    assert cell.recipe.pretrain.optimizer.base_lr == 0.7
    (plain,) = [c for c in cells(load_grid("paper_table2"), demo, Selection(("cub",), ("byol_cvsa",))) if c.row.stage2]
    assert cell.stage1 is not None
    assert plain.stage1 is not None
    assert cell.stage1.recipe == plain.stage1.recipe


def test_an_alias_is_written_out_where_a_value_in_it_changes() -> None:
    text = "name: a\nnote: ''\nviews:\n  one: &x {scale: 0.1, more: [1, 2]}   # one's\n  two: *x   # as one\n"
    after = edited(text, {("views", "two", "scale"): 0.5})
    assert yaml.safe_load(after)["views"] == {
        "one": {"scale": 0.1, "more": [1, 2]},
        "two": {"scale": 0.5, "more": [1, 2]},
    }
    assert "# as one" in after


def test_a_plugins_values_for_the_profile_by_its_name_are_kept() -> None:
    plugin = Path(__file__).resolve().parents[2] / "examples" / "align_uniform.py"
    code = f"""
import yaml
from pathlib import Path
from suite.plugin import load_plugins, with_plugins
from suite.grid.cells import Selection, cells
from suite.grid.profile import Profile, load_profile, profile_path
from suite.grid.spec import load_grid
from suite.tuning.profile import edits
from suite.tuning.yaml_file import edited, renamed
load_plugins([Path({str(plugin)!r})])
grid, demo = with_plugins(load_grid("paper_table1")), load_profile("demo")
def recipe(profile, **overrides):
    (cell,) = cells(grid, profile, Selection(("cub",), ("align_uniform",), overrides=overrides))
    return cell.recipe
best = {{"objective.uniformity": 0.5}}
chosen = cells(grid, demo, Selection(("cub",), ("align_uniform",)))
text = renamed(edited(profile_path("demo").read_text("utf-8"), edits(demo, chosen, best)), "mine", "", "")
after = recipe(Profile.model_validate(yaml.safe_load(text)))
assert after == recipe(demo, **best), after
assert after.objective.dim == 64  # the plugin's for the demo; 128 elsewhere
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
