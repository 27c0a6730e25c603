"""Connect a study to an executor: ask for trials when workers are idle, score them, and prune weak ones.

The executor's job graph grows with each trial. Worker processes are reused, stages that trials share are trained once,
and only as many trials run at a time as keep the workers busy: a sampler that is asked later has seen more results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suite.errors import SuiteError
from suite.execute.engine import Listener
from suite.jobs.identity import Job
from suite.store.store import Store
from suite.tuning.study import TuningStudy
from suite.tuning.trial import TrialJobs

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


@dataclass
class _RunningTrial:
    trial: Trial
    plan: TrialJobs
    keys: frozenset[str]


class Tuner:
    """Feeds an executor (`next_jobs`, `is_unneeded`) and listens to it.

    Args:
        study: where trials come from and results go.
        trials: total number of trials in the study, including earlier runs.
        plan: the jobs of a trial by its values; raises SuiteError for values the recipe refuses.
        prepare: makes the data that jobs read.
        store: the results.
        listener: told about every job as well.
        print_line: prints a line about a trial.
    """

    def __init__(
        self,
        study: TuningStudy,
        trials: int,
        plan: Callable[[Mapping[str, Any]], TrialJobs],
        prepare: Callable[[Sequence[Job]], None],
        store: Store,
        listener: Listener,
        print_line: Callable[[str], None],
    ) -> None:
        self.study, self.trials, self.store = study, trials, store
        self._plan, self._prepare, self._listener, self._print = plan, prepare, listener, print_line
        self._resumed = study.running()
        self._running: dict[int, _RunningTrial] = {}
        self._failed: dict[str, str] = {}  # key -> error, in this run
        self.failures = 0  # trials that failed or were left open in this run

    def next_jobs(self) -> list[Job]:
        """The jobs of the next trial that has unfinished jobs, resumed trials first; empty if no trial is left."""
        while (trial := self._next()) is not None:
            if (duplicate := self.study.earlier_duplicate(trial)) is not None:
                self._repeat(trial, duplicate)
                continue
            try:
                plan = self._plan(self.study.params(trial))
                jobs = [job for job in plan.jobs if self.store.result(job.key) is None]
                self._prepare(jobs)
            except SuiteError as error:
                self._finish(trial, "FAIL", note=str(error))
                continue
            trial.set_user_attr("jobs", [job.key for job in plan.jobs])
            running = self._running[trial.number] = _RunningTrial(trial, plan, frozenset(job.key for job in plan.jobs))
            self._print(f"trial {trial.number}: {self._values(trial)}")
            self._update(running, check_last=True)
            if trial.number in self._running:
                self.study.write()
                return jobs
        return []

    def is_unneeded(self, job: Job) -> bool:
        """Whether no running trial needs the job."""
        return not any(job.key in running.keys for running in self._running.values())

    def started(self, job: Job) -> None:
        """A worker has taken the job."""
        self._listener.started(job)

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """An epoch has ended: report the kNN accuracy to the study, which may prune the trial."""
        self._listener.progress(job, line)
        self._update_trials_of(job)

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """A job has ended: score the trials that waited for it."""
        self._listener.ended(job, outcome, error)
        if outcome == "failed":
            self._failed[job.key] = error
        self._update_trials_of(job)

    def _next(self) -> Trial | None:
        if self._resumed:
            return self._resumed.pop(0)
        begun = sum(trial.state.name != "WAITING" for trial in self.study.trials())
        return self.study.ask() if begun < min(self.trials, self.study.trial_limit) else None

    def _update_trials_of(self, job: Job) -> None:
        for running in list(self._running.values()):
            if job.key in running.keys:
                self._update(running)

    def _update(self, running: _RunningTrial, check_last: bool = False) -> None:
        """Report new results of a trial. `check_last`: ask for pruning again after a killed process."""
        trial = running.trial
        if any(key in self._failed for key in running.keys):
            self._fail(running)
            return
        reported = self.study.trials()[trial.number].intermediate_values
        if check_last and reported and trial.should_prune():
            self._finish(trial, "PRUNED", note=f"at epoch {max(reported)}")
            return
        for epoch, value in running.plan.curve(self.store).items():
            if epoch not in reported:
                trial.report(value, epoch)
                if trial.should_prune():
                    self._finish(trial, "PRUNED", note=f"at epoch {epoch}")
                    return
        if (reached := running.plan.value(self.store)) is not None:
            trial.set_user_attr("cells", running.plan.scores(self.store))
            self._finish(trial, "COMPLETE", reached)

    def _fail(self, running: _RunningTrial) -> None:
        """Fail the trial of a failed job. If the job was killed, the trial stays open and the next run resumes it."""
        key = next(key for key in self._failed if key in running.keys)
        failure = self.store.failure(key)
        if failure is not None and failure.kind == "killed":
            del self._running[running.trial.number]
            self.failures += 1
            self._print(f"trial {running.trial.number}: {self._failed[key]}; the same command resumes it")
        else:
            self._finish(running.trial, "FAIL", note=self._failed[key])

    def _repeat(self, trial: Trial, duplicate: FrozenTrial) -> None:
        """End a trial with the result of an earlier trial that had the same values."""
        for epoch, value in sorted(duplicate.intermediate_values.items()):
            trial.report(value, epoch)
        for name, attribute in duplicate.user_attrs.items():
            trial.set_user_attr(name, attribute)
        complete = duplicate.state.name == "COMPLETE"
        self._finish(trial, duplicate.state.name, duplicate.value if complete else None, f"as trial {duplicate.number}")

    def _finish(self, trial: Trial, state: str, value: float | None = None, note: str = "") -> None:
        from optuna.trial import TrialState

        self.failures += state == "FAIL"
        if note:
            trial.set_user_attr("note", note)
        self.study.study.tell(trial, value, TrialState[state])
        self._running.pop(trial.number, None)
        self.study.write()
        best = self.study.best()
        reached = "" if value is None else f" {value:.2f} %"
        record = "" if best is None else f" (best so far: {best.value:.2f} %, trial {best.number})"
        self._print(f"trial {trial.number}: {state.lower()}{reached}{', ' + note if note else ''}{record}")

    def _values(self, trial: Trial) -> str:
        return ", ".join(f"{field} {value:g}" if isinstance(value, float) else f"{field} {value}"
                         for field, value in self.study.params(trial).items())  # fmt: skip
