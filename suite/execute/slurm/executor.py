"""Jobs on a cluster: one Slurm job per job of the store; Slurm keeps the dependencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from suite.errors import UsageError
from suite.execute.context import RunPaths
from suite.execute.drain import drain
from suite.execute.engine import EngineOptions, Listener, Options, Summary
from suite.execute.slurm.backend import SlurmBackend
from suite.execute.slurm.queue import require_slurm
from suite.execute.slurm.site import Site, load_site
from suite.execute.slurm.submit import Submission
from suite.jobs.identity import Job
from suite.planning.costs import Machine
from suite.store.store import Store
from suite.training.online import OnlineKnn


@dataclass(frozen=True)
class SlurmEngine:
    """Settings of `--executor slurm`."""

    site: Site
    detach: bool = False  # submit and return
    at_once: int | None = None  # tasks of one array side by side; the site's own number otherwise

    starts_at_once = False

    @property
    def machine(self) -> Machine:
        """For estimates of time."""
        return self.site.machine(self.at_once)

    def devices_for(self, kind: str) -> int:
        """The number in the site file."""
        return self.site.resources(kind).devices

    def executor(self, paths: RunPaths, checkpoint_minutes: float, online: OnlineKnn | None = None) -> SlurmExecutor:
        """See `SlurmExecutor`."""
        return SlurmExecutor(paths, self, checkpoint_minutes, online)


@dataclass
class SlurmExecutor:
    """Submits the jobs that are neither done nor in the queue already; then waits for them, unless it detaches."""

    paths: RunPaths
    engine: SlurmEngine
    checkpoint_minutes: float = 5.0
    online: OnlineKnn | None = None
    _store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.paths = self.paths.resolved()
        self._store = Store(self.paths.runs)

    def run(self, jobs: Sequence[Job], listener: Listener, options: Options | None = None) -> Summary:
        """Run jobs whose parents are done or among them.

        Raises:
            UsageError: Slurm or submitit is missing, or sbatch refuses; nothing was submitted.
        """
        options = options or Options()
        require_slurm()
        site = self.engine.site
        at_once = self.engine.at_once or site.array_at_once
        submission = Submission(site, self.paths, self.checkpoint_minutes, at_once, self.online)
        backend = SlurmBackend(submission, self._store, dict(options.seconds))
        if not self.engine.detach:
            return drain(jobs, backend, self._store, listener, options)
        if options.next_jobs:
            raise UsageError("a study cannot be detached: it asks for trials as results come in. Leave --detach out.")
        backend.start(jobs)
        return Summary(queued=len(jobs))


def slurm_engine(options: EngineOptions) -> SlurmEngine:
    """For `suite.execute.engines`.

    Raises:
        UsageError: no site file, or Slurm or submitit is missing.
    """
    engine = SlurmEngine(load_site(options.site).with_loaders(options.loaders), options.detach, options.workers)
    require_slurm()
    return engine
