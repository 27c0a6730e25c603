"""The linear classifier by SGD against NumPy, its schedule, and a killed run against a straight one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from analysis.page.tables import metric_page_table
from analysis.report import metric_tables
from analysis.tables.metrics_text import to_latex
from suite.cli.select import SelectorOptions
from suite.errors import UsageError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.jobs.identity import Job
from suite.kinds.linear_sgd import LinearSgdArgs, LinearSgdSpec
from suite.planning.plan import Plan, data_facts
from suite.store.cells import result_lines
from suite.store.ledger import read_cells, record_cells
from suite.training.evaluation import centre_crops
from suite.training.features import features
from suite.training.inputs import Inputs
from suite.training.linear_sgd import _classifier, _feed, learning_rate
from suite.training.networks import frozen_backbone
from suite.training.schedule import Batches, derived_seed
from suite.training.session import Session

CPU = Device(accelerator="cpu", threads=1)
SETTINGS = (
    "linear_sgd={epochs: 4, batch_size: 5, lr: 0.1, milestones: [1, 3], factor: 0.1, momentum: 0.9, "
    "weight_decay: 0.01, crop_scale: 0.5, eval_resize: 1.143}"
)


def planned(drawn: Path, runs: Path, profile: Path) -> tuple[Plan, Job]:
    chosen = SelectorOptions("paper_table1", str(profile), drawn, runs, ["cub"], ["random"], None, None, [SETTINGS])
    plan = chosen.plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    (job,) = (job for job in plan.jobs if job.spec.kind == "linear_sgd")
    return plan, job


def attempt(plan: Plan, job: Job, stop_at: int | None = None) -> str:
    looks = 0

    def should_stop() -> bool:
        nonlocal looks
        looks += 1
        return looks == stop_at

    paths = RunPaths(plan.workspace.runs, plan.workspace.cache)
    return run_job(job, JobContext(paths, CPU, should_stop)).outcome


def softmax_regression(
    batches: list[tuple[NDArray[Any], NDArray[Any]]], weight: NDArray[Any], per_epoch: int, args: LinearSgdArgs
) -> tuple[NDArray[Any], NDArray[Any], list[float]]:
    """Weights and bias after SGD with momentum in float64, and the loss of each step before it."""
    bias = np.zeros(len(weight))
    weight_moved, bias_moved = np.zeros_like(weight), np.zeros_like(bias)
    losses = []
    for step, (inputs, labels) in enumerate(batches):
        rate = args.lr
        for milestone in args.milestones:
            if step >= milestone * per_epoch:
                rate *= args.factor
        logits = inputs @ weight.T + bias
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        losses.append(float(-np.log(chances[np.arange(len(labels)), labels]).mean()))
        chances[np.arange(len(labels)), labels] -= 1
        weight_moved = args.momentum * weight_moved + chances.T @ inputs / len(labels) + args.weight_decay * weight
        bias_moved = args.momentum * bias_moved + chances.mean(axis=0) + args.weight_decay * bias
        weight = weight - rate * weight_moved
        bias = bias - rate * bias_moved
    return weight, bias, losses


def test_against_numpy(drawn: Path, tmp_path: Path, tiny_profile: Path) -> None:
    plan, job = planned(drawn, tmp_path, tiny_profile)
    assert attempt(plan, job) == "done"
    result, spec = plan.store.result(job.key), job.spec
    assert result is not None
    assert isinstance(spec, LinearSgdSpec)
    inputs, device = Inputs(spec, plan.workspace.cache, plan.store), torch.device("cpu")
    train, test = inputs.split("train"), inputs.split("test")
    backbone = frozen_backbone(spec, None, device)
    batches = Batches(len(train), 5, 4, derived_seed(spec.seed, "linear-sgd"), "linear_sgd")
    session = Session(tmp_path / "other", Fabric(accelerator="cpu", devices=1))
    read = []
    for _, views in _feed(spec, train, batches, session).steps():
        assert views.labels is not None
        with torch.no_grad():
            read.append((backbone.pooled(views.images[0]).double().numpy(), views.labels.numpy()))
    assert len(read) == 4 * (24 // 5)
    first = _classifier(backbone.dim, 3, spec.seed).weight.detach().double().numpy()
    weight, bias, losses = softmax_regression(read, first.copy(), batches.per_epoch, spec.linear_sgd)
    crops = centre_crops(test, spec.image_size, 1.143)
    pooled = features(backbone, crops, device).double().numpy()
    top1 = 100 * float(((pooled @ weight.T + bias).argmax(axis=1) == test.labels.numpy()).mean())
    assert result.metrics["top1"] == pytest.approx(top1)
    assert result.metrics["loss"] == pytest.approx(np.mean(losses[-batches.per_epoch :]), rel=1e-4)
    assert result.counts == {"n_train": 24, "n_test": 12}
    assert result.files == {}
    curve = plan.store.metrics(job.key)
    assert [line["lr"] for line in curve] == pytest.approx([0.1, 0.01, 0.01, 0.001])
    assert 0.5 < float(np.std(first)) / 0.01 < 1.5


def test_stopped_and_resumed_ends_in_the_same_numbers(drawn: Path, tmp_path: Path, tiny_profile: Path) -> None:
    straight, job = planned(drawn, tmp_path / "straight", tiny_profile)
    broken, _ = planned(drawn, tmp_path / "broken", tiny_profile)
    assert attempt(straight, job) == "done"
    # In the second epoch, at once after resuming, in the test pass after the last step; then to the end.
    ends = [attempt(broken, job, stop_at) for stop_at in (6, 1, 9, None)]
    assert ends == ["interrupted", "interrupted", "interrupted", "done"]
    once, again = straight.store.result(job.key), broken.store.result(job.key)
    assert once is not None
    assert again is not None
    assert once.metrics == again.metrics
    curves = [
        [
            {name: value for name, value in line.items() if name != "images_per_second"}
            for line in store.metrics(job.key)
        ]
        for store in (straight.store, broken.store)
    ]
    assert curves[0] == curves[1]
    log = (broken.store.folder(job.key) / "log.txt").read_text("utf-8")
    assert log.count("resuming at step") == 3


def test_the_profile_lcr_adds_measurements_and_trains_nothing_again() -> None:
    grid, chosen = load_grid("beyond"), Selection(datasets=("cub",), methods=("byol_cvsa",), seeds=(0,))
    ours, theirs = (cells(grid, load_profile(name), chosen)[0].recipe for name in ("paper", "lcr"))
    args = theirs.linear_sgd
    assert args is not None
    assert (args.epochs, args.lr, args.milestones, args.weight_decay) == (100, 30, (60, 80), 0)
    assert [learning_rate(args, epoch) for epoch in (0, 59, 60, 79, 80, 99)] == pytest.approx([30, 30, 3, 3, 0.3, 0.3])
    assert theirs.probe is not None
    assert (theirs.probe.knn and theirs.probe.knn.k, theirs.probe.retrieval) == (200, "cosine")  # the grid's own
    for section in ("pretrain", "finetune", "objective", "views", "alignment", "saliency", "backbone"):
        assert getattr(ours, section) == getattr(theirs, section)
    assert "linear_sgd" not in ours.model_dump()


def test_its_numbers_come_with_what_they_cannot_be_compared_with(
    drawn: Path, tmp_path: Path, tiny_profile: Path
) -> None:
    plan, job = planned(drawn, tmp_path, tiny_profile)
    assert attempt(plan, job) == "done"
    record_cells(plan.store, "tiny", {}, plan.cell_jobs, data_facts(plan))
    recorded = read_cells(tmp_path)
    lines = result_lines(plan.store, recorded)
    result = plan.store.result(job.key)
    assert result is not None
    assert [(line.protocol, line.metric, line.value, line.n) for line in lines] == [
        ("linear_sgd", "top1", result.metrics["top1"], 12)
    ]
    (table,) = metric_tables(plan.store, load_grid("paper_table1"), "tiny", recorded, lines)
    assert "best test epoch" in " ".join(table.notes)
    assert "best test epoch" in " ".join(to_latex(table).split())
    assert "best test epoch" in " ".join(metric_page_table(table).notes)


@pytest.mark.parametrize("milestones", [(80, 60), (60, 60), (60, 100)])
def test_milestones_ascend_and_lie_before_the_end(milestones: tuple[int, ...]) -> None:
    grid, profile = load_grid("beyond"), load_profile("lcr")
    with pytest.raises(UsageError, match="milestones that ascend"):
        cells(grid, profile, Selection(overrides={"linear_sgd.milestones": list(milestones)}))
