"""A study on disk, `<runs>/tuning/<study>/`: Optuna's journal, what the study is about, and its trials for readers.

journal.log   Optuna's storage, the truth about the trials
study.json    space, objective and everything else that makes trials comparable
trials.json   the trials as they stand, for MLflow's mirror and the figures; derived

No crash loses a trial, leaves one running or repeats one: an interrupted trial is resumed under its
number with its values, its jobs go on from their checkpoints, and trial k is proposed by a sampler whose seed depends
on the study's seed and k alone. With one worker a killed study therefore has the very trials of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import Timeout

from suite.atomic import write_json
from suite.errors import UsageError
from suite.locks import FileLock
from suite.tuning.space import Parameter, Value, grid_points

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "halving", "none"]


class TuningStudy:
    """An open study; `opened` makes one."""

    def __init__(
        self,
        folder: Path,
        study: Study,
        storage: JournalStorage,
        space: Sequence[Parameter],
        sampler: Sampler,
        seed: int,
        first: Mapping[str, Value],
    ) -> None:
        self.folder, self.study, self.space = folder, study, space
        self._storage, self._kind, self._seed = storage, sampler, seed
        # Values that are given, not sampled: every point of a grid, else those of the profile as trial 0.
        self._fixed_points = grid_points(space) if sampler == "grid" else [dict(first)] if first else []

    @property
    def trial_limit(self) -> float:
        """Number of different trials in the space."""
        return len(self._fixed_points) if self._kind == "grid" else float("inf")

    def trials(self) -> list[FrozenTrial]:
        """All, by number."""
        return self.study.get_trials(deepcopy=False)

    def running(self) -> list[Trial]:
        """Trials that an earlier process left in the state RUNNING; they are resumed."""
        from optuna.trial import Trial, TrialState

        trials = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.sampler = self._sampler(trial.number)
            trials.append(self._completed(Trial(self.study, self._id(trial.number))))
        return trials

    def ask(self) -> Trial:
        """The next trial. An enqueued trial that no process has started comes first."""
        from optuna.trial import TrialState

        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        number = waiting[0].number if waiting else len(self.trials())
        self.study.sampler = self._sampler(number)
        if not waiting and number < len(self._fixed_points):
            self.study.enqueue_trial(self._fixed_points[number])
        return self._completed(self.study.ask())

    def params(self, trial: Trial | FrozenTrial) -> dict[str, Value]:
        """Its values by field, as they stand in a recipe."""
        return {parameter.field: parameter.value(trial.params[parameter.field]) for parameter in self.space}

    def earlier_duplicate(self, trial: Trial) -> FrozenTrial | None:
        """A trial that has ended and had the same values."""
        values = self.params(trial)
        ended = (other for other in self.trials() if other.state.is_finished())
        return next((other for other in ended if self.params(other) == values), None)

    def best(self) -> FrozenTrial | None:
        """The complete trial of the highest value; of equal ones the first."""
        complete = [trial for trial in self.trials() if trial.state.name == "COMPLETE" and trial.value is not None]
        return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)

    def importances(self) -> dict[str, float]:
        """Share of each parameter in what moves the value, by PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255); empty
        before two complete trials differ."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        values = {trial.value for trial in self.trials() if trial.state.name == "COMPLETE"}
        if len(values) < 2:
            return {}
        return get_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator())

    def write(self) -> None:
        """Rewrite trials.json."""
        write_json(self.folder / "trials.json", self.facts())

    def facts(self) -> list[dict[str, Any]]:
        """The content of trials.json."""
        return [self._facts(trial) for trial in self.trials()]

    def _facts(self, trial: FrozenTrial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "params": {
                parameter.field: parameter.value(trial.params[parameter.field])
                for parameter in self.space
                if parameter.field in trial.params
            },
            # Optuna gives a pruned trial its last kNN accuracy for a value, which is no value of the objective.
            "value": trial.value if trial.state.name == "COMPLETE" else None,
            "curve": {str(epoch): value for epoch, value in sorted(trial.intermediate_values.items())},
            **{name: trial.user_attrs.get(name) for name in ("cells", "jobs", "note")},
        }

    def _completed(self, trial: Trial) -> Trial:
        """Suggest the values that a trial lacks: a process may have died between two parameters."""
        for parameter in self.space:
            parameter.suggest(trial)
        return trial

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _sampler(self, number: int) -> BaseSampler:
        from optuna.samplers import RandomSampler, TPESampler

        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{number}".encode()).digest()[:4], "big")
        if self._kind == "tpe":
            # Trials that still run count as bad, so that those side by side differ (constant liar).
            return TPESampler(seed=seed, multivariate=True, constant_liar=True)
        return RandomSampler(seed=seed)


@contextlib.contextmanager
def opened(
    folder: Path,
    facts: Mapping[str, Any],
    space: Sequence[Parameter],
    sampler: Sampler,
    pruner: Pruner,
    seed: int,
    first: Mapping[str, Value],
) -> Iterator[TuningStudy]:
    """Open or begin a study, and lock it against other processes.

    Args:
        folder: `<runs>/tuning/<study>`.
        facts: what makes trials comparable, plain JSON; an existing study must have the same.
        space: the parameters.
        sampler: proposes the trials.
        pruner: stops them.
        seed: of the sampler.
        first: the profile's own values, trial 0; empty where the space does not hold them.

    Raises:
        UsageError: the study is about something else, with what differs; or another process works on it.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class Lock(JournalFileOpenLock):
        """The system releases it when its holder dies; Optuna's own would be waited for."""

        def __init__(self) -> None:
            self._lock = FileLock(folder / ".journal.lock")

        def acquire(self) -> bool:
            self._lock.acquire()
            return True

        def release(self) -> None:
            self._lock.release()

    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"another `suite tune` works on study {folder.name}; give this one a --study NAME.") from None
    try:
        _check_facts(folder, facts)
        journal = folder / "journal.log"
        _cut_torn_line(journal)
        storage = JournalStorage(JournalFileBackend(str(journal), Lock()))
        study = optuna.create_study(
            storage=storage,
            study_name=folder.name,
            direction="maximize",
            pruner=_pruner(pruner),
            load_if_exists=True,
        )
        yield TuningStudy(folder, study, storage, space, sampler, seed, first)
    finally:
        lock.release()


def _check_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    path = folder / "study.json"
    if not path.is_file():
        write_json(path, dict(facts))
        return
    before = json.loads(path.read_text("utf-8"))
    wrong = [
        f"{name} was {json.dumps(before.get(name))}, is {json.dumps(facts.get(name))}"
        for name in {**before, **facts}
        if before.get(name) != facts.get(name) and name != "base"
    ]
    if before.get("base") != facts.get("base") and not wrong:
        wrong = ["the recipes, the data or the suite's code changed since then"]
    if wrong:
        raise UsageError(
            f"study {folder.name} exists, and its trials would not compare with these: {'; '.join(wrong)}. "
            f"Give this one a name: --study NAME. Or delete {folder} to begin again; finished jobs stay in the store."
        )


def _cut_torn_line(journal: Path) -> None:
    """A line that a crash of the machine left unfinished would join the next one and make the journal unreadable."""
    if journal.is_file():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with journal.open("r+b") as file:
                file.truncate(whole)


def _pruner(kind: Pruner) -> BasePruner:
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if kind == "median":
        return MedianPruner()
    return SuccessiveHalvingPruner() if kind == "halving" else NopPruner()
