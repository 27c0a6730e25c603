"""Jobs on a cluster: one Slurm job per job of the store, their dependencies Slurm's to keep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from filelock import FileLock

from suite.execute.engine import Listener, Options, Summary
from suite.execute.places import Places
from suite.execute.slurm.queue import require_slurm
from suite.execute.slurm.records import folder, in_queue
from suite.execute.slurm.site import Site
from suite.execute.slurm.submit import Submission, absolute
from suite.execute.slurm.watch import Watch
from suite.jobs.identity import Job
from suite.planning.costs import Machine
from suite.store.store import Store


@dataclass(frozen=True)
class Cluster:
    """Where and how `suite run --executor slurm` runs."""

    site: Site
    detach: bool = False  # submit and return
    at_once: int | None = None  # tasks of one array side by side; the site's own number otherwise

    starts_at_once = False

    @property
    def machine(self) -> Machine:
        """For estimates of time."""
        return self.site.machine(self.at_once)

    def devices_for(self, kind: str) -> int:
        """As the site file says."""
        return self.site.resources(kind).devices

    def executor(self, places: Places, checkpoint_minutes: float) -> SlurmExecutor:
        """See `SlurmExecutor`."""
        return SlurmExecutor(places, self, checkpoint_minutes)


@dataclass
class SlurmExecutor:
    """Submits what neither is done nor waits in the queue already; then waits, unless it is to detach."""

    places: Places
    cluster: Cluster
    checkpoint_minutes: float = 5.0
    _store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.places = absolute(self.places)
        self._store = Store(self.places.runs)

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """Run jobs whose parents are done or among them.

        Raises:
            UsageError: Slurm or submitit is missing, or sbatch refuses; nothing was submitted.
        """
        options = options or Options()
        require_slurm()
        site = self.cluster.site
        submission = Submission(site, self.places, self.checkpoint_minutes, self.cluster.at_once or site.array_at_once)
        with FileLock(_lock_file(self._store)):
            before = {key: record for key, (record, _) in in_queue(self._store, {job.key for job in jobs}).items()}
            fresh = [job for job in jobs if job.key not in before]
            ids = {key: record.slurm for key, record in before.items()}
            made = submission.submit(fresh, options.seconds, ids)
        names = ", ".join(dict.fromkeys(record.slurm.partition("_")[0] for record in made.values()))
        waiting = f" {len(before)} are in its queue already." if before else ""
        print(f"submitted {len(made)} jobs to Slurm{': ' + names if names else ''}.{waiting}", file=sys.stderr)
        if self.cluster.detach:
            return Summary(queued=len(jobs))
        return Watch(self._store, jobs, {**before, **made}, set(made), listener, options, site.poll_seconds).run()


def _lock_file(store: Store) -> str:
    folder(store).mkdir(parents=True, exist_ok=True)
    return str(folder(store) / ".lock")
