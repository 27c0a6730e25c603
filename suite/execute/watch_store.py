"""Progress and results of jobs that run in other processes, read from the store on a shared disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from suite.execute.engine import Ended, Event, Progressed
from suite.jobs.identity import Job
from suite.store.store import Store


class StoreWatch:
    """Reports what is new in the folders of jobs.

    Args:
        store: the results.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sizes: dict[str, int] = {}  # bytes of metrics.jsonl at the last look

    def look(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """A `Progressed` for each job with new metrics, an `Ended` for each with a result."""
        for job in jobs:
            folder = self._store.folder(job.key)
            if (folder / "result.json").is_file():
                yield Ended(job, "done")
                continue
            curve = folder / "metrics.jsonl"
            # Without a claim the metrics are those of an earlier attempt.
            size = curve.stat().st_size if (folder / "claim.json").is_file() and curve.is_file() else 0
            if size and size != self._sizes.get(job.key):
                self._sizes[job.key] = size
                if lines := self._store.metrics(job.key):
                    yield Progressed(job, lines[-1])
