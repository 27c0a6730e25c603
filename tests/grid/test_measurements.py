"""Localisation and background as jobs: what asks for them, what their keys depend on, what they cost."""

from __future__ import annotations

import pytest

from suite.errors import UsageError
from suite.grid.cells import CellJobs, Selection, cells, jobs_of, parse_overrides
from suite.grid.changes import changes
from suite.grid.costs import Costs, Machine, Size, images_of, likeness
from suite.grid.jobs import BackgroundSpec, Job, LocalisationSpec, PretrainSpec, parse_spec
from suite.grid.recipe import Profile, load_profile
from suite.grid.spec import load_grid
from suite.store.ledger import _entry  # what a recorded cell says of itself

GRID, DEMO = load_grid("paper_table1"), load_profile("demo")
DETECTORS = {"masks": ("1", None), "spectral": ("1", None)}


def planned(row: str, *overrides: str, masked: bool = True, profile: Profile = DEMO) -> CellJobs:
    selection = Selection(datasets=("cub",), methods=(row,), overrides=parse_overrides(overrides))
    (cell,) = cells(GRID, profile, selection)
    return jobs_of(cell, {"cub": "f" * 64}, DETECTORS, masked={"cub"} if masked else ())


def by_kind(item: CellJobs) -> dict[str, Job]:
    return {job.spec.kind: job for job in item.jobs}


@pytest.mark.parametrize("row", ["random", "byol", "byol_cvsa"])
def test_every_row_is_measured_with_the_same_maps(row: str) -> None:
    jobs = by_kind(planned(row))
    looks, exchanges = jobs["localisation"].spec, jobs["background"].spec
    assert isinstance(looks, LocalisationSpec)
    assert isinstance(exchanges, BackgroundSpec)
    assert looks.saliency == exchanges.saliency
    assert looks.saliency.detector == "masks"
    assert looks.masks == looks.saliency
    jobs = by_kind(planned(row, "saliency.detector=spectral", masked=False))
    assert [jobs[kind].spec.saliency.detector for kind in ("localisation", "background")] == ["spectral"] * 2  # type: ignore[union-attr]
    assert jobs["localisation"].spec.masks is None  # type: ignore[union-attr]


def test_maps_for_measuring_do_not_reach_training() -> None:
    plain, other = planned("byol"), planned("byol", "saliency.detector=spectral")
    spec = plain.stages[0].spec
    assert isinstance(spec, PretrainSpec)
    assert spec.saliency is None
    assert [job.key for job in plain.stages] == [job.key for job in other.stages]
    assert plain.finetune.key == other.finetune.key
    assert plain.tests[0].key != other.tests[0].key
    data: dict[str, dict[str, object]] = {}
    assert _entry(plain, "demo", dict(data))["trained_with"] == []
    assert _entry(planned("byol_cvsa"), "demo", dict(data))["trained_with"] == ["masks"]


def test_keys_follow_the_network_and_the_recipe_of_the_measurement_alone() -> None:
    plain = planned("byol")
    trained_longer = planned("byol", "finetune.epochs=16")
    assert {job.spec.kind for job in plain.tests} == {"localisation", "background"}
    assert not {job.key for job in plain.tests} & {job.key for job in trained_longer.tests}
    assert changes(plain.tests[1].spec, trained_longer.tests[1].spec) == ["the fine-tuned network changed"]
    finer = planned("byol", "localisation.thresholds=30")
    assert finer.finetune.key == plain.finetune.key
    assert finer.tests[0].key != plain.tests[0].key
    assert finer.tests[1].key == plain.tests[1].key
    for job in plain.tests:
        assert parse_spec(job.spec.model_dump(mode="json")) == job.spec


def test_either_can_be_left_out() -> None:
    assert [job.spec.kind for job in planned("byol", "localisation=null").tests] == ["background"]
    without = planned("byol", "localisation=null", "background=null")
    assert without.tests == ()
    assert without.cell.recipe.saliency is None  # nothing reads it
    assert set(without.measured) == {"finetune", "probe"}
    assert set(planned("byol").measured) == {"finetune", "probe", "localisation", "background"}


def test_a_profile_that_measures_must_name_a_detector() -> None:
    defaults = {name: section for name, section in DEMO.defaults.items() if name != "saliency"}
    with pytest.raises(UsageError, match="expected a section saliency"):
        planned("random", profile=DEMO.model_copy(update={"defaults": defaults}))


def test_costs() -> None:
    jobs = by_kind(planned("byol"))
    looks, exchanges = jobs["localisation"].spec, jobs["background"].spec
    size = Size(train=560, test=210, classes=14)
    assert images_of(looks, size) == 2 * (100 + 210)
    assert images_of(looks, Size(60, 210, 14)) == 2 * (60 + 210)
    assert images_of(exchanges, size) == 5 * 210
    assert likeness(looks).startswith("localisation resnet10")
    costs = Costs([], Machine("cpu", 1), {"cub": size})
    for spec in (looks, exchanges):
        assert costs.bytes_of(spec) == 0
        assert 0 < costs.estimate(spec).seconds < costs.estimate(jobs["finetune"].spec).seconds
