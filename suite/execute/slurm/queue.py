"""State of Slurm jobs, from squeue and, where the cluster has accounting, sacct."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from suite.errors import UsageError
from suite.execute.engine import QueueSilent

_ENDED = {
    "COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "CANCELLED", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
    "REVOKED", "FORGOTTEN",
}  # fmt: skip


@dataclass(frozen=True)
class State:
    """State of a Slurm job. FORGOTTEN is the suite's: squeue drops ended jobs, and some sites have no accounting."""

    name: str
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.name in _ENDED

    @property
    def never_starts(self) -> bool:
        """Whether something it waits for has failed, on sites that leave such jobs in the queue."""
        return self.reason == "DependencyNeverSatisfied" and not self.ended

    @property
    def text(self) -> str:
        """State and reason."""
        return f"{self.name} ({self.reason})" if self.reason not in {"", "None"} else self.name


def require_slurm() -> None:
    """Raise a UsageError where Slurm's commands or submitit are missing."""
    missing = [name for name in ("sbatch", "srun", "squeue", "scancel", "scontrol") if shutil.which(name) is None]
    if missing:
        raise UsageError(
            f"--executor slurm needs Slurm's commands, and {', '.join(missing)} cannot be found here. Run it on a "
            "login node, or use --executor local."
        )
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise UsageError("--executor slurm needs submitit: pip install -e '.[slurm]'") from None


def states(ids: Iterable[str]) -> dict[str, State]:
    """The state of each Slurm job, ``12`` or ``12_3`` for a task of an array.

    Raises:
        QueueSilent: squeue is missing or its controller does not answer.
    """
    wanted = list(ids)
    if not wanted:
        return {}
    arrays = sorted({job.partition("_")[0] for job in wanted})
    asked = _call("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(arrays)}")
    if asked.returncode and "Invalid job id" not in asked.stderr:
        raise QueueSilent(f"squeue does not answer: {asked.stderr.strip()}")
    states_by_job = {job: State(*rest) for line in asked.stdout.splitlines() for job, *rest in _expanded(line)}
    if any(job not in states_by_job for job in wanted):
        states_by_job = {**_accounts(arrays), **states_by_job}
    return {job: states_by_job.get(job, State("FORGOTTEN")) for job in wanted}


def cancel(ids: Iterable[str], pending_only: bool = False) -> None:
    """Have jobs ended: running ones get SIGTERM, on which they save, and SIGKILL after the site's KillWait."""
    wanted = list(ids)
    only = ["--state=PENDING"] if pending_only else []
    for start in range(0, len(wanted), 1000):  # a command line has its limits
        _call("scancel", *only, *wanted[start : start + 1000])


def requeue(job: str) -> None:
    """Put a running job back into the queue. Raises QueueSilent where Slurm refuses."""
    asked = _call("scontrol", "requeue", job)
    if asked.returncode:
        raise QueueSilent(f"scontrol requeue {job}: {asked.stderr.strip()}")


def _accounts(arrays: list[str]) -> dict[str, State]:
    """States by job id, from sacct; empty where the site has no accounting."""
    if shutil.which("sacct") is None:
        return {}
    asked = _call("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", "-j", ",".join(arrays))
    lines = asked.stdout.splitlines() if asked.returncode == 0 else []
    # "CANCELLED by 1000" names the user who did it.
    return {job: State(name.split()[0]) for line in lines for job, name in _expanded(line) if name}


def _expanded(line: str) -> Iterator[list[str]]:
    """The fields of a line of squeue, once per task: pending tasks are listed together, as ``12_[0-3,7]``."""
    identity, *rest = line.split("|")
    array, bracket, tasks = identity.partition("_[")
    if not bracket:
        yield [identity, *rest]
        return
    for part in tasks.partition("]")[0].partition("%")[0].split(","):
        first, _, last = part.partition("-")
        yield from ([f"{array}_{task}", *rest] for task in range(int(first), int(last or first) + 1))


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        raise QueueSilent(f"{command[0]} cannot be found on this machine") from None
    except subprocess.TimeoutExpired:
        raise QueueSilent(f"{command[0]} did not answer within two minutes") from None
