"""A job for processes that were started from outside, one per device, such as the tasks of an srun step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from suite.execute.ddp.group import Group, connected
from suite.execute.places import Device, Places
from suite.execute.worker import End, follow_job, run_job
from suite.jobs.identity import Job


def run_started(
    job: Job,
    places: Places,
    device: Device,
    should_stop: Callable[[], bool],
    report: Callable[[dict[str, float]], None],
    group: Group,
) -> tuple[End, str]:
    """`run_job` in every process of `group`: all call this with the same job, and `Group.from_slurm(os.environ)`, say.

    `device.gpu` is the index of the machine's first; each process takes the one of its local rank. What goes wrong in
    another process than 0 is raised there. Whoever started them must end all when one ends with an error, as
    `srun --kill-on-bad-exit` does.

    Returns:
        In process 0 as `run_job`; in the others "elsewhere".
    """
    if group.world == 1:
        return run_job(job, places, device, should_stop, report)
    with connected(group, device.kind):
        others = _Others(group)
        if group.rank == 0:
            try:
                return run_job(job, places, replace(device, devices=group.world), should_stop, report, others)
            finally:
                others.tell(begin=False)
        if _said(False):
            follow_job(job, places, device, group)
        return "elsewhere", ""


class _Others:
    """The crew of process 0. They wait for one word: to begin, or to leave."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._told = False

    @contextmanager
    def at_work(self, job: Job, places: Places) -> Iterator[Group]:
        self.tell(begin=True)
        yield self._group

    def tell(self, begin: bool) -> None:
        """Only the first word is said."""
        if not self._told:
            self._told = True
            _said(begin)


def _said(word: bool) -> bool:
    """Process 0's word, in every process."""
    import torch

    from methods.distributed import agreed

    return bool(agreed(torch.tensor(word)))
