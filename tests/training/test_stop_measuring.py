"""A request to stop (Ctrl-C, `suite cancel`) while a probe or the final test pass of fine-tuning measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from suite.cli.select import SelectorOptions
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.jobs.identity import Job
from suite.planning.plan import Plan
from suite.store.store import Store

CPU = Device(accelerator="cpu", threads=1)


def planned(drawn: Path, runs: Path, profile: Path) -> Plan:
    plan = SelectorOptions("paper_table1", str(profile), drawn, runs, ["cub"], ["random"], None, None, []).plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    return plan


def attempt(plan: Plan, job: Job, should_stop: Callable[[], bool] = lambda: False) -> str:
    paths = RunPaths(plan.workspace.runs, plan.workspace.cache)
    return run_job(job, JobContext(paths, CPU, should_stop)).outcome


def test_the_final_test_pass_stops_and_the_next_attempt_only_measures(
    tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    straight, stopped = (planned(drawn, tmp_path / name, tiny_profile) for name in ("straight", "stopped"))
    (tuning,) = (job for job in stopped.jobs if job.spec.kind == "finetune")
    assert attempt(straight, tuning) == "done"
    store = Store(tmp_path / "stopped")
    epochs = len(straight.store.metrics(tuning.key))
    assert attempt(stopped, tuning, lambda: len(store.metrics(tuning.key)) == epochs) == "interrupted"
    assert (store.status(tuning.key), store.result(tuning.key)) == ("interrupted", None)
    assert not (store.checkpoint(tuning.key) / "model.safetensors").exists()
    assert len(store.metrics(tuning.key)) == epochs
    assert attempt(stopped, tuning) == "done"
    assert len(store.metrics(tuning.key)) == epochs  # no epoch was trained again
    again, once = store.result(tuning.key), straight.store.result(tuning.key)
    assert again is not None
    assert once is not None
    assert (again.metrics, again.files) == (once.metrics, once.files)


def test_a_probe_stops_and_is_measured_by_the_next_attempt(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    plan = planned(drawn, tmp_path / "runs", tiny_profile)
    (probe,) = (job for job in plan.jobs if job.spec.kind == "probe")
    asked: list[bool] = []

    def stop_at_the_second_look() -> bool:
        asked.append(True)
        return len(asked) > 1

    assert attempt(plan, probe, stop_at_the_second_look) == "interrupted"
    assert plan.store.status(probe.key) == "interrupted"
    assert attempt(plan, probe) == "done"
    result = plan.store.result(probe.key)
    assert result is not None
    assert {"knn_top1", "linear_top1"} <= result.metrics.keys()
