"""Fine-tuning with a share of the labels: which images, which key, and what is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.cli.select import SelectorOptions
from suite.data.decoded.split import labelled_positions
from suite.errors import UsageError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.grid.cell_jobs import CellJobs, jobs_of
from suite.grid.cells import Selection, cells, parse_overrides
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.kinds.base import Size
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.registry import kind_of, parse_spec
from suite.training.inputs import Inputs

CPU = Device(accelerator="cpu", threads=1)
DETECTORS = {"masks": ("1", None)}


def of_cell(grid: str, cell: str, *overrides: str) -> CellJobs:
    selection = Selection(only=cell, overrides=parse_overrides(overrides))
    (planned,) = cells(load_grid(grid), load_profile("demo"), selection)
    return jobs_of(planned, {"cub": "f" * 64}, DETECTORS, masked={"cub"})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 5))
def test_shares_are_balanced_over_classes_nested_and_a_function_of_the_seed(sizes: list[int], seed: int) -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    smaller: set[int] = set()
    for share in (0.01, 0.15, 0.3, 0.5, 1.0):
        positions = labelled_positions(labels, share, torch.Generator().manual_seed(seed))
        assert positions.tolist() == sorted(set(positions.tolist()))
        assert positions.tolist() == labelled_positions(labels, share, torch.Generator().manual_seed(seed)).tolist()
        assert smaller <= set(positions.tolist())
        smaller = set(positions.tolist())
        for label, size in enumerate(sizes):
            count = int((labels[positions] == label).sum())
            assert count >= 1
            assert abs(count - share * size) <= 1
    assert len(smaller) == len(labels)


def test_another_seed_samples_other_images() -> None:
    labels = torch.arange(200) % 4
    first, second = (labelled_positions(labels, 0.3, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 1))
    assert len(first) == len(second) == 60
    assert first != second


def test_pretraining_and_the_full_share_are_those_of_the_table() -> None:
    table = of_cell("paper_table1", "byol/cub/0")
    points = {share: of_cell("label_fractions", f"byol_{share}/cub/0") for share in ("0.15", "0.3", "0.5", "1")}
    for point in points.values():
        assert [job.key for job in point.stages] == [job.key for job in table.stages]
        assert not point.protocols  # frozen features do not depend on the share
    assert table.finetune is not None
    tuned = {share: point.finetune for share, point in points.items()}
    keys = [job.key for job in tuned.values() if job is not None]
    assert len(set(keys)) == 4
    assert keys[-1] == table.finetune.key
    assert "label_fraction" not in table.finetune.spec.model_dump()["train"]
    for job in tuned.values():
        assert job is not None
        assert parse_spec(job.spec.model_dump(mode="json")) == job.spec


def test_the_cost_follows_the_share() -> None:
    half = of_cell("label_fractions", "random_0.5/cub/0").finetune
    whole = of_cell("label_fractions", "random_1/cub/0").finetune
    assert half is not None
    assert whole is not None
    size = Size(train=640, test=100, classes=4)
    assert kind_of(half.spec).images(half.spec, size) * 2 == kind_of(whole.spec).images(whole.spec, size) > 0
    assert kind_of(half.spec).measured_images(half.spec, size) == 100


@pytest.mark.parametrize("share", ["0", "1.5", "-0.1"])
def test_a_share_lies_above_0_and_at_most_at_1(share: str) -> None:
    with pytest.raises(UsageError, match="label_fraction"):
        of_cell("paper_table1", "byol/cub/0", f"finetune.label_fraction={share}")


def test_only_the_share_is_read_also_to_choose_a_learning_rate(
    tmp_path: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [
        "finetune.label_fraction=0.5", "finetune.lr_candidates=[0.1, 0.4]", "finetune.held_out=0.25",
        "finetune.batch_size=4", "finetune.epochs=1",
    ]  # fmt: skip
    plan = SelectorOptions(
        "paper_table1", str(tiny_profile), drawn, tmp_path, ["cub"], ["random"], None, None, changes
    ).plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    read: dict[str, set[bytes]] = {}
    original = Inputs.train_and_test

    def spied(self: Inputs, *arguments: float):  # type: ignore[no-untyped-def]
        train, test, counts = original(self, *arguments)
        images = [train.image(index).numpy().tobytes() for index in range(len(train))]
        images += [test.image(index).numpy().tobytes() for index in range(len(test) if arguments[0] else 0)]
        read[f"{counts}"] = read.get(f"{counts}", set()) | set(images)
        return train, test, counts

    monkeypatch.setattr(Inputs, "train_and_test", spied)
    for job in plan.jobs:
        if job.spec.kind == "finetune":
            assert run_job(job, JobContext(RunPaths(tmp_path, plan.workspace.cache), CPU)).outcome == "done"
            assert isinstance(job.spec, FinetuneSpec)
    whole = read["{'n_train': 12, 'n_test': 12}"]  # 3 classes of 8, half of each
    assert len(whole) == 12
    assert read["{'n_train': 9, 'n_held_out': 3}"] == whole
