"""The loop that all engines share, on workers that obey the test: order, failures, stops, growing runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from methods.args import ResNetArgs
from suite.execute.drain import drain
from suite.execute.engine import Ended, EngineOptions, Event, Options, Outcome, Progressed, Started, Summary
from suite.execute.engines import create_engine
from suite.jobs.identity import Job
from suite.kinds.imported import ImportSpec
from suite.store.store import Result, Store


def toy(name: str, *parents: Job) -> Job:
    return Job(ImportSpec(sha256=name, backbone=ResNetArgs(arch="resnet10")), name, parents)


class Silent:
    """Records what a listener hears, by names."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def started(self, job: Job) -> None:
        self.heard.append(("started", job.name))

    def progress(self, job: Job, line: dict[str, float]) -> None:
        self.heard.append(("progress", job.name))

    def ended(self, job: Job, outcome: str, error: str) -> None:
        self.heard.append((outcome, job.name))


class Scripted:
    """A backend whose jobs end one per call of `events`, in the order of their start, as `ends` says."""

    stopping = "all save"

    def __init__(self, slots: int, ends: dict[str, Outcome] | None = None, keeps_order: bool = False) -> None:
        self.slots, self.ends, self.keeps_order = slots, ends or {}, keeps_order
        self.running: list[Job] = []
        self.calls: list[list[str]] = []
        self.left: set[str] = set()
        self.stopped = self.closed = False
        self.before_events: Callable[[], None] = lambda: None

    def idle(self) -> int:
        return self.slots - len(self.running)

    def start(self, jobs: Sequence[Job]) -> None:
        self.calls.append([job.name for job in jobs])
        self.running += jobs

    def events(self, timeout: float) -> Iterator[Event]:
        self.before_events()
        if not self.running:
            return
        if self.stopped:
            while self.running:
                yield Ended(self.running.pop(0), "interrupted")
            return
        job = next((job for job in self.running if job.name in self.left), self.running[0])
        yield Started(job)
        yield Progressed(job, {})
        self.running.remove(job)
        yield Ended(job, "interrupted" if job.name in self.left else self.ends.get(job.name, "done"), "why")

    def leave(self, job: Job) -> None:
        self.left.add(job.name)

    def drop(self, jobs: Sequence[Job], orphaned: bool) -> list[Job]:
        self.running = [job for job in self.running if job not in jobs]
        return list(jobs)

    def interrupt(self) -> None:
        self.interrupted = True

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        raise AssertionError("nothing is to be killed")

    def close(self) -> None:
        self.closed = True


def run(backend: Scripted, jobs: Sequence[Job], root: Path, options: Options | None = None) -> tuple[Summary, Silent]:
    listener = Silent()
    summary = drain(jobs, backend, Store(root), listener, options or Options())
    assert backend.closed
    return summary, listener


STAGE = toy("stage")
FIRST, SECOND, OTHER = toy("first", STAGE), toy("second", STAGE), toy("other")
GRAPH = (STAGE, FIRST, SECOND, OTHER)


def test_a_worker_gets_a_job_when_its_parents_are_done(tmp_path: Path) -> None:
    backend = Scripted(slots=2)
    summary, listener = run(backend, GRAPH, tmp_path)
    assert backend.calls == [["stage"], ["other"], ["first"], ["second"]]
    assert [job.name for job in summary.done] == ["stage", "other", "first", "second"]
    assert listener.heard.count(("started", "first")) == 1


def test_a_queue_that_keeps_the_order_gets_everything_at_once(tmp_path: Path) -> None:
    backend = Scripted(slots=1, keeps_order=True)
    summary, _ = run(backend, GRAPH, tmp_path)
    assert backend.calls == [["stage", "first", "second", "other"]]
    assert len(summary.done) == 4


