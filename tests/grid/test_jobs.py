"""Cells and keys: what enters a key, what does not, and what a mistake is told."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.cells.published import published_numbers
from suite.errors import UsageError
from suite.grid.cell_jobs import CellJobs, jobs_of
from suite.grid.cells import Cell, Selection, cells, parse_overrides
from suite.grid.profile import Profile, load_profile
from suite.grid.recipe import Row, resolve
from suite.grid.spec import EXPERIMENTS, GridSpec, load_grid
from suite.jobs.identity import content_key
from suite.kinds.background import BackgroundSpec
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.localisation import LocalisationSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.probe import ProbeSpec
from suite.kinds.registry import parse_spec

GRID = load_grid("paper_table1")
DEMO = load_profile("demo")
TESTS = ["localisation", "background"]
READY = ("random", "byol", "byol_cvsa")
DETECTORS = {"masks": ("1", None), "u2netp": ("1", "w")}


def demo_cells(**selection: Any) -> list[Cell]:
    return cells(GRID, DEMO, Selection(**{"methods": READY, **selection}))


def jobs(cell: Cell) -> CellJobs:
    return jobs_of(cell, dict.fromkeys(GRID.datasets, "f" * 64), DETECTORS)


def test_a_cell_is_pretraining_then_fine_tuning_and_random_only_the_latter() -> None:
    by_row = {cell.row.name: jobs(cell).jobs for cell in demo_cells(datasets=("cub",))}
    assert [job.spec.kind for job in by_row["random"]] == ["finetune", "probe", *TESTS]
    assert [job.spec.kind for job in by_row["byol"]] == ["pretrain", "finetune", "probe", *TESTS]
    first, tuned, probe, localisation, background = by_row["byol_cvsa"]
    for job in (tuned, probe):
        assert isinstance(job.spec, FinetuneSpec | ProbeSpec)
        assert job.spec.init == first.key
        assert job.parents == (first,)
    assert isinstance(localisation.spec, LocalisationSpec)
    assert isinstance(background.spec, BackgroundSpec)
    assert (localisation.spec.init, localisation.spec.finetune) == (first.key, tuned.key)
    assert background.spec.finetune == tuned.key
    assert (localisation.parents, background.parents) == ((first, tuned), (tuned,))


def test_the_row_is_a_combination() -> None:
    specs = {c.row.name: jobs(c).jobs[0].spec for c in demo_cells(datasets=("cub",))}
    byol, cvsa = specs["byol"], specs["byol_cvsa"]
    assert isinstance(byol, PretrainSpec)
    assert isinstance(cvsa, PretrainSpec)
    assert byol.objective == cvsa.objective
    assert (byol.views.name, cvsa.views.name) == ("random_resized_crop", "saliency_swap")
    assert byol.alignment is None
    assert byol.saliency is None
    assert cvsa.alignment is not None
    assert cvsa.saliency is not None


@given(st.randoms(use_true_random=False))
def test_key_does_not_depend_on_order_or_number_types(rng: random.Random) -> None:
    spec = jobs(demo_cells(datasets=("cub",))[-1]).jobs[0].spec

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(name, shuffled(inner)) for name, inner in value.items()]
            rng.shuffle(items)
            return dict(items)
        if isinstance(value, list):
            return [shuffled(inner) for inner in value]
        if isinstance(value, float) and value.is_integer():
            return int(value)  # 1.0 in one YAML file, 1 in another
        return value

    text = json.dumps(shuffled(spec.model_dump(mode="json")), indent=rng.choice([None, 1, 4]))
    assert content_key(parse_spec(json.loads(text))) == content_key(spec)


@pytest.mark.parametrize(
    "change",
    ["pretrain.epochs=9", "views.scale=0.5", "alignment.scale=4", "objective.tau_base=0.9", "saliency.threshold=0.4"],
)
def test_key_changes_with_every_part_of_the_recipe(change: str) -> None:
    plain = demo_cells(datasets=("cub",), methods=("byol_cvsa",))[0]
    changed = demo_cells(datasets=("cub",), methods=("byol_cvsa",), overrides=parse_overrides([change]))[0]
    a, b = jobs(plain).jobs, jobs(changed).jobs
    assert a[0].key != b[0].key
    assert a[1].key != b[1].key  # and through the parent, the fine-tuning's


def test_fine_tuning_recipe_does_not_touch_pretraining() -> None:
    plain = demo_cells(datasets=("cub",), methods=("byol",))[0]
    changed = demo_cells(datasets=("cub",), methods=("byol",), overrides={"finetune.epochs": 3})[0]
    assert jobs(plain).jobs[0].key == jobs(changed).jobs[0].key
    assert jobs(plain).jobs[1].key != jobs(changed).jobs[1].key


def test_key_changes_with_seed_data_and_code_version() -> None:
    cell = demo_cells(datasets=("cub",), methods=("byol",))[0]
    spec = jobs(cell).jobs[0].spec
    other_seed = demo_cells(datasets=("cub",), methods=("byol",), seeds=(1,))[0]
    keys = {
        content_key(spec),
        content_key(jobs(other_seed).jobs[0].spec),
        content_key(jobs_of(cell, {"cub": "0" * 64}, DETECTORS).jobs[0].spec),
        content_key(spec.model_copy(update={"version": 99})),
    }
    assert len(keys) == 4


def test_key_is_stable() -> None:
    """A change of this value means that every finished job of every user is trained again: make it on purpose."""
    spec = FinetuneSpec.model_validate(
        {
            "data": {"name": "cub", "fingerprint": "0", "store_size": 72},
            "image_size": 48,
            "backbone": {"arch": "resnet10", "width": 16, "stem": "small"},
            "train": {
                "epochs": 1,
                "batch_size": 2,
                "crop_scale": 0.5,
                "eval_resize": 1.143,
                "optimizer": {"name": "sgd", "base_lr": 0.1, "weight_decay": 0},
            },
            "seed": 0,
            "init": None,
        }
    )
    assert content_key(spec) == "1efb6d9e5401115c5f26"


def test_seeds_and_only() -> None:
    assert len(demo_cells()) == 12
    assert len(demo_cells(seeds=(0, 1, 2))) == 36
    assert [cell.id for cell in demo_cells(only="byol/cub")] == ["byol/cub/0"]
    assert [cell.id for cell in demo_cells(only="byol/cub/1", seeds=(0, 1))] == ["byol/cub/1"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"methods": ("byol_csva",)}, "did you mean 'byol_cvsa'"),
        ({"datasets": ("cubs",)}, "did you mean 'cub'"),
        ({"only": "byol/cup"}, "did you mean 'byol/cub/0'"),
        ({"overrides": {"pretrain.epoch": 1}}, "did you mean 'pretrain.epochs'"),
        ({"overrides": {"pretrain.epochs": "many"}}, "pretrain.epochs"),
        ({"overrides": {"views.scale": 2}}, "less than or equal to 1"),
    ],
)
def test_mistakes_name_the_nearest_match(selection: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        demo_cells(**selection)


def test_every_value_of_a_recipe_has_an_origin() -> None:
    resolved = resolve(DEMO, GRID.row("byol_cvsa"), {"pretrain.epochs": 3})
    assert resolved.origins["pretrain.epochs"] == "--set"
    assert resolved.origins["image_size"] == "profile demo"
    assert resolved.origins["views.scale"] == "profile demo, view saliency_swap"
    assert resolved.origins["objective.tau_base"] == "profile demo, objective byol"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"objective": None, "alignment": True, "stage2": False}, "no objective"),
        ({"objective": "byol", "stage2": False}, "no stage"),
    ],
)
def test_rows_that_make_no_sense_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Row(name="x", label="X", method="x", **row)


@pytest.mark.parametrize(
    ("row", "message"),
    [({"objective": "byoll"}, "did you mean 'byol'"), ({"views": "saliency_swop"}, "did you mean 'saliency_swap'")],
)
def test_unknown_blocks_name_the_nearest_match(row: dict[str, Any], message: str) -> None:
    made = Row(**{"name": "x", "label": "X", "method": "x", "objective": "byol", **row})
    grid = GridSpec(name="g", title="t", datasets=("cub",), reference_row="x", rows=(made,))
    with pytest.raises(UsageError, match=message):
        cells(grid, DEMO, Selection())


def test_alignment_needs_masks() -> None:
    row = Row(name="x", label="X", method="x", objective="byol", alignment=True)
    grid = GridSpec(name="g", title="t", datasets=("cub",), reference_row="x", rows=(row,))
    with pytest.raises(UsageError, match="needs views with masks"):
        jobs(cells(grid, DEMO, Selection())[0])


def test_cast_needs_masks() -> None:
    row = Row(name="x", label="X", method="x", objective="cast")
    grid = GridSpec(name="g", title="t", datasets=("cub",), reference_row="x", rows=(row,))
    message = r"'cast' needs views with masks, and 'random_resized_crop' has none.*views: cast_crop in the grid"
    with pytest.raises(UsageError, match=message):
        jobs(cells(grid, DEMO, Selection())[0])


@pytest.mark.parametrize("objective", ["byol", "simclr", "simsiam", "moco_v2"])
def test_alignment_attaches_to_objectives_with_maps(objective: str) -> None:
    row = Row(name="x", label="X", method="x", objective=objective, views="saliency_swap", alignment=True)
    grid = GridSpec(name="g", title="t", datasets=("cub",), reference_row="x", rows=(row,))
    spec = jobs(cells(grid, DEMO, Selection())[0]).stages[0].spec
    assert isinstance(spec, PretrainSpec)
    assert spec.alignment is not None


@pytest.mark.parametrize("objective", ["rot_pred", "rel_loc", "looc", "insloc"])
def test_alignment_is_refused_beside_other_objectives(objective: str) -> None:
    row = Row(name="x", label="X", method="x", objective=objective, views="saliency_swap", alignment=True)
    grid = GridSpec(name="g", title="t", datasets=("cub",), reference_row="x", rows=(row,))
    with pytest.raises(
        UsageError, match=f"'{objective}' computes none. Objectives that do: byol, simclr, simsiam, moco_v2"
    ):
        jobs(cells(grid, DEMO, Selection())[0])


def test_grid_files_with_mistakes(tmp_path: Any) -> None:
    text = yaml.safe_load((EXPERIMENTS / "grids" / "paper_table1.yaml").read_text("utf-8"))
    for change, message in (
        ({"titel": "x"}, "did you mean 'title'"),
        ({"reference_row": "BYOL"}, "reference_row 'BYOL'"),
        ({"datasets": ["cubs"]}, "did you mean 'cub'"),
        ({"rows": [*text["rows"], text["rows"][0]]}, "must be unique"),
    ):
        path = tmp_path / "g.yaml"
        path.write_text(yaml.safe_dump({**text, **change}), "utf-8")
        with pytest.raises(UsageError, match=message):
            load_grid(str(path))
    with pytest.raises(UsageError, match="did you mean 'paper_table1'"):
        load_grid("paper_tabel1")


def test_profiles_share_their_structure() -> None:
    profiles: list[Profile] = [load_profile(name) for name in ("demo", "small", "paper")]
    assert {frozenset(p.objectives) for p in profiles} == {frozenset(profiles[0].objectives)}
    assert {frozenset(p.views) for p in profiles} == {frozenset(profiles[0].views)}


def test_published_numbers_are_the_posters() -> None:
    numbers = published_numbers("paper_table1")
    assert len(numbers) == 40
    assert numbers["byol_cvsa", "cub"] == 66.88
    assert {row for row, _ in numbers} == {row.name for row in GRID.rows}
    assert len(published_numbers("paper_table2")) == 44
