"""A profile that extends a shipped one: of every section its own values win, the rest are the other's."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.grid.profile import Profile, load_profile
from suite.grid.recipe import resolve
from suite.grid.spec import load_grid

ROWS = load_grid("paper_table1")
PROFILE = """
name: mine
note: by a test
seeds: [3, 4]
extends: demo
defaults: {pretrain: {epochs: 2}, finetune: {optimizer: {base_lr: 0.5}}}
objectives: {simclr: {pretrain: {epochs: 9}}}
views: {random_resized_crop: {scale: 0.33}}
"""


def profile(folder: Path, text: str = PROFILE) -> Profile:
    (folder / "mine.yaml").write_text(text)
    return load_profile(str(folder / "mine.yaml"))


@pytest.mark.parametrize("row", [row.name for row in ROWS.rows if row.name != "random"])
def test_only_what_it_names_differs(tmp_path: Path, row: str) -> None:
    ours = resolve(profile(tmp_path), ROWS.row(row), {})
    base = resolve(load_profile("demo"), ROWS.row(row), {})
    named = {"pretrain.epochs": 9 if row == "simclr" else 2, "finetune.optimizer.base_lr": 0.5}
    if ROWS.row(row).views == "random_resized_crop":
        named["views.scale"] = 0.33
    assert ours.recipe == resolve(load_profile("demo"), ROWS.row(row), named).recipe
    assert {path for path in ours.origins if ours.origins[path] != base.origins[path]} == named.keys()


def test_origins_name_the_profile_that_a_value_stands_in(tmp_path: Path) -> None:
    origins = resolve(profile(tmp_path), ROWS.row("simclr"), {}).origins
    assert origins["pretrain.epochs"] == "profile mine, objective simclr"
    assert origins["pretrain.batch_size"] == "profile demo"
    assert origins["finetune.optimizer.base_lr"] == "profile mine"
    assert origins["objective.temperature"] == "profile demo, objective simclr"
    assert origins["views.scale"] == "profile mine, view random_resized_crop"


def test_sections_of_the_other_on_one_objective_win_over_own_defaults(tmp_path: Path) -> None:
    text = PROFILE.replace("pretrain: {epochs: 2}", "pretrain: {optimizer: {base_lr: 0.123}}")
    rates = {
        row: resolve(profile(tmp_path, text), ROWS.row(row), {}).recipe.model_dump()["pretrain"]["optimizer"]["base_lr"]
        for row in ("byol", "simclr")
    }
    assert rates == {"byol": 0.123, "simclr": 0.24}  # demo has a rate of its own for SimCLR


def test_seeds_and_data_are_not_the_others(tmp_path: Path) -> None:
    assert load_profile("demo").synthetic is not None
    assert (profile(tmp_path).seeds, profile(tmp_path).synthetic) == ((3, 4), None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dmo", "did you mean 'demo'"),
        ("demo.yaml", "the name of a shipped profile, not a file"),
        ("study_photos", "Extend 'demo' and repeat what 'study_photos' changes"),
    ],
)
def test_what_cannot_be_extended(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve(profile(tmp_path, PROFILE.replace("extends: demo", f"extends: {name}")), ROWS.row("byol"), {})
    assert said in str(error.value)


def test_a_changed_copy_is_resolved_as_changed(tmp_path: Path) -> None:
    ours = profile(tmp_path)
    assert resolve(ours, ROWS.row("byol"), {}).recipe.image_size == 64
    copy = ours.model_copy(update={"defaults": ours.defaults | {"image_size": 48}})
    assert resolve(copy, ROWS.row("byol"), {}).recipe.image_size == 48
