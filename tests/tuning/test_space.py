"""`--param`: what is accepted, what it stands for, and what a mistake is told."""

from __future__ import annotations

import pytest
import yaml

from suite.errors import UsageError
from suite.grid.cells import Cell, Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import EXPERIMENTS, load_grid
from suite.tuning.space import Parameter, current_values, grid_points, parse_space


def chosen(grid: str = "paper_table1", *methods: str) -> list[Cell]:
    return cells(load_grid(grid), load_profile("demo"), Selection(("cub",), methods or ("byol_cvsa",)))


def parse(text: str, *methods: str) -> Parameter:
    (parameter,) = parse_space([text], chosen("paper_table1", *methods))
    return parameter


def test_ranges_and_choices() -> None:
    plain = parse("views.scale=0.08:0.8")
    assert (plain.low, plain.high, plain.log, plain.step, plain.ends) == (0.08, 0.8, False, None, (0.08, 0.8))
    assert parse("finetune.optimizer.base_lr=0.01:1:log").log
    whole = parse("pretrain.epochs=2:10:3")
    assert (whole.whole, whole.high, whole.grid()) == (True, 8, (2, 5, 8))
    assert all(isinstance(value, int) for value in whole.grid())
    assert parse("alignment.mask=soft,binary").choices == ("soft", "binary")
    assert parse("alignment.symmetric=true,false").choices == (True, False)
    assert parse("finetune.optimizer.base_lr=1e-3, 1").choices == (0.001, 1.0)


def test_a_bare_field_takes_its_range_from_the_posters_figure() -> None:
    scale = parse("views.scale")
    assert (scale.low, scale.high, scale.step) == (0.08, 0.8, 0.01)
    assert scale.grid() == (0.08, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    assert scale.holds(0.4)
    assert not scale.holds(0.405)
    assert scale.value(0.08 + 27 * 0.01) == 0.35  # not 0.35000000000000003, which would be another job
    with pytest.raises(UsageError, match=r"views.flip_p needs values.*It is 0.5 now.*views.scale"):
        parse("views.flip_p")


def test_every_range_of_its_own_is_valid() -> None:
    fields = list(yaml.safe_load((EXPERIMENTS / "search_spaces.yaml").read_text("utf-8")))
    assert "views.scale" in fields
    for parameter in parse_space(fields, chosen()):
        assert all(parameter.holds(value) for value in parameter.grid())
        for value in parameter.ends:
            cells(load_grid("paper_table1"), load_profile("demo"),
                  Selection(("cub",), ("byol_cvsa",), overrides={parameter.field: value}))  # fmt: skip


def test_grids_are_every_combination() -> None:
    space = parse_space(["views.scale=0.2:0.4:0.1", "alignment.mask"], chosen())
    points = grid_points(space)
    assert len(points) == 6
    assert points[:2] == [
        {"views.scale": 0.2, "alignment.mask": "soft"},
        {"views.scale": 0.2, "alignment.mask": "binary"},
    ]
    with pytest.raises(UsageError, match="needs a step or single values"):
        parse("views.scale=0.1:0.5").grid()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("views.scal=0.1:0.5", "unknown field in --param: 'views.scal': did you mean 'views.scale'"),
        ("views.scale=0.5:0.1", "expected LOW below HIGH, found 0.5 and 0.1"),
        ("views.scale=0:0.1:log", "needs LOW above 0"),
        ("views.scale=0.1:0.5:0.6", "expected a STEP above 0 and within the range"),
        ("views.scale=0.1:0.5:fast", "expected LOW:HIGH"),
        ("views.scale=0.1:nan", "expected LOW below HIGH"),
        ("views.scale=0.3", "two different values at least"),
        ("views.scale=[0.1],[0.2]", "single values"),
        ("alignment.mask=0:1", "alignment.mask is no number"),
        ("pretrain.epochs=1:2.5", "takes whole numbers"),
        ("finetune.held_out=0.1:0.5", "the held-out images cannot be tuned"),
        ("stage1.views.scale=0.1:0.5", "unknown field"),  # this grid has no first stage
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_a_field_of_the_first_stage_alone() -> None:
    both = chosen("paper_table2")
    (parameter,) = parse_space(["stage1.pretrain.epochs=2:9"], both)
    assert parameter.whole
    assert current_values("stage1.pretrain.epochs", both) == [both[0].stage1.recipe.pretrain.epochs]  # type: ignore[union-attr]
