"""Grids through a real Slurm daemon: results, arrays, failures, requeues, cancelled and detached runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from suite.cli.select import SelectorOptions
from suite.execute.context import Device, RunPaths
from suite.execute.engine import Options, Summary
from suite.execute.local.executor import LocalExecutor
from suite.execute.prepare import prepare
from suite.execute.slurm.executor import SlurmEngine, SlurmExecutor
from suite.execute.slurm.records import read_records
from suite.execute.slurm.site import Site
from suite.jobs.identity import Job
from suite.planning.plan import Plan
from suite.store.store import Store

if TYPE_CHECKING:
    from tests.execute.slurm.conftest import Daemons

pytestmark = pytest.mark.slow


class Events:
    """Records what a run reports."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def started(self, job: Job) -> None:
        self.seen.append(("started", job.name))

    def progress(self, job: Job, line: dict[str, float]) -> None:
        self.seen.append(("progress", job.name))

    def ended(self, job: Job, outcome: str, error: str) -> None:
        self.seen.append((outcome, job.name))

    def of(self, *kinds: str) -> list[tuple[str, str]]:
        return [event for event in self.seen if event[0] in kinds]


def arguments(drawn: Path, runs: Path, profile: Path, *more: str) -> list[str]:
    return ["--grid", "paper_table1", "--profile", str(profile), "--data", str(drawn), "--runs", str(runs), *more]


def suite(*command: str) -> subprocess.CompletedProcess[str]:
    python = [sys.executable, "-c", "from suite.cli import main; main()"]
    return subprocess.run([*python, *command], capture_output=True, text=True, check=False)


def planned(drawn: Path, runs: Path, profile: Path, *overrides: str) -> Plan:
    chosen = SelectorOptions("paper_table1", str(profile), drawn, runs, ["cub"], ["byol"], None, None, list(overrides))
    plan = chosen.plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    return plan


def places(plan: Plan) -> RunPaths:
    return RunPaths(plan.workspace.runs, plan.workspace.cache)


def submissions(runs: Path) -> int:
    return len(list((runs / "slurm" / "files").glob("[0-9]*_submission.sh")))


def wait_until(ready: Callable[[], object], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)


