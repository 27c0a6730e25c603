"""The local executor: order, failures, killed workers, several runs on one store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from suite.cli.select import SelectorOptions
from suite.execute.context import Device, RunPaths
from suite.execute.engine import Options, Summary
from suite.execute.local.executor import LocalEngine, LocalExecutor
from suite.execute.prepare import prepare
from suite.jobs.identity import Job
from suite.planning.plan import Plan
from suite.store.store import Store


class Watch:
    """Records what the executor reports."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def started(self, job: Job) -> None:
        self.events.append(("started", job.key))

    def progress(self, job: Job, line: dict[str, float]) -> None:
        self.events.append(("progress", job.key))

    def ended(self, job: Job, outcome: str, error: str) -> None:
        self.events.append((outcome, job.key))


def planned(drawn: Path, runs: Path, profile: Path, *overrides: str) -> Plan:
    methods = ["random", "byol", "byol_cvsa"]
    plan = SelectorOptions(
        "paper_table1", str(profile), drawn, runs, ["cub"], methods, None, None, list(overrides)
    ).plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    return plan


def run(plan: Plan, watch: Watch, workers: int = 2, fail_fast: bool = False) -> Summary:
    places = RunPaths(plan.workspace.runs, plan.workspace.cache)
    return LocalExecutor(places, workers, Device(accelerator="cpu")).run(plan.pending, watch, Options(fail_fast))


