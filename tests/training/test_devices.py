"""A job trained by two processes is the job trained by one, and outlives what happens to either of them."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest

from suite.cli.select import SelectorOptions
from suite.execute.context import Device, JobContext
from suite.execute.ddp import spawned
from suite.execute.ddp.spawned import SpawnedRanks
from suite.execute.worker import run_job
from suite.jobs.identity import Job
from suite.kinds.probe import ProbeSpec

from .test_resume import Runs, assert_same

ONE, TWO = (Device(accelerator="cpu", threads=1, checkpoint_minutes=0, devices=n) for n in (1, 2))
ROWS = ("byol", "byol_cvsa", "moco_v2", "simclr")
# Largest differences over all weights, and over all metrics, which Fabric hands over in single precision. In double
# precision found: 4e-13, and 4e-6 where CVSA's alignment is computed in single precision all the same. In single
# precision MoCo v2 is compared, 4e-6: what is rounded there does not grow. At these sizes and rates BYOL's does; one
# process whose first weights are changed by 1e-7 ends as far from itself as from two.
TOLERANCE = {"byol_cvsa 64-true": (1e-4, 1e-5), "moco_v2 32-true": (1e-4, 1e-5)}
DOUBLE = (1e-11, 1e-6)


@pytest.fixture(scope="module")
def second() -> Iterator[SpawnedRanks]:
    """Process 1 beside this one, warm for all tests."""
    with closing(SpawnedRanks(TWO)) as members:
        yield members


def train(
    runs: Runs,
    job: Job,
    members: SpawnedRanks | None,
    stop_after: int | None = None,
    report: Callable[[dict[str, float]], None] = lambda _: None,
) -> tuple[str, str]:
    """The job by this process and `members`, or by this process alone."""
    polls = 0

    def should_stop() -> bool:
        nonlocal polls
        polls += 1
        return stop_after is not None and polls > stop_after

    context = JobContext(runs.places, ONE if members is None else TWO, should_stop, report)
    end = run_job(job, context, members)
    return end.outcome, end.error


def in_precision(runs: Runs, precision: str) -> list[Job]:
    """The jobs of a cell, probes included, all trained in that precision."""
    made: dict[str, Job] = {}
    for job in runs.plan.jobs:
        changes = {}
        if not isinstance(job.spec, ProbeSpec):
            changes["train"] = job.spec.train.model_copy(update={"precision": precision})
        if job.spec.init is not None:
            changes["init"] = made[job.spec.init].key
        made[job.key] = Job(job.spec.model_copy(update=changes), job.name)
    return list(made.values())


class Cell(Runs):
    """As `Runs`, with its plan."""

    def __init__(self, root: Path, drawn: Path, profile: Path, cell: str, *overrides: str) -> None:
        super().__init__(root, drawn, profile, cell, *overrides)
        self.plan = SelectorOptions(self.grid, str(profile), drawn, root, None, None, cell, None, list(overrides)).plan(
            obtain_inputs=False
        )


def assert_close(one: Runs, two: Runs, job: Job, weights: float, metrics: float) -> None:
    """The same metrics, and weights, which probes have none of."""
    left, right = one.store.result(job.key), two.store.result(job.key)
    assert left is not None
    assert right is not None
    assert right.metrics == pytest.approx(left.metrics, rel=0, abs=metrics)
    assert len(one.store.metrics(job.key)) == len(two.store.metrics(job.key))
    if not isinstance(job.spec, ProbeSpec):
        tensors, others = one.tensors(job), two.tensors(job)
        assert tensors.keys() == others.keys()
        assert max(float((others[name].double() - tensors[name].double()).abs().max()) for name in tensors) < weights


@pytest.mark.parametrize("case", [*(f"{row} 64-true" for row in ROWS), "moco_v2 32-true"])
def test_two_devices_are_one(case: str, tmp_path: Path, drawn: Path, tiny_profile: Path, second: SpawnedRanks) -> None:
    """Pretraining, fine-tuning and probes of a cell."""
    row, precision = case.split()
    one, two = (Cell(tmp_path / name, drawn, tiny_profile, f"{row}/cub") for name in ("one", "two"))
    for job in in_precision(one, precision):
        assert train(one, job, None) == train(two, job, second) == ("done", "")
        assert_close(one, two, job, *TOLERANCE.get(case, DOUBLE))
        devices = 1 if isinstance(job.spec, ProbeSpec) else 2
        assert f"1 threads, {devices} device(s)" in (two.store.folder(job.key) / "log.txt").read_text()


class Beyond(Cell):
    """A cell of that grid."""

    grid = "beyond"


def test_views_that_see_the_network_are_those_of_one_device(
    tmp_path: Path, drawn: Path, tiny_profile: Path, second: SpawnedRanks
) -> None:
    """ContrastiveCrop's boxes change between the two epochs; a job resumed after that on two devices has them too."""
    one, two, again = (Beyond(tmp_path / name, drawn, tiny_profile, "byol_ccrop/cub") for name in ("1", "2", "again"))
    job = in_precision(one, "64-true")[0]
    assert train(one, job, None) == train(two, job, second) == ("done", "")
    assert_close(one, two, job, *DOUBLE)
    assert train(again, job, second, stop_after=3)[0] == "interrupted"
    assert train(again, job, second) == ("done", "")
    assert_same(two.store, again.store, job)
    logs = [(runs.store.folder(job.key) / "log.txt").read_text() for runs in (one, two, again)]
    assert ["views updated before epoch 2" in log for log in logs] == [True] * 3


