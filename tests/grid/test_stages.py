"""Two stages: what the first one is, who shares it, and who skips the second."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.cells.published import published_numbers
from analysis.cells.remarks import caption_notes
from analysis.cells.stale import refuse_mixed_seeds, stale_settings
from suite.errors import UsageError
from suite.grid.cell_jobs import CellJobs, jobs_of
from suite.grid.cells import Cell, Selection, cells
from suite.grid.profile import load_profile
from suite.grid.recipe import own_first_stage
from suite.grid.spec import GridSpec, Row, load_grid
from suite.jobs.identity import Job
from suite.kinds.pretrain import PretrainSpec
from suite.store.cells import record_of

GRID = load_grid("paper_table2")
DEMO = load_profile("demo")
PRINTS = {name: name * 8 for name in (*GRID.datasets, "coco")}
DETECTORS = {"masks": ("1", None)}
FACTS = {name: {"describe": name, "subset": False, "synthetic": False} for name in PRINTS}


def chosen(**selection: Any) -> list[Cell]:
    return cells(GRID, DEMO, Selection(**selection))


def jobs(cell: Cell) -> CellJobs:
    return jobs_of(cell, PRINTS, DETECTORS)


def chain(cell: Cell) -> tuple[Job, ...]:
    """The stages and the fine-tuning at their end."""
    found = jobs(cell)
    return (*found.stages, found.finetune)


def test_the_rows_are_the_posters() -> None:
    numbers = published_numbers("paper_table2")
    assert {row for row, _ in numbers} == {row.name for row in GRID.rows}
    assert [row.name for row in GRID.rows if not row.stage2] == ["simclr", "moco_v2_stage1", "byol_stage1"]


def test_a_first_stage_is_trained_once_for_all_datasets_and_rows_of_its_objective() -> None:
    everything = [chain(cell) for cell in chosen()]
    assert len(everything) == 44
    first = {job[0].key: job[0] for job in everything}
    assert sorted(job.name for job in first.values()) == [
        f"pretrain {objective} coco s0"
        for objective in ("byol", "insloc", "looc", "moco_v2", "rel_loc", "rot_pred", "simclr")
    ]
    # 7 first stages, 8 rows x 4 with a second one, 44 fine-tunings
    assert len({job.key for stages in everything for job in stages}) == 7 + 32 + 44


def test_the_first_stage_is_the_plain_method_and_the_second_the_rows() -> None:
    first, second, finetune = chain(chosen(only="byol_cvsa/cub")[0])
    assert isinstance(first.spec, PretrainSpec)
    assert isinstance(second.spec, PretrainSpec)
    assert (first.spec.data.name, first.spec.views.name) == ("coco", "random_resized_crop")
    assert first.spec.alignment is None
    assert first.spec.saliency is None
    assert first.spec.init is None
    assert (second.spec.data.name, second.spec.views.name) == ("cub", "saliency_swap")
    assert second.spec.alignment is not None
    assert (second.spec.init, finetune.spec.init) == (first.key, second.key)


def test_without_a_second_stage_the_first_is_fine_tuned_directly() -> None:
    first, finetune = chain(chosen(only="byol_stage1/cub")[0])
    assert first.spec.data.name == "coco"
    assert finetune.spec.init == first.key


def test_a_pretraining_after_coco_is_another_job_than_one_from_scratch() -> None:
    scratch = cells(load_grid("paper_table1"), DEMO, Selection(only="byol/cub"))[0]
    _, second, _ = chain(chosen(only="byol/cub")[0])
    assert second.key != jobs(scratch).jobs[0].key


def test_set_reaches_both_stages_unless_it_names_the_first() -> None:
    plain = chain(chosen(only="byol/cub")[0])
    both = chain(chosen(only="byol/cub", overrides={"pretrain.epochs": 2})[0])
    first = chain(chosen(only="byol/cub", overrides={"stage1.pretrain.epochs": 2})[0])
    epochs = [[job.spec.train.epochs for job in stages[:2]] for stages in (plain, both, first)]
    assert epochs[1] == [2, 2]
    assert epochs[2] == [2, epochs[0][1]]
    with pytest.raises(UsageError, match=r"did you mean 'stage1\.pretrain\.epochs'"):
        chosen(only="byol/cub", overrides={"stage1.pretrain.epoch": 2})


OWN = load_grid("first_stages")


def own_jobs(**selection: Any) -> dict[str, CellJobs]:
    return {cell.row.name: jobs(cell) for cell in cells(OWN, DEMO, Selection(datasets=("cub",), **selection))}


def test_an_own_first_stage_has_the_rows_views_and_alignment_on_the_first_stages_images() -> None:
    of = own_jobs()
    plain, own = of["byol_cvsa"].stages, of["byol_cvsa_own"].stages
    assert (plain[0].name, own[0].name) == ("pretrain byol coco s0", "pretrain byol_cvsa coco s0")
    assert isinstance(own[0].spec, PretrainSpec)
    assert (own[0].spec.data.name, own[0].spec.views.name, own[0].spec.init) == ("coco", "saliency_swap", None)
    assert own[0].spec.alignment is not None
    assert own[0].spec.saliency is not None  # so that only this row's first stage reads maps of COCO
    assert plain[0].spec.saliency is None
    assert plain[1].key != own[1].key
    assert own[1].spec.init == own[0].key


def test_rows_with_equal_own_first_stages_share_them_and_plain_ones_are_those_of_the_paper_table() -> None:
    of = own_jobs()
    assert of["byol_cvsa_stage1"].stages[0].key == of["byol_cvsa_own"].stages[0].key
    assert [job.key for job in of["byol_cvsa"].stages] == [
        job.key for job in jobs(chosen(only="byol_cvsa/cub")[0]).stages
    ]
    assert len({item.stages[0].key for item in of.values()}) == 2


def test_set_first_stage_changes_the_rows_whose_method_differs_from_the_plain_one() -> None:
    overrides = {"first_stage": "own"}
    rows = {cell.row.name: (cell, jobs(cell)) for cell in chosen(datasets=("cub",), overrides=overrides)}
    plain = {cell.row.name: jobs(cell) for cell in chosen(datasets=("cub",))}
    other = {name for name, (_, item) in rows.items() if item.stages[0].key != plain[name].stages[0].key}
    assert other == {"byol_cvsa", "byol_dilo"}
    assert rows["byol_cvsa"][1].stages[0].key == own_jobs()["byol_cvsa_own"].stages[0].key
    back = {cell.row.name: jobs(cell).stages[0].key for cell in cells(
        OWN, DEMO, Selection(datasets=("cub",), overrides={"first_stage": "plain"}))}  # fmt: skip
    assert len(set(back.values())) == 1
    record = record_of(rows["byol_cvsa"][1], "demo", overrides, FACTS)
    assert (record.first_stage, record.trained_with, record.set) == ("own", ("masks",), overrides)
    for item in (rows["byol"][1], plain["byol_cvsa"]):
        assert "first_stage" not in record_of(item, "demo", {}, FACTS).as_json()


def test_mistakes_with_first_stages() -> None:
    with pytest.raises(UsageError, match="'owm': did you mean 'own'"):
        chosen(overrides={"first_stage": "owm"})
    with pytest.raises(UsageError, match="did you mean 'first_stage'"):
        chosen(overrides={"frist_stage": "own"})
    with pytest.raises(UsageError, match="none of the selected rows has a first stage"):
        cells(load_grid("paper_table1"), DEMO, Selection(overrides={"first_stage": "own"}))
    with pytest.raises(ValueError, match="'x' has `first_stage: own` but no first stage"):
        Row(name="x", label="x", method="x", objective="byol", first_stage="own")


def test_a_grid_gives_its_first_stage_to_the_rows_that_state_none() -> None:
    row = {"name": "a", "label": "a", "method": "a", "objective": "byol"}
    rows = [row, {**row, "name": "b", "stage1": "coco"}, {**row, "name": "c", "stage1": "coco", "first_stage": "plain"}]
    content = {"name": "g", "title": "t", "datasets": ["cub"], "reference_row": "a", "first_stage": "own", "rows": rows}
    assert [row.first_stage for row in GridSpec.model_validate(content).rows] == ["plain", "own", "plain"]


def test_a_checkpoint_of_the_command_line_replaces_plain_first_stages_alone() -> None:
    selected = cells(OWN, DEMO, Selection(datasets=("cub",), checkpoints={"byol": "byol.pth"}))
    assert {cell.row.name: cell.checkpoint for cell in selected} == {
        "byol_stage1": "byol.pth", "byol_cvsa_stage1": None, "byol": "byol.pth", "byol_cvsa": "byol.pth",
        "byol_cvsa_own": None,
    }  # fmt: skip
    row = GRID.row("byol").model_copy(update={"first_stage": "own", "set": {"finetune.epochs": 3}})
    assert not own_first_stage(row)  # no pretraining reads that setting
    assert own_first_stage(row.model_copy(update={"set": {"objective.tau_base": 0.9}}))
    with pytest.raises(UsageError, match="replaces first stages of plain objectives"):
        cells(OWN, DEMO, Selection(only="byol_cvsa_own/cub", checkpoints={"byol": "byol.pth"}))


def test_a_first_stage_of_another_method_than_the_grids_makes_a_cell_stale() -> None:
    row, item = OWN.row("byol_cvsa_own"), own_jobs()["byol_cvsa_own"]
    record = record_of(item, "demo", {}, FACTS)
    assert stale_settings(row, DEMO, record) == []
    plain = row.model_copy(update={"first_stage": "plain"})
    assert "first_stage own, now plain" in stale_settings(plain, DEMO, record)
    assert stale_settings(plain, DEMO, record.model_copy(update={"set": {"first_stage": "own"}})) == []
    with pytest.raises(UsageError, match="by the plain objective and by the row's own method"):
        refuse_mixed_seeds("g", [record, record.model_copy(update={"first_stage": None, "seed": 1})])


def test_captions_state_the_method_of_first_stages() -> None:
    records = [record_of(item, "demo", {}, FACTS) for item in own_jobs().values()]
    (note,) = [note for note in caption_notes(OWN, records) if "first stage" in note]
    assert note.startswith("Method of the first stage of BYOL+CVSA, own stage 1: the row's own, with its views and")
    assert note.endswith("of the other rows the objective with its plain views, without alignment (first_stage: plain)")
    plain = [record_of(jobs(cell), "demo", {}, FACTS) for cell in chosen(datasets=("cub",))]
    (note,) = [note for note in caption_notes(GRID, plain) if "first stage" in note]
    assert note.startswith("Method of the first stage: the objective with its plain views")
