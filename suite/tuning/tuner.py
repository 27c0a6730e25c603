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
class _Going:
    trial: Trial
    plan: TrialJobs
    keys: frozenset[str]


class Tuner:
    """Feeds an executor (`more`, `unwanted`) and listens to it.

    Args:
        study: where trials come from and results go.
        trials: total number of trials in the study, including earlier runs.
        plan: the jobs of a trial by its values; raises SuiteError for values the recipe refuses.
        prepare: makes the data that jobs read.
        store: the results.
        lines: told about every job as well.
        say: prints a line about a trial.
    """

    def __init__(
        self,
        study: TuningStudy,
        trials: int,
        plan: Callable[[Mapping[str, Any]], TrialJobs],
        prepare: Callable[[Sequence[Job]], None],
        store: Store,
        lines: Listener,
        say: Callable[[str], None],
    ) -> None:
        self.study, self.trials, self.store = study, trials, store
        self._plan, self._prepare, self._lines, self._say = plan, prepare, lines, say
        self._again = study.running()
        self._going: dict[int, _Going] = {}
        self._failed: dict[str, str] = {}  # key -> error, in this run
        self.failures = 0  # trials that failed or were left open in this run

    def more(self) -> list[Job]:
        """The jobs of the next trial that has unfinished jobs, resumed trials first; empty if no trial is left."""
        while (trial := self._next()) is not None:
            if (alike := self.study.alike(trial)) is not None:
                self._repeat(trial, alike)
                continue
            try:
                plan = self._plan(self.study.params(trial))
                jobs = [job for job in plan.jobs if self.store.result(job.key) is None]
                self._prepare(jobs)
            except SuiteError as error:
                self._tell(trial, "FAIL", note=str(error))
                continue
            trial.set_user_attr("jobs", [job.key for job in plan.jobs])
            going = self._going[trial.number] = _Going(trial, plan, frozenset(job.key for job in plan.jobs))
            self._say(f"trial {trial.number}: {self._values(trial)}")
            self._look(going, check_last=True)
            if trial.number in self._going:
                self.study.write()
                return jobs
        return []

    def unwanted(self, job: Job) -> bool:
        """Whether no running trial needs the job."""
        return not any(job.key in going.keys for going in self._going.values())

    def started(self, job: Job) -> None:
        """A worker has taken the job."""
        self._lines.started(job)

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """An epoch has ended: report the kNN accuracy to the study, which may prune the trial."""
        self._lines.progress(job, line)
        self._look_at_trials_of(job)

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """A job has ended: score the trials that waited for it."""
        self._lines.ended(job, outcome, error)
        if outcome == "failed":
            self._failed[job.key] = error
        self._look_at_trials_of(job)

    def _next(self) -> Trial | None:
        if self._again:
            return self._again.pop(0)
        begun = sum(trial.state.name != "WAITING" for trial in self.study.trials())
        return self.study.ask() if begun < min(self.trials, self.study.most) else None

    def _look_at_trials_of(self, job: Job) -> None:
        for going in list(self._going.values()):
            if job.key in going.keys:
                self._look(going)

    def _look(self, going: _Going, check_last: bool = False) -> None:
        """Report new results of a trial. `check_last`: ask for pruning again after a killed process."""
        trial = going.trial
        if any(key in self._failed for key in going.keys):
            self._fail(going)
            return
        reported = self.study.trials()[trial.number].intermediate_values
        if check_last and reported and trial.should_prune():
            self._tell(trial, "PRUNED", note=f"at epoch {max(reported)}")
            return
        for epoch, value in going.plan.curve(self.store).items():
            if epoch not in reported:
                trial.report(value, epoch)
                if trial.should_prune():
                    self._tell(trial, "PRUNED", note=f"at epoch {epoch}")
                    return
        if (reached := going.plan.value(self.store)) is not None:
            trial.set_user_attr("cells", going.plan.scores(self.store))
            self._tell(trial, "COMPLETE", reached)

    def _fail(self, going: _Going) -> None:
        """Fail the trial of a failed job. If the job was killed, the trial stays open and the next run resumes it."""
        key = next(key for key in self._failed if key in going.keys)
        failure = self.store.failure(key)
        if failure is not None and failure.kind == "killed":
            del self._going[going.trial.number]
            self.failures += 1
            self._say(f"trial {going.trial.number}: {self._failed[key]}; the same command resumes it")
        else:
            self._tell(going.trial, "FAIL", note=self._failed[key])

    def _repeat(self, trial: Trial, alike: FrozenTrial) -> None:
        """End a trial with the result of an earlier trial that had the same values."""
        for epoch, value in sorted(alike.intermediate_values.items()):
            trial.report(value, epoch)
        for name, attribute in alike.user_attrs.items():
            trial.set_user_attr(name, attribute)
        complete = alike.state.name == "COMPLETE"
        self._tell(trial, alike.state.name, alike.value if complete else None, f"as trial {alike.number}")

    def _tell(self, trial: Trial, state: str, value: float | None = None, note: str = "") -> None:
        from optuna.trial import TrialState

        self.failures += state == "FAIL"
        if note:
            trial.set_user_attr("note", note)
        self.study.study.tell(trial, value, TrialState[state])
        self._going.pop(trial.number, None)
        self.study.write()
        best = self.study.best()
        reached = "" if value is None else f" {value:.2f} %"
        record = "" if best is None else f" (best so far: {best.value:.2f} %, trial {best.number})"
        self._say(f"trial {trial.number}: {state.lower()}{reached}{', ' + note if note else ''}{record}")

    def _values(self, trial: Trial) -> str:
        return ", ".join(f"{field} {value:g}" if isinstance(value, float) else f"{field} {value}"
                         for field, value in self.study.params(trial).items())  # fmt: skip
