"""Slurm's part of `suite status` and `suite cancel`."""

from __future__ import annotations

from collections.abc import Sequence

from suite.execute.engine import QueuedJob
from suite.execute.slurm.queue import cancel
from suite.execute.slurm.records import in_queue, read_records
from suite.store.store import Store


class SlurmQueue:
    """See `suite.execute.engine.Queue`."""

    title = "Slurm"

    def __init__(self, store: Store) -> None:
        self._store = store

    def submitted(self) -> int:
        """Number of records."""
        return len(read_records(self._store))

    def jobs(self) -> dict[str, QueuedJob]:
        """Jobs that Slurm has; records of ended jobs are settled and removed. Raises QueueSilent."""
        return {
            key: QueuedJob(key, record.name, record.slurm, state.text)
            for key, (record, state) in in_queue(self._store).items()
        }

    def cancel(self, jobs: Sequence[QueuedJob]) -> None:
        """SIGTERM; the jobs save."""
        cancel(job.id for job in jobs)