@pytest.mark.parametrize("row", ["byol", "moco_v2"])
def test_a_job_goes_on_with_another_number_of_devices(
    row: str, tmp_path: Path, drawn: Path, tiny_profile: Path, second: SpawnedRanks
) -> None:
    """2 then 2 devices end in the bits of 2 throughout; 2 then 1 and 1 then 2, in the same numbers."""
    straight, again, to_one, to_two = (
        Cell(tmp_path / name, drawn, tiny_profile, f"{row}/cub") for name in ("straight", "again", "to_one", "to_two")
    )
    for job in in_precision(straight, "64-true"):
        assert train(straight, job, second) == ("done", "")
        if isinstance(job.spec, ProbeSpec):
            continue
        for runs, members, stop in ((again, second, 0), (again, second, 1), (to_one, second, 3), (to_two, None, 3)):
            assert train(runs, job, members, stop_after=stop)[0] == "interrupted"
        for runs, members in ((again, second), (to_one, None), (to_two, second)):
            assert train(runs, job, members) == ("done", "")
            assert "resuming at step" in (runs.store.folder(job.key) / "log.txt").read_text()
            assert_close(straight, runs, job, *DOUBLE)
        assert_same(straight.store, again.store, job)


def test_a_killed_process_fails_the_job_which_then_resumes(
    tmp_path: Path, drawn: Path, tiny_profile: Path, second: SpawnedRanks
) -> None:
    straight, killed = (Runs(tmp_path / name, drawn, tiny_profile, "byol/cub") for name in ("straight", "killed"))
    job = straight.jobs[0]
    assert train(straight, job, second) == ("done", "")
    (victim,) = members_alive()

    def kill(line: dict[str, float]) -> None:
        os.kill(victim, signal.SIGKILL)

    outcome, error = train(killed, job, second, report=kill)
    assert (outcome, error) == (
        "failed",
        "TrainingError: process 1 of 2 ended with exit code -9 (out of memory, or killed)",
    )
    assert not members_alive()
    assert killed.store.result(job.key) is None
    assert killed.store.status(job.key) == "failed"
    assert train(killed, job, second) == ("done", "")
    assert_same(straight.store, killed.store, job)


def test_what_goes_wrong_in_another_process_is_told(
    tmp_path: Path, drawn: Path, tiny_profile: Path, second: SpawnedRanks
) -> None:
    """An error of all, or of process 0, is told as in one process; an error of process 1 alone with its number."""
    runs = Runs(tmp_path, drawn, tiny_profile, "random/cub", "finetune.optimizer.base_lr=1e30")
    outcome, error = train(runs, runs.jobs[0], second)
    assert outcome == "failed"
    assert error.startswith("TrainingError: the loss became")

    def full(line: dict[str, float]) -> None:
        raise OSError("no space left")

    runs = Runs(tmp_path / "leader", drawn, tiny_profile, "random/cub")
    assert train(runs, runs.jobs[0], second, report=full) == ("failed", "OSError: no space left")

    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import multiprocessing\n"
        "if multiprocessing.current_process().name == 'suite-rank-1':\n"
        "    raise ValueError('only here')\n",
        "utf-8",
    )
    runs = Runs(tmp_path / "alone", drawn, tiny_profile, "random/cub")
    runs.places = replace(runs.places, plugins=(plugin,))
    outcome, error = train(runs, runs.jobs[0], second)
    assert outcome == "failed"
    assert error.startswith("TrainingError: process 1 of 2 failed: ")
    assert "only here" in error
    assert "Traceback" in (runs.store.folder(runs.jobs[0].key) / "log.txt").read_text()
    assert not members_alive()


