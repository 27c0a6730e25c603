"""A store as `suite run` leaves it, but made up in a moment: random weights, invented metrics, no training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from methods.args import BackboneArgs
from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from suite.data.decoded.images import build_store
from suite.grid.cells import Selection
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.jobs.identity import Job
from suite.kinds.finetune import FinetuneSpec
from suite.planning.plan import data_facts, fingerprints, make_plan
from suite.store.ledger import record_cells, write_results
from suite.store.store import Failure, Result, sha256
from suite.weights import save_weights
from suite.workspace import Workspace

ENVIRONMENT = {"python": "3.11", "packages": {"torch": "2.14.1"}, "commit": "abcdef123456"}
Fate = Callable[[Job], str]  # "done", "failed", "new", "suspicious"


def made_up_store(
    runs: Path,
    data: Path,
    profile: Path,
    grid: str = "paper_table1",
    *,
    datasets: Sequence[str] = ("cub", "cars"),
    methods: Sequence[str] = ("random", "byol", "byol_cvsa"),
    seeds: Sequence[int] = (0,),
    fate: Fate = lambda job: "done",
    weights: bool = False,
) -> Workspace:
    """Record the cells and end each of their jobs as `fate` says. With `weights`, networks and decoded images too."""
    workspace = Workspace(data, runs)
    selection = Selection(tuple(datasets), tuple(methods), seeds=tuple(seeds))
    plan = make_plan(workspace, load_grid(grid), load_profile(str(profile)), selection)
    assert not plan.missing
    record_cells(workspace.store, plan.profile.name, {}, plan.cell_jobs, data_facts(plan))
    for number, job in enumerate(plan.jobs):
        _end(workspace, job, fate(job), number, weights)
    write_results(workspace.store)
    if weights:
        prints = fingerprints(plan.datasets, workspace.cache)
        for name, dataset in plan.datasets.items():
            build_store(dataset, prints[name], plan.cells[0].recipe.store_size, workspace.cache)
    return workspace


def _end(workspace: Workspace, job: Job, fate: str, number: int, weights: bool) -> None:
    store = workspace.store
    if fate == "new":
        return
    store.begin(job, ENVIRONMENT)
    folder = store.folder(job.key)
    last = {"pretrain": {"embedding_std": 0.5}, "finetune": {"train_top1": 90.0}}.get(job.spec.kind, {})
    lines = [{"epoch": epoch, "step": epoch, "loss": 3.0 / epoch, **last} for epoch in range(1, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (folder / "log.txt").write_text("".join(f"line {n} of {job.name}\n" for n in range(30)), "utf-8")
    if fate == "failed":
        store.fail(job.key, Failure(error=f"TrainingError: {job.name} broke", kind="failed", traceback=""))
        return
    metrics = {"finetune": {"top1": 40.0 + number % 50}, "probe": {"knn_top1": 30.0, "linear_top1": 35.0}}
    files = {"backbone.safetensors": "0" * 64}
    if weights and isinstance(job.spec, FinetuneSpec):
        torch.manual_seed(number)
        path = store.checkpoint(job.key) / "model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        backbone: BackboneArgs = job.spec.backbone
        save_weights(path, Classifier(build_backbone(backbone), classes=3))
        files = {path.name: sha256(path)}
    store.finish(
        Result(
            key=job.key, name=job.name, metrics=metrics.get(job.spec.kind, {"loss": 1.0}), counts={"n_test": 12},
            files=files, suspicious=["the embeddings collapsed"] if fate == "suspicious" else [],
            seconds=36.0, images_per_second=100.0,
        )
    )  # fmt: skip
