"""The request of `suite tune`, checked against the grid, the profile and the data before anything starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from suite.errors import UsageError
from suite.grid.cells import Selection
from suite.grid.profile import Profile, profile_path
from suite.grid.spec import GridSpec
from suite.grid.validate import validated
from suite.planning.plan import Plan, refuse_missing
from suite.training.online import OnlineKnn
from suite.tuning.profile import edits
from suite.tuning.space import Parameter, checked_space, current_values, parse_space, recipe_parameters
from suite.tuning.study import Pruner, Sampler
from suite.tuning.trial import METRICS, Objective, PretrainOn, TrialJobs, trial_cells, trial_jobs
from suite.tuning.yaml_file import edited, renamed


class TuningRequest(BaseModel):
    """The tuned rows and fields, the objective and the sampler."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    params: tuple[str, ...]  # --param, as typed
    recipes: Mapping[str, Mapping[str, Mapping[str, bool | int | float | str]]] = Field(default_factory=dict)
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

    def __init__(self, plan: Plan, grid: GridSpec, selection: Selection, profile: str, request: TuningRequest) -> None:
        refuse_missing(plan)
        self.plan, self.grid, self.selection, self.request = plan, grid, selection, request
        self.profile_text = profile_path(profile).read_text("utf-8")
        recipes = recipe_parameters(request.recipes, plan.cells)
        self.space = checked_space((*recipes, *parse_space(request.params, plan.cells)))
        fields = [field for parameter in self.space for field in parameter.fields]
        compared = [cell for cell in plan.cells if cell.row.reference is None]
        self.cells = [cell for cell in compared if any(current_values(field, [cell]) for field in fields)]
        self._refuse_fixed(fields)
        self.base = self.jobs({})
        for parameter in self.space:
            self._refuse_idle(parameter)

    @property
    def name(self) -> str:
        """Name of the study: --study, else grid, profile, selection and parameters."""
        chosen = self.selection.only or "-".join((*self.selection.methods, *self.selection.datasets))
        fields = "+".join(parameter.field for parameter in self.space)
        name = "-".join(part for part in (self.grid.name, self.plan.profile.name, chosen, fields) if part)
        return (self.request.name or name).replace("/", "-")

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        return self.plan.workspace.runs / "tuning" / self.name

    @property
    def first(self) -> dict[str, Any]:
        """The profile's own values, where the rows agree on them and the space holds them all."""
        current = {parameter.field: parameter.current(self.cells) for parameter in self.space}
        return {} if None in current.values() else current

    @property
    def online(self) -> OnlineKnn | None:
        """The measurement during pretraining, for pruning; None if nothing is pruned or no job pretrains."""
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
        """The facts that trials share. `base`, the jobs of an untuned trial, stands for recipes, data and code."""
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
        """The jobs of a trial. Raises UsageError for values that a recipe refuses."""
        plan, ids = plan or self.plan, {cell.id for cell in self.cells}
        tuned = trial_cells(self.grid, plan, self.selection, self._overrides(params))
        chosen = [cell for cell in tuned if cell.id in ids]
        return trial_jobs(plan, chosen, self.request.objective, self.request.pretrain_on)

    def profile(self, best: Mapping[str, Any], note: str, header: str) -> str | None:
        """The profile with the best values; None where no profile can say it, since rows that were tuned and stages
        that were not read one section of it."""
        changes = edits(self.plan.profile, self.cells, self._overrides(best))
        text = renamed(edited(self.profile_text, changes), self.name, note, header)
        profile = validated(Profile, yaml.safe_load(text), f"profile of study {self.name}")
        same = self.jobs({}, replace(self.plan, profile=profile)).measured == self.jobs(best).measured
        return text if same else None

    def _overrides(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Recipe fields and their values, of a trial's parameters."""
        of = {parameter.field: parameter for parameter in self.space}
        return {field: value for name, chosen in params.items() for field, value in of[name].overrides(chosen).items()}

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
        key_sets = set()
        for value in parameter.ends:
            try:
                key_sets.add(tuple(self.jobs({parameter.field: value}).measured))
            except UsageError as error:
                raise UsageError(f"--param {parameter.field}={parameter.text}: {error}") from None
        if len(key_sets) == 1:
            raise UsageError(
                f"--param {parameter.field}: --objective {self.request.objective} does not depend on it; "
                "every trial would have the same value."
            )
