"""Run a job in externally launched ranks (one per device), e.g. the tasks of an `srun` step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from suite.execute.context import JobContext, RunPaths
from suite.execute.ddp.group import Rank, connected
from suite.execute.worker import JobEnd, follow_job, run_job
from suite.jobs.identity import Job


def run_launched(job: Job, context: JobContext, rank: Rank) -> JobEnd:
    """`run_job` in every rank: all call this with the same job, and with `Rank.from_slurm(os.environ)`, for example.

    `context.device.gpu` is the index of the machine's first GPU; each rank takes the one of its local rank. An error in
    a rank other than 0 is raised there. The launcher must end all ranks when one ends with an error, as
    `srun --kill-on-bad-exit` does.

    Returns:
        In rank 0 as `run_job`; in the others "elsewhere".
    """
    if rank.world_size == 1:
        return run_job(job, context)
    with connected(rank, context.device.kind):
        others = LaunchedRanks(rank)
        if rank.rank == 0:
            together = replace(context, device=replace(context.device, devices=rank.world_size))
            try:
                return run_job(job, together, others)
            finally:
                others.broadcast_start(False)
        if _broadcast(False):
            follow_job(job, context, rank)
        return JobEnd("elsewhere")


class LaunchedRanks:
    """The process group of rank 0: the other ranks wait for one flag, whether to begin or to leave."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._sent = False

    @contextmanager
    def connect(self, job: Job, paths: RunPaths) -> Iterator[Rank]:
        """Have the other ranks begin."""
        self.broadcast_start(True)
        yield self._rank

    def broadcast_start(self, begin: bool) -> None:
        """Send the flag. Later calls are no-ops."""
        if not self._sent:
            self._sent = True
            _broadcast(begin)


def _broadcast(flag: bool) -> bool:
    """Broadcast a flag from rank 0; returns it in every rank."""
    import torch

    from methods.distributed import broadcast

    return bool(broadcast(torch.tensor(flag)))
