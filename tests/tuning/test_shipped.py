"""Studies that the suite ships, and choices that set several fields together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from suite.cli.select import SelectorOptions
from suite.errors import UsageError
from suite.grid.cells import Cell, Selection, cells
from suite.grid.profile import Profile, load_profile
from suite.grid.spec import load_grid
from suite.grid.validate import validated
from suite.kinds.pretrain import PretrainSpec
from suite.tuning.request import Tuning, TuningRequest
from suite.tuning.shipped import load_space, shipped_spaces
from suite.tuning.space import checked_space, parse_space, recipe_parameters


def chosen(method: str = "byol") -> list[Cell]:
    return cells(load_grid("paper_table1"), load_profile("paper"), Selection(("cub",), (method,), seeds=(0,)))


@pytest.mark.parametrize("name", shipped_spaces())
@pytest.mark.parametrize("profile", ["paper", "small", "demo"])
def test_every_shipped_study_fits_its_grid_in_every_profile(name: str, profile: str) -> None:
    space = load_space(name)
    grid = load_grid(space.grid)
    plain = cells(grid, load_profile(profile), Selection(space.datasets, space.methods, seeds=space.seeds))
    parameters = checked_space((*recipe_parameters(space.recipes, plain), *parse_space(space.params, plain)))
    assert len(plain) == len(space.methods) * len(grid.datasets)
    points = [parameter.overrides(value) for parameter in parameters for value in parameter.grid()]
    assert len(points) == space.trials
    recipes = [
        cells(grid, load_profile(profile), Selection((), space.methods, seeds=(0,), overrides=point))[0].recipe
        for point in points
    ]
    assert len({recipe.model_dump_json() for recipe in recipes}) == 3


def test_the_recipes_are_those_of_the_sources() -> None:
    byol, rate = load_space("byol").recipes["byol_recipe"], load_space("finetune_rate").recipes["finetune_rate"]
    short = [
        (v["pretrain.optimizer.name"], v["pretrain.optimizer.base_lr"], v["objective.tau_base"]) for v in byol.values()
    ]
    assert short == [("lars", 0.3, 0.99), ("lars", 0.4, 0.996), ("adam", 0.001, 0.996)]
    assert [v["objective.tau_schedule"] for v in byol.values()] == ["cosine", "cosine", "constant"]
    assert [v["finetune.optimizer.base_lr"] for v in rate.values()] == [0.01, 0.03, 0.1]
    assert load_space("finetune_rate").methods == ("random",)


def test_the_current_choice_is_known_where_the_profile_has_its_values() -> None:
    (parameter,) = recipe_parameters(load_space("byol").recipes, chosen())
    assert parameter.current(chosen()) == "LARS 0.3, tau 0.99"
    assert ":" not in parameter.text
    assert set(parameter.fields) >= {"pretrain.optimizer.name", "objective.tau_base"}
    (other,) = recipe_parameters({"a": {"x": {"finetune.epochs": 7}, "y": {"finetune.epochs": 8}}}, chosen())
    assert other.current(chosen()) is None


def test_mistakes_in_recipes_are_named() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'objective\.tau_base'"):
        recipe_parameters({"a": {"x": {"objective.tau_bas": 1}, "y": {"objective.tau_bas": 0}}}, chosen())
    with pytest.raises(UsageError, match="expected two choices at least, found 1"):
        recipe_parameters({"a": {"x": {"finetune.epochs": 7}}}, chosen())
    with pytest.raises(UsageError, match="did you mean 'byol'"):
        load_space("byoll")
    doubled = recipe_parameters({"a": {"x": {"finetune.epochs": 7}, "y": {"finetune.epochs": 8}}}, chosen())
    with pytest.raises(
        UsageError, match=r"expected each field once, got several --param or recipes for finetune.epochs[.]"
    ):
        checked_space((*doubled, *parse_space(["finetune.epochs=2:9"], chosen())))


def tuning(drawn: Path, runs: Path, profile: Path) -> Tuning:
    space = load_space("byol")
    select = SelectorOptions("paper_table1", str(profile), drawn, runs, ["cub"], ["byol"], None, "0", None)
    request = TuningRequest(trials=3, **space.request)
    return Tuning(select.plan(obtain_inputs=False), load_grid("paper_table1"), select.selection, str(profile), request)


def test_a_trial_of_a_recipe_has_all_of_its_fields_and_the_best_one_becomes_a_profile(
    drawn: Path, tmp_path: Path, tiny_profile: Path
) -> None:
    study = tuning(drawn, tmp_path, tiny_profile)
    best = {"byol_recipe": "Adam 0.001, tau fixed at 0.996"}
    spec = study.jobs(best).jobs[0].spec
    assert isinstance(spec, PretrainSpec)
    assert (spec.train.optimizer.name, spec.train.optimizer.base_lr) == ("adam", 0.001)
    assert spec.objective.args.model_dump()["tau_schedule"] == "constant"
    assert study.facts["space"] == {"byol_recipe": study.space[0].text}
    text = study.profile(best, "note", "header")
    assert text is not None
    profile = validated(Profile, yaml.safe_load(text), "best.yaml")
    assert profile.objectives["byol"]["objective"] == {
        **yaml.safe_load(tiny_profile.read_text())["objectives"]["byol"]["objective"],
        "tau_base": 0.996, "tau_schedule": "constant",
    }  # fmt: skip
