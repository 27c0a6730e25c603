"""Grid x profile x selectors -> cells -> jobs. Pure: what data is on disk comes in as fingerprints."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from methods.args import Args, BackboneArgs
from methods.backbones.base import architectures, family_of
from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS, Entry
from suite.data.spec import DataSpec, SaliencyArgs, SaliencySpec
from suite.errors import UsageError, unknown
from suite.grid.profile import Profile
from suite.grid.recipe import Recipe, Resolved, applies, check_known, field_paths, first_stage, resolve
from suite.grid.spec import GridSpec, Row
from suite.jobs.identity import Block, Job, JobSpec
from suite.kinds.base import MeasuredCell
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.imported import ImportSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import protocols

PRETRAINING = ("objective", "views", "alignment", "pretrain")  # sections that rows without pretraining lack
STAGE1 = "stage1."  # prefix of a --set that is meant for the first stage alone


@dataclass(frozen=True)
class Selection:
    """Which part of a grid to look at. Empty means all."""

    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    only: str | None = None  # a cell's id
    seeds: tuple[int, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)  # objective -> file or URL, instead of a first stage


@dataclass(frozen=True)
class Cell:
    """One number of a table: a row on a dataset with a seed."""

    grid: str
    row: Row
    dataset: str
    seed: int
    resolved: Resolved
    stage1: Resolved | None = None  # the first stage's recipe, where the row has one that we train
    checkpoint: str | None = None  # file or URL of a first stage that others trained

    @property
    def id(self) -> str:
        """What `--only` takes, such as ``byol_cvsa/cub/0``."""
        return f"{self.row.name}/{self.dataset}/{self.seed}"

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """Grid, row, dataset and seed: the place in a table, whatever the recipe."""
        return self.grid, self.row.name, self.dataset, self.seed

    @property
    def recipe(self) -> Recipe:
        """The cell's resolved numbers."""
        return self.resolved.recipe

    @property
    def data(self) -> tuple[str, ...]:
        """The datasets the cell reads, the first stage's first."""
        return (self.dataset,) if self.stage1 is None else (self.row.stage1, self.dataset)


@dataclass(frozen=True)
class CellJobs:
    """The jobs of one cell, parents before children."""

    cell: Cell
    stages: tuple[Job, ...]  # what leads to the backbone that is measured
    trials: tuple[Job, ...]  # fine-tuning on a part of the training split, to choose the learning rate
    finetune: Job
    protocols: tuple[Job, ...] = ()  # what else measures the cell: probes, localisation, background, ...

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All of them."""
        return (*self.stages, *self.trials, *self._measuring)

    @property
    def _measuring(self) -> tuple[Job, ...]:
        return (self.finetune, *self.protocols)

    @property
    def checkpoint(self) -> dict[str, str] | None:
        """Name and hash of the checkpoint that took the place of the first stage; no path, it differs by machine."""
        spec = self.stages[0].spec if self.stages else None
        if self.cell.checkpoint is None or not isinstance(spec, ImportSpec):
            return None
        return {"name": self.cell.checkpoint.partition("#")[0].rpartition("/")[2], "sha256": spec.sha256}

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


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """["a.b=0.3"] -> {"a.b": 0.3}; values are read as YAML."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        if not equals or not path:
            raise UsageError(f"--set expects FIELD=VALUE such as pretrain.epochs=5, got '{pair}'.")
        overrides[path.strip()] = yaml.safe_load(value)
    return overrides


def select_rows(grid: GridSpec, selection: Selection) -> list[Row]:
    """Rows of the selected methods, in the grid's order."""
    for method in selection.methods:
        if method not in {row.method for row in grid.rows}:
            raise unknown("method", method, {row.method for row in grid.rows}, f"(grid {grid.name})")
    return [row for row in grid.rows if not selection.methods or row.method in selection.methods]


def select_datasets(grid: GridSpec, selection: Selection) -> list[str]:
    """Selected datasets, in the grid's order."""
    for dataset in selection.datasets:
        if dataset not in grid.datasets:
            raise unknown("dataset", dataset, grid.datasets, f"(grid {grid.name})")
    return [name for name in grid.datasets if not selection.datasets or name in selection.datasets]


def cells(grid: GridSpec, profile: Profile, selection: Selection) -> list[Cell]:
    """The selected cells with their recipes, row by row.

    Raises:
        UsageError: an unknown name or field.
    """
    rows = select_rows(grid, selection)
    if selection.only is not None:
        rows = [row for row in rows if row.name == selection.only.split("/")[0]] or rows
    for row in rows:
        check_known(row)
    both = {path: value for path, value in selection.overrides.items() if not path.startswith(STAGE1)}
    first = both | {path.removeprefix(STAGE1): v for path, v in selection.overrides.items() if path not in both}
    resolved = {row.name: _resolve(profile, row, both) for row in rows}
    checkpoints = _checkpoints(rows, selection.checkpoints)
    stage1 = {
        row.name: _resolve(profile, first_stage(row), first, row.stage1)
        for row in rows
        if row.stage1 != "none" and row.name not in checkpoints
    }
    _check_overrides(selection.overrides, [r.recipe for r in resolved.values()], [r.recipe for r in stage1.values()])
    found = [
        Cell(grid.name, row, dataset, seed, resolved[row.name], stage1.get(row.name), checkpoints.get(row.name))
        for row in rows
        for dataset in select_datasets(grid, selection)
        for seed in selection.seeds or profile.seeds
    ]
    if selection.only is not None:
        ids = [cell.id for cell in found]
        found = [cell for cell in found if cell.id == selection.only or cell.id.rpartition("/")[0] == selection.only]
        if not found:
            raise unknown("cell", selection.only, ids)
    return found