def test_a_process_that_waits_for_a_dead_one_for_ever_leaves(
    tmp_path: Path, drawn: Path, tiny_profile: Path, second: SpawnedRanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NCCL may: here process 0 does not exchange anything any more."""
    runs = Runs(tmp_path, drawn, tiny_profile, "random/cub")
    job, left = runs.jobs[0], threading.Event()
    runs.store.begin(job, {})
    codes: list[int] = []
    monkeypatch.setattr(spawned, "_GRACE", 0.1)
    monkeypatch.setattr(spawned.os, "_exit", lambda code: (codes.append(code), left.set()))
    with second.connect(job, runs.places):
        (victim,) = members_alive()
        os.kill(victim, signal.SIGKILL)
        assert left.wait(60)
    assert codes[0] == 1
    failure = runs.store.failure(job.key)
    assert failure is not None
    assert failure.kind == "killed"
    assert "process 1 of 2 ended with exit code -9" in failure.error


def members_alive() -> list[int]:
    """Ids of the other processes, of all groups that this one leads."""
    return [child.pid for child in active_children() if child.name.startswith("suite-rank") and child.pid]


COMMAND = [sys.executable, "-c", "from suite.cli import main; main()", "run", "--grid", "paper_table1"]


def command(drawn: Path, runs: Path, profile: Path, devices: int) -> list[str]:
    where = ["--data", str(drawn), "--runs", str(runs), "--profile", str(profile), "--only", "moco_v2/cub"]
    return [*COMMAND, *where, "--workers", "1", "--devices", str(devices), "--set", "pretrain.epochs=40"]


def test_the_command_line_and_no_orphans(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    """SIGKILL of `suite run` takes all of its processes along; the same command then goes on and finishes."""
    environment = {**os.environ, "SUITE_CHECKPOINT_MINUTES": "0.005"}
    refused = subprocess.run(command(drawn, tmp_path, tiny_profile, 3), capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "a batch of 8 images cannot be shared evenly by 3 devices. Use --devices 1 or 2" in refused.stderr
    assert not list(tmp_path.glob("*/job.yaml"))

    run = command(drawn, tmp_path, tiny_profile, 2)
    with subprocess.Popen(run, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/checkpoint/state.pt")):
            assert process.poll() is None, "finished before a checkpoint was seen"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        below = descendants(process.pid)
        assert len(below) >= 2
        process.kill()
    while any(Path(f"/proc/{number}").exists() for number in below):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert "3 jobs trained" in done.stdout
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 3  # three protocols
    logs = [path.read_text() for path in tmp_path.glob("*/log.txt")]
    assert sum("resuming at step" in log for log in logs) == 1
    recorded = [json.loads(path.read_text()) for path in tmp_path.glob("*/env.json")]
    assert (
        sorted((found["devices"], found["backend"]) for found in recorded if found["devices"] > 1) == [(2, "gloo")] * 2
    )


def descendants(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False).stdout.split()
    return [number for child in found for number in (int(child), *descendants(int(child)))]


def test_processes_started_by_slurm(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    """Two tasks that know of each other what srun tells them train a job; sent again, both leave at once."""
    runs = Runs(tmp_path, drawn, tiny_profile, "random/cub")
    job = runs.jobs[0]
    (tmp_path / "order.pickle").write_bytes(pickle.dumps((job, runs.places, ONE)))
    code = (
        "import os, pickle, sys\n"
        "from suite.execute.context import JobContext\n"
        "from suite.execute.ddp.group import Rank\n"
        "from suite.execute.ddp.launched import run_launched\n"
        "job, paths, device = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(run_launched(job, JobContext(paths, device), Rank.from_slurm(os.environ)).outcome)\n"
    )
    for expected in (["done", "elsewhere"], ["elsewhere", "elsewhere"]):
        port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        tasks = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path / "order.pickle")],
                env={**os.environ, **port, "SLURM_PROCID": str(n), "SLURM_LOCALID": str(n), "SLURM_NTASKS": "2"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for n in range(2)
        ]
        assert [task.communicate(timeout=120)[0].strip() for task in tasks] == expected
    result = runs.store.result(job.key)
    assert result is not None
    assert "top1" in result.metrics


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
