"""Whole jobs on the device: resuming, running out of memory, broken contexts, and measures as on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from methods.args import ResNetArgs
from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from methods.measures.grad_cam import grad_cam
from suite.cli.select import SelectorOptions
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.engine import Options
from suite.execute.local.executor import LocalExecutor
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.jobs.identity import Job
from suite.planning.plan import Plan
from suite.store.store import Store
from suite.training.features import features

from .cases import ROWS, grid_of

EXHAUST = '''
"""A plugin whose objective uses the device up, or breaks its context."""
import torch
from methods.args import Args
from methods.objective import Objective
from suite.plugin import register_objective


class BreakArgs(Args):
    """How to fail."""

    how: str


class Break(Objective):
    def __init__(self, args, backbone):
        super().__init__()
        self.args, self.backbone = args, backbone

    def loss(self, views):
        if self.args.how == "memory":
            torch.empty(10**13, device=views.images[0].device)
        rows = torch.tensor([10**6], device=views.images[0].device)
        return {"loss": self.backbone.pooled(views.images[0])[rows].sum()}  # a device-side assert


for how in ("memory", "assert"):
    register_objective(f"break_{how}", Break, BreakArgs, recipe={"objective": {"how": how}})
'''


def device_of(place: torch.device, gpu: int = 0) -> Device:
    return Device(accelerator="cuda" if place.type == "cuda" else "cpu", gpu=gpu, checkpoint_minutes=1000)


def planned(runs: Path, data: Path, profile: Path, methods: Sequence[str], *overrides: str) -> tuple[Plan, RunPaths]:
    grid = "beyond" if all(grid_of(method) == "beyond" for method in methods) else "paper_table1"
    plan = SelectorOptions(grid, str(profile), data, runs, ["cub"], list(methods), None, None, list(overrides)).plan(
        False
    )
    prepare(plan.jobs, plan.datasets, data, plan.workspace.cache, lambda *_: None)
    return plan, RunPaths(plan.workspace.runs, plan.workspace.cache)


def trained(job: Job, places: RunPaths, device: Device, stop_after: int | None = None) -> str:
    polls = 0

    def should_stop() -> bool:
        nonlocal polls
        polls += 1
        return stop_after is not None and polls > stop_after

    end = run_job(job, JobContext(places, device, should_stop))
    assert not end.error, end.error
    return end.outcome


@pytest.mark.parametrize("row", ROWS)
def test_resume_bits(row: str, device: torch.device, drawn: Path, tiny_profile: Path, tmp_path: Path) -> None:
    """Stopped after its first step and resumed, a job ends in the same bits; Rel-Loc draws dropout on the device."""
    tensors = []
    for name, stops in (("straight", ()), ("broken", (0, 1))):
        plan, places = planned(tmp_path / name, drawn, tiny_profile, [row])
        job = next(job for job in plan.jobs if job.spec.kind == "pretrain")
        for stop in stops:
            assert trained(job, places, device_of(device), stop) == "interrupted"
        assert trained(job, places, device_of(device)) == "done"
        tensors.append(load_file(Store(places.runs).weights(job.key, "backbone.safetensors")))
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_dropout_and_shuffle_resume(device: torch.device) -> None:
    """Generators of the CPU and of the device, put back, give the same masks and the same order of keys."""
    dropout = torch.nn.Dropout(0.5)
    torch.manual_seed(3)
    torch.rand(5, device=device)
    state = torch.get_rng_state(), torch.cuda.get_rng_state() if device.type == "cuda" else None
    draws = []
    for _ in range(2):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1])
        draws.append((dropout(torch.ones(100, device=device)), torch.randperm(100)))
    assert all(torch.equal(a, b) for a, b in zip(*draws, strict=True))


@pytest.mark.parametrize("how", ["memory", "assert"])
def test_a_failed_job_leaves_the_next_one_whole(
    how: str, cuda: torch.device, drawn: Path, tiny_profile: Path, tmp_path: Path
) -> None:
    """Out of memory, or a broken context, which only a new process gets rid of: the next job of the worker succeeds."""
    from suite.plugin import load_plugins

    plugin = tmp_path / "breaks.py"
    plugin.write_text(EXHAUST, "utf-8")
    load_plugins([plugin])
    plan, places = planned(tmp_path / "runs", drawn, tiny_profile, [f"break_{how}", "byol"])
    jobs = [job for job in plan.pending if job.spec.kind == "pretrain"]
    jobs.sort(key=lambda job: "break" not in job.name)

    class Quiet:
        def started(self, job: Job) -> None: ...
        def progress(self, job: Job, line: dict[str, float]) -> None: ...
        def ended(self, job: Job, outcome: str, error: str) -> None: ...

    places = RunPaths(places.runs, places.cache, (plugin,))
    summary = LocalExecutor(places, 1, device_of(cuda)).run(jobs, Quiet(), Options(False))
    assert list(summary.failed) == [jobs[0].key]
    assert [job.name for job in summary.done] == ["pretrain byol cub s0"]


def test_probe_and_cam_match_cpu(device: torch.device) -> None:
    torch.manual_seed(0)
    model = Classifier(build_backbone(ResNetArgs(arch="resnet18", stem="imagenet")), 7).eval()
    images, labels = torch.randn(6, 3, 64, 64), torch.arange(6)
    crops = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8)
    maps, pooled = [], []
    for place in (torch.device("cpu"), device):
        model.to(place)
        maps.append(grad_cam(model, images.to(place), labels.to(place)).cpu())
        pooled.append(features(model.backbone, [crops], place).cpu())
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(pooled[0], pooled[1], rtol=1e-3, atol=1e-4)


def test_second_gpu_index(cuda: torch.device, drawn: Path, tiny_profile: Path, tmp_path: Path) -> None:
    """A job of the second card allocates nothing on the first."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one card")
    plan, places = planned(tmp_path, drawn, tiny_profile, ["byol"])
    job = next(job for job in plan.jobs if job.spec.kind == "pretrain")
    before = torch.cuda.memory_reserved(0)
    assert trained(job, places, device_of(cuda, gpu=1)) == "done"
    assert torch.cuda.memory_reserved(0) == before
    assert torch.cuda.max_memory_allocated(1) > 0


def test_the_tiny_profile_is_small(tiny_profile: Path) -> None:
    """These tests are meant to take seconds each."""
    assert yaml.safe_load(tiny_profile.read_text("utf-8"))["defaults"]["image_size"] <= 64
