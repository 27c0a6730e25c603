"""One trial's jobs and what they are worth. Everything here reads the training split alone: a trial is judged on a
held-out share of every class of it, and the test split is not opened by any of these jobs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from suite.errors import UsageError
from suite.grid.cell_jobs import CellJobs, held_out_trials
from suite.grid.cells import STAGE1, Cell, Selection, cells
from suite.grid.spec import GridSpec
from suite.jobs.identity import Job
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.probe import ProbeSpec
from suite.planning.plan import Plan
from suite.store.store import Store
from suite.training.online import METRIC

Objective = Literal["finetune", "linear", "knn"]
PretrainOn = Literal["all", "rest"]

METRICS: dict[Objective, str] = {
    "finetune": "held_out_top1", "linear": "held_out_linear_top1", "knn": "held_out_knn_top1",
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A cell's jobs in a trial."""

    cell: Cell
    stages: tuple[Job, ...]  # what leads to the backbone
    measured: tuple[Job, ...]  # on the held-out images; of several the best counts, as for `finetune.lr_candidates`

    def score(self, store: Store, metric: str) -> float | None:
        """Percent; None while a job is not finished."""
        results = [store.result(job.key) for job in self.measured]
        scores = [result.metrics[metric] for result in results if result is not None]
        return max(scores) if len(scores) == len(results) else None

    def curve(self, store: Store) -> dict[int, float] | None:
        """kNN on the held-out images by epoch of the pretraining on this cell's data; None where there is no such."""
        watched = [job for job in self.stages if _data(job) == self.cell.dataset]
        if not watched:
            return None
        return {int(line["epoch"]): line[METRIC] for line in store.metrics(watched[-1].key) if METRIC in line}


@dataclass(frozen=True)
class TrialJobs:
    """The jobs of a trial: its cells with the values of its parameters, measured on held-out images."""

    cells: tuple[Measured, ...]
    metric: str

    @property
    def jobs(self) -> list[Job]:
        """Every distinct job, parents before children."""
        return list({job.key: job for item in self.cells for job in (*item.stages, *item.measured)}.values())

    @property
    def measured(self) -> list[str]:
        """Keys of what is measured: two trials that share them are one."""
        return sorted({job.key for item in self.cells for job in item.measured})

    def scores(self, store: Store) -> dict[str, float]:
        """Percent per finished cell."""
        scores = {item.cell.id: item.score(store, self.metric) for item in self.cells}
        return {name: score for name, score in scores.items() if score is not None}

    def value(self, store: Store) -> float | None:
        """The mean over the cells, in percent; None before all are finished."""
        scores = self.scores(store)
        return statistics.fmean(scores.values()) if len(scores) == len(self.cells) else None

    def held_out(self, store: Store) -> int:
        """Number of held-out images that a finished trial was measured on, summed over its cells."""
        results = (store.result(item.measured[0].key) for item in self.cells)
        return sum(result.counts["n_held_out"] for result in results if result is not None)

    def curve(self, store: Store) -> dict[int, float]:
        """Mean kNN accuracy over the cells that pretrain, at the epochs that all of them have measured."""
        curves = [curve for item in self.cells if (curve := item.curve(store)) is not None]
        epochs = set.intersection(*(set(curve) for curve in curves)) if curves else set[int]()
        return {epoch: statistics.fmean(curve[epoch] for curve in curves) for epoch in sorted(epochs)}


def trial_cells(grid: GridSpec, plan: Plan, selection: Selection, params: Mapping[str, Any]) -> list[Cell]:
    """The selected cells with `params` laid over their recipes.

    Unlike `--set`, a field without the prefix `stage1.` means the second stage where a row has both: the first one
    stays what it is and is trained once for all trials.

    Raises:
        UsageError: a value that the recipe refuses.
    """
    first = {field: value for field, value in params.items() if field.startswith(STAGE1)}
    tuned = cells(grid, plan.profile, replace(selection, overrides={**selection.overrides, **params}))
    plain = cells(grid, plan.profile, replace(selection, overrides={**selection.overrides, **first}))
    return [
        replace(cell, stage1=other.stage1) if cell.row.stage2 else cell
        for cell, other in zip(tuned, plain, strict=True)
    ]


def trial_jobs(plan: Plan, chosen: Sequence[Cell], objective: Objective, pretrain_on: PretrainOn) -> TrialJobs:
    """The jobs of a trial.

    Args:
        plan: of the selection as it stands, for its data and checkpoints.
        chosen: cells from `trial_cells`.
        objective: finetune the whole network, or fit a linear or kNN classifier on the frozen backbone.
        pretrain_on: "all" images of the training split, the held-out ones without their labels, as the final run
            does; or the "rest", so that nothing of the held-out images is seen before they are measured on.
    """
    planned = replace(plan, cells=list(chosen)).cell_jobs
    return TrialJobs(tuple(_measured(item, objective, pretrain_on) for item in planned), METRICS[objective])


def _measured(item: CellJobs, objective: Objective, pretrain_on: PretrainOn) -> Measured:
    if item.finetune is None:
        raise UsageError(f"row '{item.cell.row.name}' is frozen: there is nothing to tune. Leave it out with --method.")
    finetune = cast(FinetuneSpec, item.finetune.spec).model_copy(update={"choose_from": ()})
    if finetune.train.label_fraction < 1:
        raise UsageError(
            f"row '{item.cell.row.name}' fine-tunes with a share of the labels (finetune.label_fraction "
            f"{finetune.train.label_fraction:g}), and `suite tune` measures with all of them. Tune with "
            "finetune.label_fraction=1, or choose the learning rate of each share by finetune.lr_candidates."
        )
    share, stages = finetune.train.held_out, item.stages
    if pretrain_on == "rest" and item.cell.row.stage2:
        last = stages[-1]
        spec = last.spec.model_copy(update={"held_out": share})
        stages = (*stages[:-1], Job(spec, f"{last.name} without held-out", last.parents))
        finetune = finetune.model_copy(update={"init": stages[-1].key})
    name = item.finetune.name.partition(" ")[2]
    if objective == "finetune":
        rates = finetune.train.lr_candidates or (finetune.train.optimizer.base_lr,)
        return Measured(item.cell, stages, held_out_trials(finetune, rates, name, stages[-1:]))
    probe = item.cell.recipe.probe
    if probe is None or getattr(probe, objective) is None:
        raise UsageError(
            f"--objective {objective} needs probe.{objective} in the recipe of row '{item.cell.row.name}'."
        )
    other = "knn" if objective == "linear" else "linear"
    spec = ProbeSpec(
        data=finetune.data,
        image_size=finetune.image_size,
        backbone=finetune.backbone,
        probe=probe.model_copy(update={other: None, "retrieval": None}),
        seed=finetune.seed,
        init=finetune.init,
        held_out=share,
    )
    return Measured(item.cell, stages, (Job(spec, f"probe {name} held out, {objective}", stages[-1:]),))


def _data(job: Job) -> str | None:
    return job.spec.data.name if isinstance(job.spec, PretrainSpec) else None
