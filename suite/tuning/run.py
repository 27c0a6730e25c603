"""One `suite tune`: open the study, run its trials on warm workers, write figures and the profile of the best."""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from suite.data.prepare import prepare
from suite.errors import UsageError
from suite.execute.announce import LiveTable, PlainLines, PreparationLines
from suite.execute.imports import import_checkpoints
from suite.execute.local import LocalExecutor, Options, Summary
from suite.execute.run import checkpoint_minutes
from suite.execute.worker import Device, Places
from suite.grid.cells import Selection
from suite.grid.jobs import Job
from suite.grid.recipe import Profile, profile_path
from suite.grid.spec import GridSpec
from suite.grid.validate import validated
from suite.store.active import Presence
from suite.store.atomic import write_json, write_text
from suite.tracking import BackgroundMirror, tracking_uri
from suite.training.online import OnlineKnn
from suite.tuning.profile import edited, edits, renamed
from suite.tuning.space import Parameter, current_values, parse_space
from suite.tuning.study import Pruner, Sampler, TuningStudy, opened
from suite.tuning.trial import METRICS, Objective, PretrainOn, TrialJobs, trial_cells, trial_jobs
from suite.tuning.tuner import Tuner
from suite.workspace import Plan, refuse_missing


class Request(BaseModel):
    """What is to be tuned, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    params: tuple[str, ...]  # --param, as typed
    trials: int
    objective: Objective = "finetune"
    pretrain_on: PretrainOn = "all"
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    knn_every: int | None = None  # epochs; a tenth of the pretraining where not given
    seed: int = 0
    name: str | None = None


class Tuning:
    """A request on a plan, checked: what its study is called and about, and what a trial runs.

    Raises:
        UsageError: parameters that do not exist, do not fit or change nothing that is measured.
        DataError: missing data.
    """

    def __init__(self, plan: Plan, grid: GridSpec, selection: Selection, profile: str, request: Request) -> None:
        refuse_missing(plan)
        self.plan, self.grid, self.selection, self.request = plan, grid, selection, request
        self.profile_text = profile_path(profile).read_text("utf-8")
        self.space = parse_space(request.params, plan.cells)
        fields = [parameter.field for parameter in self.space]
        self.cells = [cell for cell in plan.cells if any(current_values(field, [cell]) for field in fields)]
        self._refuse_fixed(fields)
        self.base = self.jobs({})
        for parameter in self.space:
            self._refuse_idle(parameter)

    @property
    def name(self) -> str:
        """Of the study: --study, else grid, profile, selection and parameters."""
        chosen = self.selection.only or "-".join((*self.selection.methods, *self.selection.datasets))
        fields = "+".join(parameter.field for parameter in self.space)
        name = "-".join(part for part in (self.grid.name, self.plan.profile.name, chosen, fields) if part)
        return (self.request.name or name).replace("/", "-")

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.plan.workspace.runs / "tuning" / self.name

    @property
    def first(self) -> dict[str, Any]:
        """The profile's own values, where the rows agree on them and the space holds them all."""
        found = {parameter: current_values(parameter.field, self.cells) for parameter in self.space}
        if all(len(set(values)) == 1 and parameter.holds(values[0]) for parameter, values in found.items()):
            return {parameter.field: values[0] for parameter, values in found.items()}
        return {}

    @property
    def online(self) -> OnlineKnn | None:
        """What is measured during pretraining, for pruning; None where nothing is pruned or nothing pretrains."""
        recipe = next((cell.recipe for cell in self.cells if cell.row.stage2), None)
        if self.request.pruner == "none" or recipe is None or recipe.pretrain is None:
            return None
        if recipe.probe is None or recipe.probe.knn is None:
            raise UsageError("pruning needs probe.knn in the recipe: its k and T. Or tune with --pruner none.")
        every = self.request.knn_every or max(1, recipe.pretrain.epochs // 10)
        datasets = tuple(sorted({cell.dataset for cell in self.cells}))
        return OnlineKnn(datasets, every, recipe.finetune.held_out, recipe.probe.eval_resize, recipe.probe.knn)

    @property
    def facts(self) -> dict[str, Any]:
        """What makes trials comparable. `base` stands for recipes, data and code: the jobs of an untuned trial."""
        return {
            "grid": self.grid.name,
            "profile": self.plan.profile.name,
            "cells": [cell.id for cell in self.cells],
            "set": dict(self.selection.overrides),
            "space": {parameter.field: parameter.text for parameter in self.space},
            "objective": self.request.objective,
            "metric": METRICS[self.request.objective],
            "pretrain_on": self.request.pretrain_on,
            "sampler": self.request.sampler,
            "seed": self.request.seed,
            "pruner": self.request.pruner,
            "knn_every": None if self.online is None else self.online.every,
            "base": hashlib.sha256(" ".join(self.base.measured).encode()).hexdigest()[:20],
        }

    def jobs(self, params: Mapping[str, Any], plan: Plan | None = None) -> TrialJobs:
        """What a trial runs. Raises UsageError for values that a recipe refuses."""
        plan, ids = plan or self.plan, {cell.id for cell in self.cells}
        chosen = [cell for cell in trial_cells(self.grid, plan, self.selection, params) if cell.id in ids]
        return trial_jobs(plan, chosen, self.request.objective, self.request.pretrain_on)

    def profile(self, best: Mapping[str, Any], note: str, header: str) -> str | None:
        """The profile with the best values; None where a profile cannot say it, because rows that were tuned and
        stages that were not read one section, or a plugin's recipe depends on the profile's name."""
        changes = edits(self.plan.profile, self.cells, best)
        text = renamed(edited(self.profile_text, changes), self.name, note, header)
        profile = validated(Profile, yaml.safe_load(text), f"profile of study {self.name}")
        same = self.jobs({}, replace(self.plan, profile=profile)).measured == self.jobs(best).measured
        return text if same else None

    def _refuse_fixed(self, fields: Sequence[str]) -> None:
        for field in fields:
            if field in self.selection.overrides:
                raise UsageError(f"{field} is given with --set and with --param; it cannot be both.")
            for row in {cell.row.name: cell.row for cell in self.cells}.values():
                if field in row.set:
                    raise UsageError(
                        f"row '{row.name}' of grid {self.grid.name} fixes {field} itself, so no profile could change "
                        f"it. Tune a row that does not, such as: --grid paper_table1 --method {row.method}"
                    )

    def _refuse_idle(self, parameter: Parameter) -> None:
        found = set()
        for value in parameter.ends:
            try:
                found.add(tuple(self.jobs({parameter.field: value}).measured))
            except UsageError as error:
                raise UsageError(f"--param {parameter.field}={parameter.text}: {error}") from None
        if len(found) == 1:
            raise UsageError(
                f"--param {parameter.field}: --objective {self.request.objective} does not depend on it; "
                "every trial would have the same value."
            )


@dataclass(frozen=True)
class TuningOutcome:
    """What a study has come to."""

    tuning: Tuning
    trials: list[dict[str, Any]]
    best: int | None
    profile: Path | None
    trained: int
    failed: int  # jobs, in this run
    interrupted: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 all trials done, 1 some jobs failed, 130 interrupted."""
        return 130 if self.interrupted else int(self.failed > 0)

    def next_command(self, selectors: Sequence[str]) -> str:
        """What to type to train with the best values: the profile, or --set where no profile can say it."""
        if self.best is None:
            return ""
        own = ["--profile", str(self.profile)] if self.profile else ["--profile", self.tuning.plan.profile.name]
        if self.profile is None:
            own += [
                word
                for field, value in self.trials[self.best]["params"].items()
                for word in ("--set", f"{field}={value}")
            ]
        return shlex.join(["suite", "run", "--grid", self.tuning.grid.name, *own, *selectors])


def tune(tuning: Tuning, workers: int | None) -> TuningOutcome:
    """Bring the study to the number of trials that was asked for: that many minus those it has."""
    began, request = time.monotonic(), tuning.request
    workspace, store = tuning.plan.workspace, tuning.plan.workspace.store
    lines = LiveTable(0) if sys.stderr.isatty() else PlainLines(0)
    device = Device(checkpoint_minutes=checkpoint_minutes(), online=tuning.online)
    executor = LocalExecutor(Places(workspace.runs, workspace.cache, tuning.plan.plugins), workers, device)
    files = {digest: file for file, digest in tuning.plan.checkpoints.values()}
    summary, trained = Summary(), 0

    def make_ready(jobs: Sequence[Job]) -> None:
        lines.total += len(jobs)
        import_checkpoints(jobs, files, store)
        prepare(jobs, tuning.plan.datasets, tuning.plan.data_root, workspace.cache, PreparationLines())

    with opened(
        tuning.folder, tuning.facts, tuning.space, request.sampler, request.pruner, request.seed, tuning.first
    ) as study:
        tuner = Tuner(study, request.trials, tuning.jobs, make_ready, store, lines, lines.say)
        if first := tuner.more():
            experiment = f"tune/{tuning.name}"
            with (
                BackgroundMirror(store, tracking_uri(workspace.runs), experiment),
                Presence(workspace.runs, grid=experiment, profile=tuning.plan.profile.name, jobs=[]) as here,
                lines,
            ):
                options = Options(more=tuner.more, unwanted=tuner.unwanted, asked_to_stop=here.asked_to_stop)
                summary = executor.run(first, tuner, options)
                trained = len(summary.done) - summary.elsewhere
        study.write()
        write_json(study.folder / "importances.json", study.importances())
        best = study.best()
        profile = None if best is None else _write_profile(tuning, study)
        return TuningOutcome(
            tuning, study.facts(), None if best is None else best.number, profile, trained, len(summary.failed),
            summary.interrupted, time.monotonic() - began,
        )  # fmt: skip


def _write_profile(tuning: Tuning, study: TuningStudy) -> Path | None:
    """`best.yaml` of the study."""
    best, base = study.best(), tuning.plan.profile
    if best is None:
        return None
    params = study.params(best)
    values = ", ".join(f"{field} {value}" for field, value in params.items())
    counts = Counter(trial.state.name.lower() for trial in study.trials())
    trials = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    header = (
        f"Profile {base.name} with the best values of study {tuning.name}.\n"
        f"{values}: trial {best.number} of {len(study.trials())} ({trials}), sampler {tuning.request.sampler}, "
        f"seed {tuning.request.seed}.\n"
        f"{tuning.facts['metric']} {best.value:.2f} %, mean over {', '.join(cell.id for cell in tuning.cells)}:\n"
        "on held-out images of the training split. The test split took no part. As the best of many it is optimistic."
    )
    note = f"{base.note + '; ' if base.note else ''}{values} tuned on held-out training images"
    text = tuning.profile(params, note, header)
    path = study.folder / "best.yaml"
    if text is None:
        path.unlink(missing_ok=True)
        return None
    write_text(path, text)
    return path