def _checkpoints(rows: Sequence[Row], given: Mapping[str, str]) -> dict[str, str]:
    """Per row, the checkpoint that takes the place of its first stage: the command line's, else the row's own."""
    able = [row for row in rows if row.stage1 != "none"]
    if given and not able:
        raise UsageError(
            "--stage1 replaces the first stage of a row, and none of the selected rows has one. "
            "Grids with a first stage: paper_table2 (COCO) and paper_table3 (ImageNet)."
        )
    for objective in given:
        if objective not in {row.objective for row in able}:
            raise unknown("objective in --stage1:", objective, {str(row.objective) for row in able})
    found = {row.name: given.get(str(row.objective), row.stage1_checkpoint) for row in able}
    return {name: source for name, source in found.items() if source is not None}


def _resolve(profile: Profile, row: Row, overrides: Mapping[str, Any], stage1: str | None = None) -> Resolved:
    # Another family of backbones has other fields, so the rest of the overrides is matched with those.
    arch = {path: value for path, value in overrides.items() if path == "backbone.arch"}
    plain = resolve(profile, row, arch, stage1)
    fitting = {path: value for path, value in overrides.items() if applies(path, plain.recipe)}
    return resolve(profile, row, fitting, stage1) if fitting else plain


def _check_overrides(overrides: Mapping[str, Any], recipes: list[Recipe], stage1: list[Recipe]) -> None:
    for path in overrides:
        prefix, fitting = (STAGE1, stage1) if path.startswith(STAGE1) else ("", recipes)
        if not any(applies(path.removeprefix(prefix), recipe) for recipe in fitting):
            known = {name for recipe in recipes for name in field_paths(recipe)}
            known |= {name for recipe in stage1 for name in field_paths(recipe, STAGE1)}
            section = path.removeprefix(STAGE1).partition(".")[0]
            if section in PRETRAINING and all(getattr(recipe, section) is None for recipe in fitting):
                raise UsageError(_without(section, path, bool(stage1) or not prefix))
            raise unknown("field in --set:", path, known)


def _without(section: str, path: str, stage: bool) -> str:
    """The message for a field of a section that no selected row has."""
    if section == "alignment":
        return (
            f"--set {path}: none of the selected rows has an alignment. Select one that has, such as --method byol_cvsa"
        )
    if not stage:
        return f"--set {path}: none of the selected rows has a first stage. Leave out 'stage1.', or choose paper_table2"
    return (
        f"--set {path}: the selected rows have no pretraining. Select a row that is pretrained, such as --method byol"
    )


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

    stages: list[Job] = []
    parent: Job | None = None
    if cell.checkpoint is not None:
        imported = ImportSpec(sha256=(checkpoints or {})[cell.checkpoint], backbone=recipe.backbone)
        parent = Job(imported, f"import {row.objective} {row.stage1}")
        stages.append(parent)
    elif cell.stage1 is not None:
        plain = first_stage(row)
        spec = _pretrain_spec(plain, cell.stage1.recipe, data(row.stage1), cell.seed, None, detectors)
        parent = Job(spec, f"pretrain {row.objective} {row.stage1} s{cell.seed}")
        stages.append(parent)
    if row.stage2:
        spec = _pretrain_spec(row, recipe, data(cell.dataset), cell.seed, parent, detectors)
        parent = Job(spec, f"pretrain {row.name} {cell.dataset} s{cell.seed}", () if parent is None else (parent,))
        stages.append(parent)
    parents = () if parent is None else (parent,)
    name = f"{row.name} {cell.dataset} s{cell.seed}"
    finetune = FinetuneSpec(
        data=data(cell.dataset),
        image_size=recipe.image_size,
        backbone=recipe.backbone,
        train=recipe.finetune,
        seed=cell.seed,
        init=None if parent is None else parent.key,
    )
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
    )
    return CellJobs(cell, tuple(stages), trials, tuned, tuple(_protocol_jobs(recipe, measured)))


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
        raise UsageError(f"row '{row.name}' pretrains, but its recipe lacks an objective, views or pretrain section.")
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
        objective=_block(row.objective, OBJECTIVES[row.objective], recipe.objective),
        views=_block(row.views, VIEWS[row.views], recipe.views),
        alignment=None if alignment is None else _block("saliency", ALIGNMENT, alignment),
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
    if objective.needs_regions and not family_of(backbone.arch).regions:
        raise UsageError(
            f"row '{row.name}': the objective '{row.objective}' cuts regions out of a feature map inside the backbone, "
            f"and '{backbone.arch}' has no such map. Backbones that have: {', '.join(architectures(regions=True))} "
            "(--set backbone.arch=NAME). Leave the row out with --method."
        )


def _block(name: str, entry: Entry, args: Args) -> Block:
    return Block(name=name, version=entry.version, code=entry.sha256, args=args.model_dump())
