"""Batches that the devices cannot share evenly are refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli.select import SelectorOptions
from suite.errors import UsageError
from suite.jobs.identity import Job
from suite.planning.batches import refuse_uneven


def jobs(root: Path, methods: list[str]) -> list[Job]:
    """Of the paper's recipes: batches of 64 to 256, shuffle-BN in 8 groups."""
    plan = SelectorOptions("paper_table1", "paper", root, root / "runs", ["cub"], methods, None, None, []).plan(
        obtain_inputs=False
    )
    return [job for cell in plan.unready for job in cell.jobs]


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_what_can_be_shared_is_not_refused(devices: int, tmp_path: Path) -> None:
    refuse_uneven(jobs(tmp_path, ["byol_cvsa", "moco_v2", "looc", "random"]), devices)


def test_a_batch_that_cannot_be_shared_is_refused_with_what_to_type(tmp_path: Path) -> None:
    chosen = jobs(tmp_path, ["byol"])
    batch = next(job.spec.train.batch_size for job in chosen if job.spec.kind == "pretrain")
    with pytest.raises(
        UsageError, match=f"pretrain byol cub s0.*: a batch of {batch} images cannot be shared evenly by 7"
    ):
        refuse_uneven(chosen, 7)


def test_groups_of_shuffle_bn_are_whole(tmp_path: Path) -> None:
    chosen = [job for job in jobs(tmp_path, ["moco_v2"]) if job.spec.kind == "pretrain"]
    with pytest.raises(UsageError, match=r"in 8 groups \(bn_splits\), of which 16 devices.*objective.bn_splits=16"):
        refuse_uneven(chosen, 16)
