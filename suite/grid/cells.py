"""Grid x profile x selectors -> cells -> jobs. Pure: what data is on disk comes in as fingerprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS
from suite.errors import UsageError, unknown
from suite.grid.jobs import Block, DataSpec, FinetuneSpec, Job, PretrainSpec, SaliencySpec
from suite.grid.recipe import Profile, Recipe, Resolved, applies, check_known, field_paths, first_stage, resolve
from suite.grid.spec import GridSpec, Row

_STAGE1 = "stage1."  # prefix of a --set that is meant for the first stage alone


@dataclass(frozen=True)
class Selection:
    """Which part of a grid to look at. Empty means all."""

    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    only: str | None = None  # a cell's id
    seeds: tuple[int, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One number of a table: a row on a dataset with a seed."""

    grid: str
    row: Row
    dataset: str
    seed: int
    resolved: Resolved
    stage1: Resolved | None = None  # the first stage's recipe, where the row has one

    @property
    def id(self) -> str:
        """What `--only` takes, such as ``byol_cvsa/cub/0``."""
        return f"{self.row.name}/{self.dataset}/{self.seed}"

    @property
    def recipe(self) -> Recipe:
        """The cell's resolved numbers."""
        return self.resolved.recipe

    @property
    def data(self) -> tuple[str, ...]:
        """The datasets the cell reads, the first stage's first."""
        return (self.dataset,) if self.row.stage1 == "none" else (self.row.stage1, self.dataset)


@dataclass(frozen=True)
class CellJobs:
    """The jobs of one cell in the order they run; the last one gives the cell's number."""

    cell: Cell
    jobs: tuple[Job, ...]


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
    both = {path: value for path, value in selection.overrides.items() if not path.startswith(_STAGE1)}
    first = both | {path.removeprefix(_STAGE1): v for path, v in selection.overrides.items() if path not in both}
    resolved = {row.name: _resolve(profile, row, both) for row in rows}
    stage1 = {row.name: _resolve(profile, first_stage(row), first, row.stage1) for row in rows if row.stage1 != "none"}
    _check_overrides(selection.overrides, [r.recipe for r in resolved.values()], [r.recipe for r in stage1.values()])
    found = [
        Cell(grid.name, row, dataset, seed, resolved[row.name], stage1.get(row.name))
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


def _resolve(profile: Profile, row: Row, overrides: Mapping[str, Any], stage1: str | None = None) -> Resolved:
    plain = resolve(profile, row, {}, stage1)
    fitting = {path: value for path, value in overrides.items() if applies(path, plain.recipe)}
    return resolve(profile, row, fitting, stage1) if fitting else plain


def _check_overrides(overrides: Mapping[str, Any], recipes: list[Recipe], stage1: list[Recipe]) -> None:
    for path in overrides:
        prefix, fitting = (_STAGE1, stage1) if path.startswith(_STAGE1) else ("", recipes)
        if not any(applies(path.removeprefix(prefix), recipe) for recipe in fitting):
            known = {name for recipe in recipes for name in field_paths(recipe)}
            known |= {name for recipe in stage1 for name in field_paths(recipe, _STAGE1)}
            raise unknown("field in --set:", path, known)


def jobs_of(cell: Cell, fingerprints: Mapping[str, str], detectors: Mapping[str, tuple[str, str | None]]) -> CellJobs:
    """The stages of a cell.

    Args:
        cell: a cell from `cells`.
        fingerprints: content hash per dataset the cell reads.
        detectors: per saliency detector, the version of its code and the hash of its weights.
    """
    recipe, row = cell.recipe, cell.row

    def data(name: str) -> DataSpec:
        return DataSpec(name=name, fingerprint=fingerprints[name], store_size=recipe.store_size)

    jobs: list[Job] = []
    parent: Job | None = None
    if cell.stage1 is not None:
        plain = first_stage(row)
        spec = _pretrain_spec(plain, cell.stage1.recipe, data(row.stage1), cell.seed, None, detectors)
        parent = Job(spec, f"pretrain {row.objective} {row.stage1} s{cell.seed}")
        jobs.append(parent)
    if row.stage2:
        spec = _pretrain_spec(row, recipe, data(cell.dataset), cell.seed, parent, detectors)
        parent = Job(spec, f"pretrain {row.name} {cell.dataset} s{cell.seed}", parent)
        jobs.append(parent)
    finetune = FinetuneSpec(
        data=data(cell.dataset),
        image_size=recipe.image_size,
        backbone=recipe.backbone,
        train=recipe.finetune,
        seed=cell.seed,
        init=None if parent is None else parent.key,
    )
    jobs.append(Job(finetune, f"finetune {row.name} {cell.dataset} s{cell.seed}", parent))
    return CellJobs(cell, tuple(jobs))


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
    if recipe.saliency is not None:
        version, weights = detectors[recipe.saliency.detector]
        saliency = SaliencySpec(**recipe.saliency.model_dump(), version=version, weights_sha256=weights)
    alignment = recipe.alignment
    if alignment is not None and not VIEWS[row.views].gives_masks:
        raise UsageError(f"row '{row.name}': alignment needs views with masks, '{row.views}' has none.")
    return PretrainSpec(
        data=data,
        image_size=recipe.image_size,
        backbone=recipe.backbone,
        objective=Block(
            name=row.objective, version=OBJECTIVES[row.objective].version, args=recipe.objective.model_dump()
        ),
        views=Block(name=row.views, version=VIEWS[row.views].version, args=recipe.views.model_dump()),
        alignment=alignment and Block(name="saliency", version=ALIGNMENT.version, args=alignment.model_dump()),
        saliency=saliency,
        train=recipe.pretrain,
        seed=seed,
        init=None if parent is None else parent.key,
    )
