"""The loss is checked one step later, but before anything is written; skipped steps under 16-mixed are noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from suite.cli.select import SelectorOptions
from suite.errors import TrainingError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.store.store import Store
from suite.training.scalars import LossCheck, LossScale, StepScalars
from suite.training.session import Session


def loss(value: float) -> dict[str, Tensor]:
    return {"loss": torch.tensor(value)}


def test_the_step_that_became_infinite_is_named() -> None:
    check = LossCheck()
    check.add(torch.tensor(1.5), 3, 0.1)
    check.add(torch.tensor(float("inf")), 4, 0.2)
    with pytest.raises(TrainingError, match=r"became inf at step 4 \(learning rate 0.2\)"):
        check.add(torch.tensor(1.0), 5, 0.3)
    check.flush()  # said once


@pytest.mark.parametrize("reader", [StepScalars.check, StepScalars.take, StepScalars.state])
def test_nothing_is_written_after_a_loss_that_is_not_finite(reader: Any) -> None:
    scalars = StepScalars(Fabric(accelerator="cpu", devices=1))
    scalars.before_step(loss(float("nan")), 7, 0.5)
    scalars.after_step(loss(float("nan")))
    with pytest.raises(TrainingError, match="became nan at step 7"):
        reader(scalars)


@pytest.mark.parametrize("cell", ["byol/cub", "random/cub"])
@pytest.mark.parametrize("loaders", [0, 2])
def test_a_nan_leaves_neither_checkpoint_nor_weights(
    cell: str, loaders: int, tmp_path: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint after every step, the step after the NaN would write one, if it were not checked before."""
    plan = SelectorOptions("paper_table1", str(tiny_profile), drawn, tmp_path, None, None, cell, None, []).plan(
        obtain_inputs=False
    )
    prepare(plan.jobs, plan.datasets, drawn, tmp_path / "cache", lambda *_: None)
    job, store = plan.jobs[0], Store(tmp_path)
    saved: list[int] = []
    add, save = StepScalars.before_step, Session.save

    def spoilt(self: StepScalars, scalars: dict[str, Tensor], step: int, lr: float) -> None:
        add(self, loss(float("nan")) if step == 3 else scalars, step, lr)

    def recorded(self: Session, state: dict[str, Any]) -> None:
        saved.append(state["step"])
        save(self, state)

    monkeypatch.setattr(StepScalars, "before_step", spoilt)
    monkeypatch.setattr(Session, "save", recorded)
    device = Device("cpu", checkpoint_minutes=-1, loaders=loaders)
    end = run_job(job, JobContext(RunPaths(tmp_path, tmp_path / "cache"), device))
    assert (end.outcome, "became nan at step 3" in end.error) == ("failed", True)
    assert saved == [1, 2, 3]  # the states before step 3
    assert not list(store.checkpoint(job.key).glob("*.safetensors"))


class Precision:
    def __init__(self) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)


class HalfPrecision:
    """What `LossScale` reads of Fabric."""

    def __init__(self) -> None:
        self.strategy = cast(Any, type("Strategy", (), {"precision": Precision()})())


def test_skipped_steps_and_the_loss_scale_are_reported() -> None:
    fabric = HalfPrecision()
    scaler, scalars = fabric.strategy.precision.scaler, StepScalars(cast(Fabric, fabric))
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for step in range(4):
        value = weight * (float("inf") if step == 1 else 1.0)
        scaler.scale(value).backward()
        scalars.before_step(loss(1.0), step, 0.1)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scalars.after_step(loss(1.0))
    line = scalars.take()
    assert line == {"loss": 1.0, "skipped_steps": 0.25, "loss_scale": 512.0}
    assert scalars.doubts(line) == [
        "25 % of the last epoch's steps were skipped: gradients overflow in 16-mixed precision"
    ]
    assert LossScale.doubts({"skipped_steps": 0.02}) == []


def test_without_a_scaler_nothing_is_added() -> None:
    scalars = StepScalars(Fabric(accelerator="cpu", devices=1))
    scalars.before_step(loss(2.0), 0, 0.1)
    scalars.after_step(loss(2.0))
    assert scalars.take() == {"loss": 2.0}