@pytest.mark.parametrize("keeps_order", [False, True])
def test_a_failure_skips_what_depends_on_it(keeps_order: bool, tmp_path: Path) -> None:
    summary, listener = run(Scripted(1, {"stage": "failed"}, keeps_order), GRAPH, tmp_path)
    assert [job.name for job in summary.done] == ["other"]
    assert summary.failed == {
        STAGE.key: "why", FIRST.key: "not run: stage failed (why)", SECOND.key: "not run: stage failed (why)",
    }  # fmt: skip
    assert listener.heard.count(("skipped", "first")) == 1
    assert not summary.interrupted


@pytest.mark.parametrize("keeps_order", [False, True])
def test_fail_fast_starts_nothing_more(keeps_order: bool, tmp_path: Path) -> None:
    backend = Scripted(1, {"stage": "failed"}, keeps_order)
    summary, listener = run(backend, GRAPH, tmp_path, Options(fail_fast=True))
    assert not summary.done
    assert ("started", "other") not in listener.heard


@pytest.mark.parametrize("keeps_order", [False, True])
def test_a_request_to_stop_is_passed_on_once(
    keeps_order: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend, asked = Scripted(1, keeps_order=keeps_order), [False]
    backend.before_events = lambda: asked.__setitem__(0, bool(backend.left) or len(backend.calls) > 0)
    summary, _ = run(backend, GRAPH, tmp_path, Options(asked_to_stop=lambda: asked[0]))
    assert backend.stopped
    assert summary.interrupted
    assert not summary.failed
    assert capsys.readouterr().err == "stopping, as asked by `suite cancel`: all save\n"


def test_a_signal_stops_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backend, sent = Scripted(2), [False]

    def send() -> None:
        if not sent[0]:
            sent[0] = True
            os.kill(os.getpid(), signal.SIGINT)

    backend.before_events = send
    summary, _ = run(backend, GRAPH, tmp_path)
    assert summary.interrupted
    assert backend.interrupted
    assert "stopping: all save" in capsys.readouterr().err


def test_a_job_that_another_run_finishes_is_not_done_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claim = store.claim(STAGE.key).acquire()
    backend, looks = Scripted(1), [0]

    def finish() -> None:
        looks[0] += 1
        if looks[0] == 2:
            store.describe(STAGE)
            store.finish(Result(key=STAGE.key, name="", metrics={}, files={}, seconds=0, images_per_second=0))
            claim.release()

    backend.before_events = finish
    summary, listener = run(backend, GRAPH, tmp_path)
    assert summary.elsewhere == 1
    assert ["stage"] not in backend.calls
    assert ("elsewhere", "stage") in listener.heard
    assert len(summary.done) == 4


@pytest.mark.parametrize("keeps_order", [False, True])
def test_a_run_that_grows_and_leaves_what_is_unwanted(keeps_order: bool, tmp_path: Path) -> None:
    batches, unwanted = [[OTHER]], [False]
    backend = Scripted(1, keeps_order=keeps_order)
    backend.before_events = lambda: unwanted.__setitem__(0, True)
    options = Options(
        next_jobs=lambda: batches.pop(0) if batches else [],
        is_unneeded=lambda job: unwanted[0] and job is not OTHER,
    )
    backend.ends = {"stage": "busy"}  # it is still being taken up when it becomes unwanted
    summary, listener = run(backend, [STAGE, FIRST], tmp_path, options)
    assert [job.name for job in summary.done] == ["other"]
    assert not summary.failed
    assert ("done", "first") not in listener.heard


def test_names_and_options_of_engines_are_checked() -> None:
    from suite.errors import UsageError
    from suite.execute.local.executor import LocalEngine

    assert create_engine("local", EngineOptions(workers=3)) == LocalEngine(3)
    with pytest.raises(UsageError, match=r"lokal.*local"):
        create_engine("lokal", EngineOptions())
    with pytest.raises(UsageError, match="--site does not apply to --executor local: it is for --executor slurm"):
        create_engine("local", EngineOptions(site="here"))
    with pytest.raises(UsageError, match=r"--devices does not apply to --executor slurm.*site file"):
        create_engine("slurm", EngineOptions(devices=2))