def test_a_grid_gives_the_same_as_locally_and_nothing_is_submitted_twice(
    slurm: Daemons, tmp_path: Path, drawn: Path, lean_profile: Path, site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    here, there = tmp_path / "here", tmp_path / "there"
    chosen = ["--dataset", "cub", "--method", "byol", "--seeds", "0,1"]
    local = suite("run", *arguments(drawn, here, lean_profile, *chosen, "--workers", "2"))
    assert local.returncode == 0, local.stderr
    command = arguments(drawn, there, lean_profile, *chosen, "--executor", "slurm", "--site", str(site_file), "--json")
    remote = suite("run", *command)
    assert remote.returncode == 0, remote.stderr
    assert json.loads(remote.stdout)["trained"] == 4
    assert (here / "results.csv").read_bytes() == (there / "results.csv").read_bytes()
    assert submissions(there) == 2  # an array of pretrainings, and behind each of them one of an array of fine-tunings
    scripts = [path.read_text("utf-8") for path in sorted((there / "slurm" / "files").glob("[0-9]*_submission.sh"))]
    assert all("--array=0-1%" in script and "SUITE_TEST_SETUP" in script for script in scripts)
    assert "--dependency=aftercorr:" in scripts[1]
    assert not read_records(Store(there))
    again = suite("run", *command)
    assert again.returncode == 0
    assert json.loads(again.stdout)["cached"] == 4
    assert submissions(there) == 2


def test_a_failed_job_takes_its_descendants_with_it_and_no_others(
    slurm: Daemons, tmp_path: Path, drawn: Path, lean_profile: Path, site_file: Path
) -> None:
    command = arguments(
        drawn, tmp_path, lean_profile, "--dataset", "cub", "--method", "random", "--method", "byol",
        "--set", "pretrain.optimizer.base_lr=1e30", "--executor", "slurm", "--site", str(site_file),
    )  # fmt: skip
    done = suite("run", *command)
    assert done.returncode == 1, done.stderr
    assert "failed pretrain byol cub s0: TrainingError: the loss became" in done.stderr
    assert "skipped finetune byol cub s0: pretrain byol cub s0 failed" in done.stderr
    assert "done finetune random cub s0" in done.stderr
    assert not slurm.call("squeue", "--noheader").strip()
    assert "failed" in suite("status", "--runs", str(tmp_path)).stdout


def test_a_requeued_and_then_cancelled_job_ends_in_the_same_bits(
    slurm: Daemons, tmp_path: Path, drawn: Path, lean_profile: Path, site: Site
) -> None:
    long = "pretrain.epochs=50"
    calm = planned(drawn, tmp_path / "calm", lean_profile, long)
    pretraining = calm.jobs[0]

    plan = planned(drawn, tmp_path / "disturbed", lean_profile, long)
    store = plan.workspace.store
    executor = SlurmExecutor(places(plan), SlurmEngine(site, detach=True))
    assert executor.run(plan.pending, Events()).queued == 2
    record = read_records(store)[pretraining.key]
    wait_until(lambda: store.metrics(pretraining.key), "first epoch")

    slurm.call("scancel", "--signal=USR1", record.slurm)  # as Slurm itself does before the time limit
    wait_until(lambda: "PENDING" in slurm.call("squeue", "-h", "-o", "%T", "-j", record.slurm), "requeue")
    epochs = len(store.metrics(pretraining.key))
    assert store.status(pretraining.key) == "interrupted"
    assert "stopped on request" in (store.folder(pretraining.key) / "log.txt").read_text("utf-8")
    slurm.call("scontrol", "update", f"jobid={record.slurm}", "StartTime=now")  # Slurm would wait for two minutes

    class Canceller(Events):
        def progress(self, job: Job, line: dict[str, float]) -> None:
            super().progress(job, line)
            if line["epoch"] > epochs:
                slurm.call("scancel", record.slurm)

    events = Canceller()
    summary = SlurmExecutor(places(plan), SlurmEngine(site)).run(plan.pending, events)
    assert submissions(tmp_path / "disturbed") == 2  # what waited in the queue was waited for
    assert summary.interrupted
    assert not summary.failed
    assert events.of("interrupted", "failed", "skipped") == [("interrupted", pretraining.name)]
    assert store.status(pretraining.key) == "interrupted"
    assert (store.checkpoint(pretraining.key) / "state.pt").is_file()

    assert finished(SlurmExecutor(places(plan), SlurmEngine(site)).run(plan.pending, Events()))
    assert (store.folder(pretraining.key) / "log.txt").read_text("utf-8").count("resuming at step") == 2
    assert finished(LocalExecutor(places(calm), 2, Device(accelerator="cpu")).run(calm.pending, Events(), Options()))
    for job in calm.jobs:
        mine, theirs = store.result(job.key), calm.workspace.store.result(job.key)
        assert mine is not None
        assert theirs is not None
        assert (mine.files, mine.metrics) == (theirs.files, theirs.metrics)


def finished(summary: Summary) -> bool:
    return len(summary.done) == 2 and not summary.interrupted and not summary.failed


def test_a_detached_run_is_seen_not_repeated_and_cancelled_from_elsewhere(
    slurm: Daemons, tmp_path: Path, drawn: Path, lean_profile: Path, site_file: Path
) -> None:
    slurm.call("scontrol", "update", "partitionname=main", "state=down")
    try:
        command = arguments(
            drawn, tmp_path, lean_profile, "--dataset", "cub", "--method", "byol", "--executor", "slurm",
            "--site", str(site_file), "--detach",
        )  # fmt: skip
        first = suite("run", *command)
        assert first.returncode == 0, first.stderr
        assert "submitted 2 jobs" in first.stderr
        assert "2 jobs are Slurm's now" in first.stdout
        second = suite("run", *command)
        assert "submitted 0 jobs" in second.stderr
        assert submissions(tmp_path) == 2
        shown = suite("status", "--runs", str(tmp_path))
        assert "queued" in shown.stdout
        assert "pretrain byol cub s0" in shown.stdout
        assert "PENDING (Dependency)" in shown.stdout
        cancelled = suite("cancel", "--runs", str(tmp_path))
        assert cancelled.returncode == 0, cancelled.stdout
        assert "2 of 2 Slurm jobs ended" in cancelled.stdout
        assert not slurm.call("squeue", "--noheader").strip()
    finally:
        slurm.call("scontrol", "update", "partitionname=main", "state=up")


def test_two_tasks_train_a_job_together(
    slurm: Daemons, tmp_path: Path, drawn: Path, lean_profile: Path, site: Site
) -> None:
    plan = planned(drawn, tmp_path, lean_profile)
    together = site.model_copy(update={"cpu_tasks_per_node": 2})
    events = Events()
    assert finished(SlurmExecutor(places(plan), SlurmEngine(together)).run(plan.pending, events)), events.seen
    for job in plan.jobs:
        folder = plan.workspace.store.folder(job.key)
        assert json.loads((folder / "env.json").read_text("utf-8"))["devices"] == 2
        assert "2 device(s)" in (folder / "log.txt").read_text("utf-8")
    wait_until(lambda: not slurm.call("squeue", "--noheader").strip(), "empty queue")  # both tasks end