def test_parents_first_and_everything_once(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    plan, watch = planned(drawn, tmp_path, tiny_profile), Watch()
    summary = run(plan, watch)
    assert len(summary.done) == 8
    assert not summary.failed
    for job in plan.jobs:
        assert watch.events.count(("started", job.key)) == 1
        for parent in job.parents:
            order = [watch.events.index(("done", parent.key)), watch.events.index(("started", job.key))]
            assert order == sorted(order)
    assert plan.jobs[0].parents == ()
    first = [key for event, key in watch.events if event == "started"][:2]
    needed = {parent.key for job in plan.jobs for parent in job.parents}
    assert set(first) == needed  # what others wait for starts before what nobody waits for


def test_a_failed_parent_skips_its_children_only(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    plan, watch = planned(drawn, tmp_path, tiny_profile, "pretrain.optimizer.base_lr=1e30"), Watch()
    summary = run(plan, watch)
    assert sorted(job.name for job in summary.done) == ["finetune random cub s0", "probe random cub s0"]  # side by side
    assert (
        sorted(event for event, _ in watch.events if event in {"failed", "skipped"}) == ["failed"] * 2 + ["skipped"] * 4
    )


def test_fail_fast_starts_nothing_more_but_lets_running_jobs_finish(
    tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    plan, watch = planned(drawn, tmp_path, tiny_profile, "pretrain.optimizer.base_lr=1e30"), Watch()
    summary = run(plan, watch, workers=1, fail_fast=True)
    assert [event for event, _ in watch.events if event in {"started", "failed"}] == ["started", "failed"]
    assert not summary.interrupted
    assert not summary.done


def test_a_killed_worker_fails_its_job_and_is_replaced(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    plan = planned(drawn, tmp_path, tiny_profile, "pretrain.epochs=60")

    class Killer(Watch):
        killed = False

        def progress(self, job: Job, line: dict[str, float]) -> None:
            if not self.killed:
                self.killed = True
                children = subprocess.run(
                    ["pgrep", "-P", str(os.getpid()), "-f", "spawn_main"], capture_output=True, text=True, check=True
                ).stdout.split()
                os.kill(int(children[0]), signal.SIGKILL)

    # One pretraining is enough: what follows it must be skipped, the random row must still be done.
    watch = Killer()
    summary = run(plan_of(plan, "byol"), watch, workers=1)
    assert watch.killed
    assert len(summary.done) == 2
    assert any("killed" in error for error in summary.failed.values())
    (key,) = [job.key for job in plan.jobs if job.name == "pretrain byol cub s0"]
    assert Store(tmp_path).status(key) == "interrupted"


def plan_of(plan: Plan, row: str) -> Plan:
    """The same plan with the cells of `row` and of the random row only."""
    return Plan(
        plan.workspace,
        plan.profile,
        [cell for cell in plan.cells if cell.row.name in {row, "random"}],
        plan.data_root,
        plan.datasets,
    )


def command(drawn: Path, runs: Path, profile: Path) -> list[str]:
    return [
        sys.executable, "-c", "from suite.cli import main; main()", "run", "--grid", "paper_table1", "--profile",
        str(profile), "--data", str(drawn), "--runs", str(runs), "--dataset", "cub", "--method", "random",
        "--method", "byol", "--workers", "1", "--set", "pretrain.epochs=20",
    ]  # fmt: skip


def test_two_runs_on_one_store_train_everything_once(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    processes = [
        subprocess.Popen(command(drawn, tmp_path, tiny_profile), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors.decode()
    logs = [path.read_text() for path in tmp_path.glob("*/log.txt")]
    assert len(logs) == 5
    assert all(log.count(" on cpu, ") == 1 for log in logs)  # each job's loop was entered once


def test_ctrl_c_checkpoints_and_the_next_run_finishes(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    long = [*command(drawn, tmp_path, tiny_profile)[:-1], "pretrain.epochs=60"]
    process = subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    assert b"run the same command again" in output
    assert list(tmp_path.glob("*/checkpoint/state.pt"))
    assert "KILLED" in statuses(tmp_path)
    assert subprocess.run(long, capture_output=True, check=True).returncode == 0
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 2 * 3  # three protocols
    assert statuses(tmp_path) == {"FINISHED"}


def statuses(runs: Path) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("paper_table1")
    assert experiment is not None
    return {run.info.status for run in client.search_runs([experiment.experiment_id])}


def test_a_request_to_stop_is_a_ctrl_c(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    long = [*command(drawn, tmp_path, tiny_profile)[:-1], "pretrain.epochs=200"]
    process = subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    suite = [sys.executable, "-c", "from suite.cli import main; main()"]
    shown = subprocess.run([*suite, "status", "--runs", str(tmp_path)], capture_output=True, text=True, check=True)
    assert f"process {process.pid} on" in shown.stdout
    assert "running" in shown.stdout
    assert "images/s" in shown.stdout
    done = subprocess.run([*suite, "cancel", "--runs", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 of 1 runs stopped" in done.stdout
    _, errors = process.communicate(timeout=120)  # at the end MLflow is waited for
    assert process.returncode == 130
    assert b"suite cancel" in errors
    assert list(tmp_path.glob("*/checkpoint/state.pt"))
    assert not list((tmp_path / "active").iterdir())
    again = subprocess.run([*suite, "cancel", "--runs", str(tmp_path)], capture_output=True, text=True, check=True)
    assert "no active run" in again.stdout


def test_jobs_of_another_run_are_waited_for_while_others_go_on(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    plan, watch = planned(drawn, tmp_path, tiny_profile), Watch()
    store = Store(tmp_path)
    (first,) = [job for job in plan.jobs if job.name == "pretrain byol cub s0"]
    claim = store.claim(first.key).acquire()  # as another run would hold it

    class Release(Watch):
        def ended(self, job: Job, outcome: str, error: str) -> None:
            super().ended(job, outcome, error)
            if len([event for event, _ in self.events if event == "done"]) == 5:  # all that do not wait for `first`
                claim.release()

    watch = Release()
    summary = run(plan, watch, workers=1)
    assert len(summary.done) == 8
    order = [key for event, key in watch.events if event == "done"]
    assert order.index(first.key) == 5


BREAKS = '''
"""An objective that notes its process, and whose error says that the CUDA context is broken."""
import os
from pathlib import Path

from methods.args import Args
from methods.objective import Objective
from suite.plugin import register_objective


class BreaksArgs(Args):
    """Nothing to set."""


class Breaks(Objective):
    def __init__(self, args, backbone):
        super().__init__()
        self.backbone = backbone

    def loss(self, views):
        note()
        raise RuntimeError("CUDA error: device-side assert triggered")


class Works(Breaks):
    def loss(self, views):
        note()
        return {"loss": self.backbone.pooled(views.images[0]).square().mean()}


def note():
    with (Path(__file__).parent / "processes").open("a") as file:
        file.write(f"{os.getpid()}\\n")


register_objective("breaks", Breaks, BreaksArgs, recipe={"objective": {}})
register_objective("works", Works, BreaksArgs, recipe={"objective": {}})
'''


def test_a_worker_whose_cuda_context_broke_is_replaced(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    """Nothing of CUDA is needed: the error's text decides, and the next job runs in another process."""
    from suite.plugin import load_plugins

    plugin = tmp_path / "breaks.py"
    plugin.write_text(BREAKS, "utf-8")
    load_plugins([plugin])
    methods, overrides = ["breaks", "works"], ["pretrain.epochs=1"]
    plan = SelectorOptions(
        "paper_table1", str(tiny_profile), drawn, tmp_path / "runs", ["cub"], methods, None, None, overrides
    ).plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    jobs = [job for name in methods for job in plan.pending if job.name == f"pretrain {name} cub s0"]
    paths = RunPaths(tmp_path / "runs", plan.workspace.cache, (plugin,))
    summary = LocalExecutor(paths, 1, Device(accelerator="cpu")).run(jobs, Watch())
    assert list(summary.failed.values()) == ["RuntimeError: CUDA error: device-side assert triggered"]
    assert summary.done == [jobs[1]]
    failure = Store(paths.runs).failure(jobs[0].key)
    assert failure is not None
    assert failure.kind == "failed"
    processes = list(dict.fromkeys((tmp_path / "processes").read_text().split()))
    assert len(processes) == 2


WAITS = '''
"""An objective whose step waits for the views of the next step, at most a second, and notes whether they came."""
import threading
from pathlib import Path

from methods.args import Args
from methods.objective import Objective
from methods.views.random_resized_crop import RandomResizedCrop
from suite.plugin import register_objective

MADE = threading.Semaphore(0)
crops = RandomResizedCrop.crops


def counted(self, indices, rng):
    made = crops(self, indices, rng)
    MADE.release()
    return made


RandomResizedCrop.crops = counted


class WaitsArgs(Args):
    """Nothing to set."""


class Waits(Objective):
    def __init__(self, args, backbone):
        super().__init__()
        self.backbone = backbone
        self.first = True

    def loss(self, views):
        if self.first:
            MADE.acquire()  # this step's own
            self.first = False
        came = MADE.acquire(timeout=1)
        with (Path(__file__).parent / "came").open("a") as file:
            file.write(f"{int(came)}")
        return {"loss": self.backbone.pooled(views.images[0]).square().mean()}


register_objective("waits", Waits, WaitsArgs, recipe={"objective": {}})
'''


def test_a_run_makes_the_next_views_within_the_step_unless_told_not_to(
    tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    """By default, and without a clock: the step itself waits for the next batch. The last step has none to wait for."""
    from suite.plugin import load_plugins

    plugin = tmp_path / "waits.py"
    plugin.write_text(WAITS, "utf-8")
    load_plugins([plugin])
    overrides = ["pretrain.epochs=1", "pretrain.batch_size=8"]
    plan = SelectorOptions(
        "paper_table1", str(tiny_profile), drawn, tmp_path / "runs", ["cub"], ["waits"], None, None, overrides
    ).plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    job = next(job for job in plan.pending if job.name.startswith("pretrain"))

    def came(loaders: int | None, runs: str) -> str:
        paths = RunPaths(tmp_path / runs, plan.workspace.cache, (plugin,))
        (tmp_path / "came").unlink(missing_ok=True)
        summary = LocalEngine(1, 1, loaders).executor(paths, 10.0).run([job], Watch())
        assert summary.done == [job], summary.failed
        return (tmp_path / "came").read_text()

    default = came(None, "default")
    assert len(default) > 1
    assert default == "1" * (len(default) - 1) + "0"
    assert came(0, "none").startswith("0")
