"""Who is who in a group: as srun tells it, and on the GPUs of one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.execute.context import Device, RunPaths
from suite.execute.ddp.group import Rank
from suite.execute.local.executor import LocalExecutor
from suite.execute.local.machine import machine

TASK = {
    "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "1234567",
    "SLURM_JOB_NODELIST": "gpu[07-08,11]",
}  # fmt: skip


def test_a_task_of_srun_knows_its_place() -> None:
    assert Rank.from_slurm(TASK) == Rank(5, 8, 1, "gpu07", 24_567)
    given = {**TASK, "MASTER_ADDR": "10.0.0.3", "MASTER_PORT": "29500", "SLURM_STEP_NODELIST": "gpu11"}
    assert Rank.from_slurm(given) == Rank(5, 8, 1, "10.0.0.3", 29_500)
    assert Rank.from_slurm({**TASK, "SLURM_STEP_NODELIST": "gpu11"}).address == "gpu11"  # a step may have fewer nodes
    with pytest.raises(UsageError, match="SLURM_LOCALID is not set"):
        Rank.from_slurm({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"})


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("machine", "executor"):
        monkeypatch.setattr(f"suite.execute.local.{module}.gpu_count", lambda: 8)


def executor(workers: int | None, devices: int, accelerator: str = "auto") -> LocalExecutor:
    return LocalExecutor(RunPaths(Path(), Path()), workers, Device(accelerator=accelerator, devices=devices))  # type: ignore[arg-type]


@pytest.mark.usefixtures("eight_gpus")
@pytest.mark.parametrize(
    ("devices", "workers", "first"), [(1, 8, list(range(8))), (2, 4, [0, 2, 4, 6]), (3, 2, [0, 3]), (8, 1, [0])]
)
def test_workers_share_the_gpus(devices: int, workers: int, first: list[int]) -> None:
    run = executor(None, devices)
    assert run.workers == machine(None, devices).workers == workers
    assert [run.device_of(worker).gpu for worker in range(workers)] == first
    assert executor(9, devices).device_of(workers).gpu == 0  # more workers than GPUs for them: round and round


@pytest.mark.usefixtures("eight_gpus")
def test_more_devices_than_gpus_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"asks for 9 GPUs per job, and 8 can be seen here. Use --devices 8 or less"):
        executor(None, 9)
    executor(None, 9, accelerator="cpu")


def test_threads_are_those_of_the_machine_for_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("machine", "executor"):
        monkeypatch.setattr(f"suite.execute.local.{module}.gpu_count", lambda: 0)
    monkeypatch.setattr("suite.execute.local.machine.cores", lambda: 16)
    for workers, devices, expected, threads in ((None, 1, 4, 4), (None, 2, 2, 4), (2, 3, 2, 2), (None, 40, 1, 1)):
        run = executor(workers, devices)
        assert (run.workers, run.device.threads) == (expected, threads)
