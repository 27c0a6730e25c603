"""The Ray engine on Ray's local cluster: the same results as the local engine, stops, failures, killed processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite.cli.select import SelectorOptions
from suite.errors import UsageError
from suite.execute.context import Device, RunPaths
from suite.execute.engine import EngineOptions, Options
from suite.execute.engines import create_engine
from suite.execute.local.executor import LocalExecutor
from suite.execute.prepare import prepare
from suite.execute.ray.executor import Layout, RayExecutor, connected, share_cluster
from suite.execute.ray.task import StopFlags
from suite.jobs.identity import Job
from suite.locks import read_owner
from suite.planning.plan import Plan
from suite.store.store import Store


class Events:
    """Records what a run reports, and calls `on_progress` at every progress of a job."""

    def __init__(self, on_progress: Callable[[Job], None] = lambda _: None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.on_progress = on_progress

    def started(self, job: Job) -> None:
        self.seen.append(("started", job.name))

    def progress(self, job: Job, line: dict[str, float]) -> None:
        self.on_progress(job)
        self.seen.append(("progress", job.name))

    def ended(self, job: Job, outcome: str, error: str) -> None:
        self.seen.append((outcome, job.name))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # memory that other processes use must not end these jobs
        connected(None)
    yield
    ray.shutdown()


def planned(drawn: Path, runs: Path, profile: Path, methods: list[str], *overrides: str) -> Plan:
    plan = SelectorOptions(
        "paper_table1", str(profile), drawn, runs, ["cub"], methods, None, None, list(overrides)
    ).plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    return plan


def on_ray(plan: Plan, workers: int = 2) -> RayExecutor:
    paths = RunPaths(plan.workspace.runs, plan.workspace.cache)
    executor = create_engine("ray", EngineOptions(workers=workers)).executor(paths, checkpoint_minutes=0.05)
    assert isinstance(executor, RayExecutor)
    return executor


@pytest.mark.parametrize(
    ("nodes", "workers", "devices", "gpus", "layout"),
    [
        ([(2, 0)], None, 1, None, Layout(2, 1, 0.0)),
        ([(32, 0)], None, 1, None, Layout(4, 8, 0.0)),
        ([(32, 0), (16, 0)], None, 1, None, Layout(8, 4, 0.0)),  # the same threads on every node
        ([(32, 0)], 2, 1, None, Layout(2, 16, 0.0)),
        ([(32, 4), (8, 0)], None, 1, None, Layout(4, 8, 1.0)),  # a node without GPUs gets no job
        ([(32, 4)], None, 1, 0.5, Layout(8, 4, 0.5)),
        ([(32, 4)], None, 2, None, Layout(2, 8, 1.0)),
        ([(32, 4)], None, 1, 0.0, Layout(4, 8, 0.0)),
        ([(32, 8), (32, 8)], None, 8, None, Layout(2, 4, 1.0)),
    ],
)
def test_how_jobs_share_a_cluster(
    nodes: list[tuple[int, int]], workers: int | None, devices: int, gpus: float | None, layout: Layout
) -> None:
    assert share_cluster(nodes, workers, devices, gpus) == layout


def test_a_cluster_without_room_for_a_job_says_what_it_has() -> None:
    with pytest.raises(UsageError, match="has 8 GPUs for a job: it has 32 CPUs and 4 GPUs, 32 CPUs and 4 GPUs"):
        share_cluster([(32, 4), (32, 4)], None, 8, None)
    with pytest.raises(UsageError, match="no node"):
        share_cluster([], None, 1, None)


def test_without_ray_the_user_reads_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install -e '.\[ray\]'"):
        create_engine("ray", EngineOptions())


def test_gpus_per_job_that_make_no_sense_are_refused() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    with pytest.raises(UsageError, match="expects 0 to 1, got 2"):
        create_engine("ray", EngineOptions(gpus=2.0))
    with pytest.raises(UsageError, match="needs a GPU of its own"):
        create_engine("ray", EngineOptions(gpus=0.5, devices=2))
    with pytest.raises(UsageError, match="--address does not apply to --executor local"):
        create_engine("local", EngineOptions(address="auto"))


def test_requests_to_stop() -> None:
    flags = StopFlags()
    flags.leave("a")
    assert (flags.is_stopped("a"), flags.is_stopped("b")) == (True, False)
    flags.start("a")
    assert not flags.is_stopped("a")
    flags.stop()
    assert flags.is_stopped("a")
    assert flags.is_stopped("b")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_grid_gives_the_same_weights_and_numbers_as_on_the_local_engine(
    tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    methods, events = ["random", "byol"], Events()
    here = planned(drawn, tmp_path / "here", tiny_profile, methods)
    there = planned(drawn, tmp_path / "there", tiny_profile, methods)
    executor = on_ray(there)
    assert executor.device.accelerator == "cpu"
    summary = executor.run(there.pending, events)
    assert not summary.failed
    assert len(summary.done) == len(there.jobs) == 5
    assert there.pending == []
    for job in there.jobs:
        assert events.seen.count(("started", job.name)) == events.seen.count(("done", job.name)) == 1
        for parent in job.parents:
            assert events.seen.index(("done", parent.name)) < events.seen.index(("started", job.name))
    device = Device(accelerator="cpu", threads=executor.device.threads)
    LocalExecutor(RunPaths(here.workspace.runs, here.workspace.cache), 2, device).run(here.pending, Events())
    for job in there.jobs:
        ours, theirs = here.store.result(job.key), there.store.result(job.key)
        assert ours is not None
        assert theirs is not None
        assert (ours.metrics, ours.counts, ours.files) == (theirs.metrics, theirs.counts, theirs.files)
    assert executor.run(there.jobs, Events()).elsewhere == 5  # nothing is trained twice


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_cancel_saves_and_a_killed_process_resumes(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    plan = planned(drawn, tmp_path / "runs", tiny_profile, ["byol"], "pretrain.epochs=60", "finetune.epochs=1")
    (pretraining, *_) = plan.pending
    asked: list[Job] = []
    events = Events(asked.append)
    summary = on_ray(plan).run(plan.pending, events, Options(asked_to_stop=lambda: bool(asked)))
    assert summary.interrupted
    assert not summary.done
    assert ("interrupted", pretraining.name) in events.seen
    store = Store(tmp_path / "runs")
    assert store.status(pretraining.key) == "interrupted"
    epochs = len(store.metrics(pretraining.key))
    assert 0 < epochs < 60

    killed: list[int] = []

    def kill(job: Job) -> None:
        if job.key == pretraining.key and not killed:
            owner = read_owner(store.folder(job.key) / "claim.json")
            if owner is None:  # between two attempts
                return
            killed.append(owner.process)
            os.kill(owner.process, signal.SIGKILL)

    events = Events(kill)
    summary = on_ray(plan).run(plan.pending, events)
    assert killed
    assert not summary.failed, summary.failed
    assert {job.name for job in summary.done} == {job.name for job in plan.jobs}
    assert [line["epoch"] for line in store.metrics(pretraining.key)] == sorted(
        {line["epoch"] for line in store.metrics(pretraining.key)}
    )  # resumed: no epoch twice


@pytest.mark.usefixtures("cluster")
def test_a_failure_skips_its_children_and_is_recorded(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    plan = planned(drawn, tmp_path / "runs", tiny_profile, ["byol"], "pretrain.optimizer.base_lr=1e30")
    events = Events()
    summary = on_ray(plan).run(plan.pending, events)
    assert [event for event, _ in events.seen if event in {"failed", "skipped"}] == ["failed", "skipped", "skipped"]
    failure = Store(tmp_path / "runs").failure(plan.pending[0].key)
    assert failure is not None
    assert "the loss became" in failure.error
    assert failure.error == summary.failed[plan.pending[0].key]


@pytest.mark.slow
def test_a_job_for_which_memory_is_short_fails_and_says_so(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    """By itself Ray would start it again and again, for ever."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    done = subprocess.run(
        [
            *[sys.executable, "-c", "from suite.cli import main; main()", "run", "--grid", "paper_table1"],
            *["--profile", str(tiny_profile), "--data", str(drawn), "--runs", str(tmp_path), "--dataset", "cub"],
            *["--method", "byol", "--executor", "ray", "--set", "pretrain.epochs=100000"],
        ],
        # Any use of memory is too much.
        env=os.environ | {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "failed pretrain byol cub s0: Ray could not finish the task: " in done.stderr
    assert "memory" in done.stderr
