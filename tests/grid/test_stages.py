"""Two stages: what the first one is, who shares it, and who skips the second."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.cells.published import published_numbers
from suite.errors import UsageError
from suite.grid.cell_jobs import CellJobs, jobs_of
from suite.grid.cells import Cell, Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.jobs.identity import Job
from suite.kinds.pretrain import PretrainSpec

GRID = load_grid("paper_table2")
DEMO = load_profile("demo")
PRINTS = {name: name * 8 for name in (*GRID.datasets, "coco")}
DETECTORS = {"masks": ("1", None)}


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
