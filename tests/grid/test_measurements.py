"""Localisation and background as jobs: what asks for them, what their keys depend on, what they cost."""

from __future__ import annotations

import pytest

from suite.errors import UsageError
from suite.grid.cell_jobs import CellJobs, jobs_of
from suite.grid.cells import Selection, cells, parse_overrides
from suite.grid.profile import Profile, load_profile
from suite.grid.spec import load_grid
from suite.jobs.changes import changes
from suite.jobs.identity import Job
from suite.kinds.background import BackgroundSpec
from suite.kinds.base import Size
from suite.kinds.localisation import LocalisationSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import kind_of, parse_spec
from suite.planning.costs import Costs, Machine, throughput_key
from suite.store.cells import record_of

GRID, DEMO = load_grid("paper_table1"), load_profile("demo")
DETECTORS = {"masks": ("1", None), "spectral": ("1", None)}


def planned(row: str, *overrides: str, masked: bool = True, profile: Profile = DEMO) -> CellJobs:
    selection = Selection(datasets=("cub",), methods=(row,), overrides=parse_overrides(overrides))
    (cell,) = cells(GRID, profile, selection)
    return jobs_of(cell, {"cub": "f" * 64}, DETECTORS, masked={"cub"} if masked else ())


def measuring(item: CellJobs) -> list[Job]:
    """The measurements that read the fine-tuned network."""
    return [job for job in item.protocols if job.spec.kind != "probe"]


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
    assert measuring(plain)[0].key != measuring(other)[0].key
    data = {"cub": {"describe": "", "subset": False, "synthetic": True}}
    assert record_of(plain, "demo", {}, data).trained_with == ()
    assert record_of(planned("byol_cvsa"), "demo", {}, data).trained_with == ("masks",)


def test_keys_follow_the_network_and_the_recipe_of_the_measurement_alone() -> None:
    plain = planned("byol")
    trained_longer = planned("byol", "finetune.epochs=16")
    assert {job.spec.kind for job in measuring(plain)} == {"localisation", "background"}
    assert not {job.key for job in measuring(plain)} & {job.key for job in measuring(trained_longer)}
    assert changes(measuring(plain)[1].spec, measuring(trained_longer)[1].spec) == ["the fine-tuned network changed"]
    finer = planned("byol", "localisation.thresholds=30")
    assert finer.finetune.key == plain.finetune.key
    assert measuring(finer)[0].key != measuring(plain)[0].key
    assert measuring(finer)[1].key == measuring(plain)[1].key
    for job in measuring(plain):
        assert parse_spec(job.spec.model_dump(mode="json")) == job.spec


def test_either_can_be_left_out() -> None:
    assert [job.spec.kind for job in measuring(planned("byol", "localisation=null"))] == ["background"]
    without = planned("byol", "localisation=null", "background=null")
    assert measuring(without) == []
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
    assert kind_of(looks).images(looks, size) == 2 * (100 + 210)
    assert kind_of(looks).images(looks, Size(60, 210, 14)) == 2 * (60 + 210)
    assert kind_of(exchanges).images(exchanges, size) == 5 * 210
    assert throughput_key(looks).startswith("localisation resnet10")
    costs = Costs([], Machine("cpu", 1), {"cub": size})
    for spec in (looks, exchanges):
        assert costs.bytes_of(spec) == 0
        assert 0 < costs.estimate(spec).seconds < costs.estimate(jobs["finetune"].spec).seconds


def test_retrieval_enters_the_key_of_a_probe_only_where_it_is_asked_for() -> None:
    probes = {
        name: by_kind(planned("byol", *overrides))["probe"]
        for name, overrides in {
            "without": (),
            "null": ("probe.retrieval=null",),
            "cosine": ("probe.retrieval=cosine",),
            "dot": ("probe.retrieval=dot",),
        }.items()
    }
    keys = {name: job.key for name, job in probes.items()}
    assert keys["without"] == keys["null"]
    assert len(set(keys.values())) == 3
    assert "retrieval" not in probes["without"].spec.model_dump()["probe"]
    assert parse_spec(probes["dot"].spec.model_dump(mode="json")) == probes["dot"].spec


def test_the_grid_beyond_measures_retrieval_in_every_row() -> None:
    grid = load_grid("beyond")
    selected = cells(grid, DEMO, Selection(datasets=("cub",)))
    assert {cell.recipe.probe and cell.recipe.probe.retrieval for cell in selected} == {"cosine"}
    (other,) = cells(grid, DEMO, Selection(only="byol/cub/0", overrides={"probe.retrieval": "dot"}))
    assert other.recipe.probe is not None
    assert other.recipe.probe.retrieval == "dot"
    assert other.resolved.origins["probe.knn.k"] == "profile demo"
