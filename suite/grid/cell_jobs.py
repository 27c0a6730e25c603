"""The jobs of a cell: its stages, its fine-tuning, and the protocols that measure it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from methods.args import Args, BackboneArgs
from methods.backbones.base import architectures, family_of
from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS, ComponentEntry
from suite.data.download.public import of_source
from suite.data.spec import DataSpec, SaliencyArgs, SaliencySpec
from suite.errors import UsageError
from suite.grid.cells import Cell
from suite.grid.recipe import Recipe, first_stage, own_first_stage
from suite.grid.spec import Row
from suite.jobs.identity import Job, JobSpec
from suite.kinds.base import MeasuredCell
from suite.kinds.components import Component
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.imported import ImportSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import protocols


@dataclass(frozen=True)
class CellJobs:
    """The jobs of one cell, parents before children."""

    cell: Cell
    stages: tuple[Job, ...]  # what leads to the backbone that is measured
    trials: tuple[Job, ...]  # fine-tuning on a part of the training split, to choose the learning rate
    finetune: Job | None  # None: the row is frozen
    protocols: tuple[Job, ...] = ()  # what else measures the cell: probes, localisation, background, ...

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All of them."""
        return (*self.stages, *self.trials, *self._measuring)

    @property
    def _measuring(self) -> tuple[Job, ...]:
        return self.protocols if self.finetune is None else (self.finetune, *self.protocols)

    @property
    def checkpoint(self) -> dict[str, Any] | None:
        """Name, hash and known origin of the checkpoint in place of the first stage. No path: it differs by machine."""
        spec = self.stages[0].spec if self.stages else None
        if self.cell.checkpoint is None or not isinstance(spec, ImportSpec):
            return None
        if (public := of_source(self.cell.checkpoint)) is not None:
            return {"name": public.file, "sha256": spec.sha256, **public.facts}
        return {
            "name": self.cell.checkpoint.partition("#")[0].partition("?")[0].rpartition("/")[2],
            "sha256": spec.sha256,
        }

    @property
    def roles(self) -> dict[str, Job]:
        """All of them by what they are to the cell: ``stage 1``, ``held out, lr 0.1``, ``finetune``, ..."""
        roles = {f"stage {2 if job is self.stages[-1] and self.cell.row.stage2 else 1}": job for job in self.stages}
        roles |= {job.name.partition(", ")[2]: job for job in self.trials}
        return roles | {job.spec.kind: job for job in self._measuring}

    @property
    def measured(self) -> dict[str, str]:
        """Keys of the jobs that give the cell's numbers, by their kind."""
        return {job.spec.kind: job.key for job in self._measuring}


def jobs_of(
    cell: Cell,
    fingerprints: Mapping[str, str],
    detectors: Mapping[str, tuple[str, str | None]],
    checkpoints: Mapping[str, str] | None = None,
    masked: Collection[str] = (),
) -> CellJobs:
    """The jobs of a cell.

    Args:
        cell: a cell from `cells`.
        fingerprints: content hash per dataset the cell reads.
        detectors: per saliency detector, the version of its code and the hash of its weights.
        checkpoints: SHA-256 per checkpoint that takes the place of a first stage.
        masked: datasets that come with official masks.
    """
    recipe, row = cell.recipe, cell.row

    def data(name: str) -> DataSpec:
        return DataSpec(name=name, fingerprint=fingerprints[name], store_size=recipe.store_size)

    stages = _stages(cell, data, detectors, checkpoints or {})
    parents = stages[-1:]
    parent = parents[0] if parents else None
    name = f"{row.name} {cell.dataset} s{cell.seed}"
    finetune = FinetuneSpec(
        data=data(cell.dataset),
        image_size=recipe.image_size,
        backbone=recipe.backbone,
        train=recipe.finetune,
        seed=cell.seed,
        init=None if parent is None else parent.key,
    )
    trials: tuple[Job, ...] = ()
    tuned: Job | None = None
    if not row.frozen:
        trials = held_out_trials(finetune, finetune.train.lr_candidates, name, parents)
        finetune = finetune.model_copy(update={"choose_from": tuple(trial.key for trial in trials)})
        tuned = Job(finetune, f"finetune {name}", (*parents, *trials))
    saliency, masks = recipe.saliency, None
    if saliency is not None and cell.dataset in masked:
        masks = saliency_spec(saliency.model_copy(update={"detector": "masks"}), detectors)
    measured = MeasuredCell(
        name=name,
        data=finetune.data,
        image_size=finetune.image_size,
        backbone=finetune.backbone,
        seed=finetune.seed,
        eval_resize=finetune.train.eval_resize,
        pretrained=parent,
        finetuned=tuned,
        saliency=None if saliency is None else saliency_spec(saliency, detectors),
        masks=masks,
        probe=recipe.probe,
    )
    return CellJobs(cell, stages, trials, tuned, tuple(_protocol_jobs(recipe, measured)))


