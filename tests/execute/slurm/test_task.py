"""A task's own doing, without a daemon: what it refuses, and what is written down for those that could not speak."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer import Exit

from suite.cli.status import cancel
from suite.errors import TrainingError
from suite.execute.engine import QueueSilent
from suite.execute.slurm import queue, task
from suite.execute.slurm.queue import State, states
from suite.execute.slurm.records import SubmittedJob, in_queue, read_records, settle, write_record
from suite.execute.slurm.status import SlurmQueue
from suite.execute.slurm.task import StopSignals, TaskParameters, run_task
from suite.execute.worker import JobEnd
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.jobs.identity import Job
from suite.store.store import Failure, Store


@pytest.fixture
def job() -> Job:
    (cell,) = cells(load_grid("paper_table1"), load_profile("demo"), Selection(("cub",), ("byol",)))
    return jobs_of(cell, {"cub": "print"}, {"masks": ("1", None)}).stages[0]


def task_json(job: Job, runs: Path, **changes: Any) -> str:
    values: dict[str, Any] = {
        "key": job.key, "name": job.name, "spec": job.spec.model_dump(mode="json"), "runs": runs,
        "cache": runs / "cache", "plugins": (), "threads": 1, "gpu": False, "checkpoint_minutes": 5.0,
        "signal": "USR1", "requeues": 3,
    }  # fmt: skip
    return TaskParameters(**{**values, **changes}).model_dump_json()


@pytest.fixture(autouse=True)
def _own_handlers() -> Any:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_submitted_spec_is_what_runs(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = job.spec.model_dump(mode="json")
    with pytest.raises(TrainingError, match=r"code has changed since pretrain byol .* now reads as job"):
        run_task(task_json(job, tmp_path, spec={**spec, "seed": 7}))
    monkeypatch.setitem(task.OBJECTIVES, "byol", replace(task.OBJECTIVES["byol"], version=2))
    with pytest.raises(TrainingError, match="byol is another version now"):
        run_task(task_json(job, tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_no_reason_to_train_on_the_cpu(job: Job, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(TrainingError, match="asks for a GPU"):
        run_task(task_json(job, tmp_path, gpu=True))


def test_signals_are_told_apart() -> None:
    stop = StopSignals("USR1")
    stop.listen()
    assert not stop.requested()
    signal.raise_signal(signal.SIGUSR1)
    assert stop.requested()
    assert stop.to_requeue
    signal.raise_signal(signal.SIGTERM)  # somebody cancels: it must not come back by our doing
    assert stop.requested()
    assert not stop.to_requeue


def test_a_job_that_another_process_works_on_is_waited_for(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "_BUSY_POLL_SECONDS", 0.01)
    states_seen = iter(["running", "running", "done"])
    monkeypatch.setattr(task.Store, "status", lambda self, key: next(states_seen))
    monkeypatch.setattr("suite.execute.ddp.launched.run_launched", lambda *_: JobEnd("elsewhere"))
    assert run_task(task_json(job, tmp_path)) == "elsewhere"
    assert next(states_seen, None) is None


def test_a_job_is_put_back_into_the_queue_only_so_often(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requeued: list[str] = []

    def interrupted(*_: object) -> JobEnd:
        signal.raise_signal(signal.SIGUSR1)
        return JobEnd("interrupted")

    monkeypatch.setattr("suite.execute.ddp.launched.run_launched", interrupted)
    monkeypatch.setattr(task, "requeue", requeued.append)
    monkeypatch.setattr(task, "_REQUEUED", 0.01)
    for name, value in (("SLURM_ARRAY_JOB_ID", "4"), ("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_RESTART_COUNT", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="stopped on request"):
        run_task(task_json(job, tmp_path))
    assert requeued == ["4_2"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    with pytest.raises(TrainingError, match="interrupted"):
        run_task(task_json(job, tmp_path))
    assert requeued == ["4_2"]
    failure = Store(tmp_path).failure(job.key)
    assert failure is not None
    assert "requeued 3 times and still not finished" in failure.error


def record(job: Job, folder: Path, slurm: str = "12_3") -> SubmittedJob:
    log = folder / "12_3_0_log.err"
    return SubmittedJob(job.key, job.name, slurm, str(log), time.time(), job.spec.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("OUT_OF_MEMORY", "interrupted", "mem_gb"),
        ("TIMEOUT", "interrupted", "time"),
        ("NODE_FAIL", "interrupted", "node"),
        ("FORGOTTEN", "interrupted", "left the queue"),
        ("FAILED", "failed", "No module named 'suite'"),
    ],
)
def test_slurm_speaks_for_a_job_that_could_not(name: str, status: str, said: str, job: Job, tmp_path: Path) -> None:
    store, one = Store(tmp_path), record(job, tmp_path)
    Path(one.log).write_text("Traceback:\nNo module named 'suite'\nsrun: error: vm: task 0: Exited with exit code 1\n")
    write_record(store, one)
    error = settle(store, one, State(name))
    assert f"Slurm ended job 12_3: {name}" in error
    assert said in error
    failure = store.failure(job.key)
    assert failure is not None
    assert failure.error == error
    assert store.status(job.key) == status
    assert store.name(job.key) == job.name
    assert not read_records(store)


def test_a_process_without_time_for_an_exception_is_spoken_for_by_srun(job: Job, tmp_path: Path) -> None:
    store, one = Store(tmp_path), record(job, tmp_path)
    Path(one.log).write_text("UserWarning: something else\nsrun: error: vm: task 0: Killed\n")
    assert settle(store, one, State("FAILED")).endswith("vm: task 0: Killed")


def test_what_the_job_said_itself_comes_first_and_a_pending_one_that_was_cancelled_leaves_no_trace(
    job: Job, tmp_path: Path
) -> None:
    store, one = Store(tmp_path), record(job, tmp_path)
    assert "CANCELLED" in settle(store, one, State("CANCELLED"))
    assert store.status(job.key) == "new"
    store.describe(job)
    store.fail(job.key, Failure(error="TrainingError: loss", kind="failed", traceback=""))
    assert settle(store, one, State("FAILED")) == "TrainingError: loss"
    write_record(store, one)
    assert store.failure(job.key) is None  # a new attempt: the old failure is no longer its last word


def test_states_of_arrays_accounts_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = "7_[1-2,4%3]|PENDING|Dependency\n7_0|RUNNING|None\n8|CANCELLED|DependencyNeverSatisfied\n"
    answers = {"squeue": (0, squeue), "sacct": (0, "9|CANCELLED by 1000\n9.batch|FAILED\n")}

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        code, out = answers[command[0]]
        return subprocess.CompletedProcess(command, code, out, "controller away")

    monkeypatch.setattr(queue, "_call", call)
    monkeypatch.setattr(queue.shutil, "which", lambda name: name)
    found = states(["7_0", "7_2", "7_4", "8", "9", "10"])
    assert found["7_2"] == found["7_4"] == State("PENDING", "Dependency")
    assert [found[job].name for job in ("7_0", "8", "9", "10")] == ["RUNNING", "CANCELLED", "CANCELLED", "FORGOTTEN"]
    assert found["7_2"].text == "PENDING (Dependency)"
    assert not found["7_0"].ended
    assert found["8"].ended
    answers["squeue"] = (1, "")
    with pytest.raises(QueueSilent, match="controller away"):
        states(["7_0"])


def test_cancel_goes_on_while_a_queue_is_silent(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(Store(tmp_path), record(job, tmp_path))
    answers: list[str] = []
    cancelled: list[str] = []

    def answer(ids: list[str]) -> dict[str, State]:
        state = answers.pop(0)
        if state == "silent":
            raise QueueSilent("squeue does not answer")
        return {job: State(state) for job in ids}

    monkeypatch.setattr("suite.execute.slurm.records.states", answer)
    monkeypatch.setattr(SlurmQueue, "cancel", lambda self, jobs: cancelled.extend(job.id for job in jobs))
    answers[:] = ["RUNNING", "silent", "CANCELLED"]
    with pytest.raises(Exit) as ended:
        cancel(tmp_path, wait=10)
    assert ended.value.exit_code == 0
    assert "1 of 1 Slurm jobs ended" in capsys.readouterr().out
    assert len(cancelled) == 1


def test_cancel_says_what_a_silent_queue_leaves(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(Store(tmp_path), record(job, tmp_path))

    def answer(ids: list[str]) -> dict[str, State]:
        raise QueueSilent("squeue does not answer")

    monkeypatch.setattr("suite.execute.slurm.records.states", answer)
    with pytest.raises(Exit) as ended:
        cancel(tmp_path, wait=0)
    assert ended.value.exit_code == 1
    assert "Nothing was cancelled there: run `suite cancel` again." in capsys.readouterr().out


def test_only_what_slurm_still_has_is_in_the_queue(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, one = Store(tmp_path), record(job, tmp_path)
    write_record(store, one)
    monkeypatch.setattr("suite.execute.slurm.records.states", lambda ids: {job: State("PENDING") for job in ids})
    assert list(in_queue(store)) == [job.key]
    assert not in_queue(store, {"another"})
    monkeypatch.setattr("suite.execute.slurm.records.states", lambda ids: {job: State("NODE_FAIL") for job in ids})
    assert not in_queue(store)
    assert store.status(job.key) == "interrupted"
