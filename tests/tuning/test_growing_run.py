"""The executor's part: a run that grows as it goes, and a job that is left because nobody wants it any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from methods.args import ResNetArgs
from suite.cli.select import SelectorOptions
from suite.execute.context import Device, RunPaths
from suite.execute.engine import Options
from suite.execute.local.executor import LocalExecutor
from suite.execute.prepare import prepare
from suite.jobs.identity import Job
from suite.jobs.order import ReadyJobs
from suite.kinds.imported import ImportSpec
from suite.store.store import Store


def toy(name: str, *parents: Job) -> Job:
    return Job(ImportSpec(sha256=name, backbone=ResNetArgs(arch="resnet10")), name, parents)


def names(ready: ReadyJobs) -> list[str]:
    found = []
    while (job := ready.pop()) is not None:
        found.append(job.name)
    return found


def test_jobs_that_are_added_wait_for_those_before_them() -> None:
    stage = toy("stage")
    first, second = toy("first", stage), toy("second", stage)
    ready = ReadyJobs([stage, first], {})
    ready.add([stage, second])
    assert names(ready) == ["stage"]
    ready.mark_done(stage)
    assert names(ready) == ["first", "second"]
    ready.add([stage, toy("third", stage)])
    assert names(ready) == ["third"]  # its parent is done


def test_a_forgotten_job_may_come_back() -> None:
    stage = toy("stage")
    child = toy("child", stage)
    ready = ReadyJobs([stage, child], {})
    assert ready.pop() is stage
    ready.forget(stage)
    ready.add([toy("other")])
    ready.add([stage, child])
    assert names(ready) == ["other", "stage"]
    ready.mark_done(stage)
    assert names(ready) == ["child"]


def test_a_job_nobody_wants_is_left_with_its_checkpoint_and_the_run_grows(
    tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    overrides = ["pretrain.epochs=400", "finetune.epochs=1"]
    plan = SelectorOptions(
        "paper_table1", str(tiny_profile), drawn, tmp_path, ["cub"], ["byol", "random"], None, None, overrides
    ).plan(False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    by_row = {item.cell.row.name: item for item in plan.cell_jobs}
    long, behind, short = by_row["byol"].stages[0], by_row["byol"].finetune, by_row["random"].finetune
    batches: list[list[Job]] = [[long, behind], [short]]
    given: list[str] = []

    class Feed:
        """Wants the long job until it has begun, and gives the short one after it."""

        left = False
        events: list[tuple[str, str]]

        def __init__(self) -> None:
            self.events = []

        def next_jobs(self) -> Sequence[Job]:
            given.append("asked")
            return batches.pop(0) if batches else []

        def is_unneeded(self, job: Job) -> bool:
            return self.left and job.key in {long.key, behind.key}

        def started(self, job: Job) -> None:
            self.events.append(("started", job.name))

        def progress(self, job: Job, line: dict[str, float]) -> None:
            self.left = self.left or job.key == long.key

        def ended(self, job: Job, outcome: str, error: str) -> None:
            self.events.append((outcome, job.name))

    feed = Feed()
    executor = LocalExecutor(RunPaths(tmp_path, plan.workspace.cache), 1, Device(accelerator="cpu"))
    summary = executor.run([], feed, Options(next_jobs=feed.next_jobs, is_unneeded=feed.is_unneeded))
    assert feed.events == [
        ("started", long.name), ("left", long.name), ("started", short.name), ("done", short.name),
    ]  # fmt: skip
    assert not summary.interrupted
    assert not summary.failed
    assert [job.key for job in summary.done] == [short.key]
    store = Store(tmp_path)
    assert store.status(long.key) == "interrupted"
    assert (store.checkpoint(long.key) / "state.pt").is_file()
    assert store.status(behind.key) == "new"