def _stages(
    cell: Cell,
    data: Callable[[str], DataSpec],
    detectors: Mapping[str, tuple[str, str | None]],
    checkpoints: Mapping[str, str],
) -> tuple[Job, ...]:
    """The pretraining of a cell, none to two jobs: a first stage or the checkpoint in its place, and a second stage."""
    row = cell.row
    first: tuple[Job, ...] = ()
    if cell.checkpoint is not None:
        imported = ImportSpec(sha256=checkpoints[cell.checkpoint], backbone=cell.recipe.backbone)
        what = f"{row.objective} {row.stage1}" if row.objective is not None else row.name
        first = (Job(imported, f"import {what}"),)
    elif cell.stage1 is not None:
        spec = _pretrain_spec(first_stage(row), cell.stage1.recipe, data(row.stage1), cell.seed, None, detectors)
        method = row.method if own_first_stage(row) else row.objective
        first = (Job(spec, f"pretrain {method} {row.stage1} s{cell.seed}"),)
    if not row.stage2:
        return first
    spec = _pretrain_spec(row, cell.recipe, data(cell.dataset), cell.seed, first[0] if first else None, detectors)
    return (*first, Job(spec, f"pretrain {row.name} {cell.dataset} s{cell.seed}", first))


def _protocol_jobs(recipe: Recipe, cell: MeasuredCell) -> Iterator[Job]:
    for name, protocol in protocols().items():
        args = recipe.section(name)
        if args is not None and (job := protocol.job(args, cell)) is not None:
            yield job if protocol.sha256 is None else replace(job, spec=_with_code(job.spec, protocol.sha256))


def _with_code(spec: JobSpec, sha256: str) -> JobSpec:
    return spec.model_copy(update={"code": sha256})


def saliency_spec(args: SaliencyArgs, detectors: Mapping[str, tuple[str, str | None]]) -> SaliencySpec:
    """The recipe's section with the version of the detector's code and the hash of its weights."""
    version, weights = detectors[args.detector]
    return SaliencySpec(**args.model_dump(), version=version, weights_sha256=weights)


def held_out_trials(
    finetune: FinetuneSpec, rates: Sequence[float], name: str, parents: tuple[Job, ...]
) -> tuple[Job, ...]:
    """One fine-tuning per learning rate, all on the same part of the training split and measured on the rest of it."""
    trials = []
    for rate in rates:
        optimizer = finetune.train.optimizer.model_copy(update={"base_lr": rate})
        train = finetune.train.model_copy(update={"optimizer": optimizer, "lr_candidates": ()})
        spec = finetune.model_copy(update={"train": train, "held_out": finetune.train.held_out})
        trials.append(Job(spec, f"finetune {name} held out, lr {rate:g}", parents))
    return tuple(trials)


def _pretrain_spec(
    row: Row,
    recipe: Recipe,
    data: DataSpec,
    seed: int,
    parent: Job | None,
    detectors: Mapping[str, tuple[str, str | None]],
) -> PretrainSpec:
    if row.objective is None or recipe.objective is None or recipe.views is None or recipe.pretrain is None:
        raise UsageError(f"row '{row.name}' is pretrained, but its recipe has no section objective, views or pretrain.")
    saliency = None
    if recipe.saliency is not None and VIEWS[row.views].needs_saliency:
        saliency = saliency_spec(recipe.saliency, detectors)
    alignment = recipe.alignment
    if alignment is not None and not VIEWS[row.views].gives_masks:
        able = ", ".join(name for name, entry in VIEWS.items() if entry.gives_masks)
        raise UsageError(
            f"row '{row.name}': alignment needs views with masks, and '{row.views}' has none. Views that have: {able} "
            f"(views: {able.partition(',')[0]} in the grid). Their maps are computed by `suite run`, or before it by: "
            f"suite data saliency {data.name} --detector u2netp"
        )
    _check_objective(row, recipe.backbone)
    return PretrainSpec(
        data=data,
        image_size=recipe.image_size,
        backbone=recipe.backbone,
        objective=_component(row.objective, OBJECTIVES[row.objective], recipe.objective),
        views=_component(row.views, VIEWS[row.views], recipe.views),
        alignment=None if alignment is None else _component("saliency", ALIGNMENT, alignment),
        saliency=saliency,
        train=recipe.pretrain,
        seed=seed,
        init=None if parent is None else parent.key,
    )


def _check_objective(row: Row, backbone: BackboneArgs) -> None:
    """Raise UsageError where the objective does not fit the backbone or the alignment."""
    objective = OBJECTIVES[str(row.objective)]
    if row.alignment and not objective.exposes_maps:
        able = ", ".join(name for name, entry in OBJECTIVES.items() if entry.exposes_maps)
        raise UsageError(
            f"row '{row.name}': alignment needs feature maps of a query and a key, and the objective '{row.objective}' "
            f"computes none. Objectives that do: {able}. Write `alignment: false` in the grid, or leave the row out."
        )
    if objective.needs_masks and not VIEWS[row.views].gives_masks:
        able = ", ".join(name for name, entry in VIEWS.items() if entry.gives_masks)
        raise UsageError(
            f"row '{row.name}': the objective '{row.objective}' needs views with masks, and '{row.views}' has none. "
            f"Views that have: {able} (views: {objective.plain_views} in the grid)."
        )
    if objective.needs_regions and not family_of(backbone.arch).regions:
        raise UsageError(
            f"row '{row.name}': the objective '{row.objective}' cuts regions out of a feature map inside the backbone, "
            f"and '{backbone.arch}' has no such map. Backbones that have: {', '.join(architectures(regions=True))} "
            "(--set backbone.arch=NAME). Leave the row out with --method."
        )


def _component(name: str, entry: ComponentEntry, args: Args) -> Component:
    return Component(name=name, version=entry.version, code=entry.sha256, args=args)
