"""Grid x profile x selectors -> cells -> jobs. Pure: what data is on disk comes in as fingerprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, get_args

import yaml

from methods.backbones.base import architectures
from suite.data.download.public import PREFIX, checkpoint_named, defaults, public_checkpoints
from suite.errors import UsageError, unknown
from suite.grid.profile import Profile
from suite.grid.recipe import (
    Recipe,
    Resolved,
    applies,
    check_known,
    field_paths,
    first_stage,
    own_first_stage,
    resolve,
)
from suite.grid.spec import FirstStage, GridSpec, Row

PRETRAINING = ("objective", "views", "alignment", "pretrain")  # sections that rows without pretraining lack
ALL_OBJECTIVES = "*"  # as the objective of --stage1: every row whose first stage has a public checkpoint
STAGE1 = "stage1."  # prefix of a --set that is meant for the first stage alone
FIRST_STAGE = "first_stage"  # a --set that is no field of a recipe: the method of first stages, plain or own


@dataclass(frozen=True)
class Selection:
    """The part of a grid to run or report. An empty field selects everything."""

    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    only: str | None = None  # a cell's id
    seeds: tuple[int, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)  # objective -> file, URL or public name

    def names(self, row: Row) -> bool:
        """Whether a row was asked for by name, not as one of all."""
        return row.method in self.methods or (self.only is not None and self.only.split("/")[0] == row.name)


@dataclass(frozen=True)
class Cell:
    """One number of a table: a row on a dataset with a seed."""

    grid: str
    row: Row
    dataset: str
    seed: int
    resolved: Resolved
    stage1: Resolved | None = None  # the first stage's recipe, where the row has one that we train
    checkpoint: str | None = None  # first stage that others trained: file, URL, or "public:" and a name

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


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """["a.b=0.3"] -> {"a.b": 0.3}; values are read as YAML."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        if not equals or not path:
            raise UsageError(f"--set expects FIELD=VALUE such as pretrain.epochs=5, got '{pair}'.")
        try:
            overrides[path.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(
                f"--set {pair}: the value is not valid YAML. Lists are written [0.01, 0.04], texts with special "
                "characters in quotes."
            ) from None
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
    rows = [row for row in rows if selection.names(row) or needed_plugin(row) is None]
    rows = _with_first_stage(rows, selection.overrides)
    overrides = {path: value for path, value in selection.overrides.items() if path != FIRST_STAGE}
    both = {path: value for path, value in overrides.items() if not path.startswith(STAGE1)}
    first = both | {path.removeprefix(STAGE1): v for path, v in overrides.items() if path not in both}
    resolved = {row.name: _resolve(profile, row, fitting(row, both)) for row in rows}
    checkpoints = _checkpoints(rows, selection.checkpoints)
    stage1 = {
        row.name: _resolve(profile, first_stage(row), first, row.stage1)
        for row in rows
        if row.stage1 != "none" and row.name not in checkpoints
    }
    _check_overrides(overrides, [r.recipe for r in resolved.values()], [r.recipe for r in stage1.values()])
    selected = [
        Cell(grid.name, row, dataset, seed, resolved[row.name], stage1.get(row.name), checkpoints.get(row.name))
        for row in rows
        for dataset in select_datasets(grid, selection)
        for seed in selection.seeds or profile.seeds
    ]
    if selection.only is not None:
        ids = [cell.id for cell in selected]
        selected = [
            cell for cell in selected if cell.id == selection.only or cell.id.rpartition("/")[0] == selection.only
        ]
        if not selected:
            raise unknown("cell", selection.only, ids)
    return selected


def needed_plugin(row: Row) -> str | None:
    """What a reference row lacks where its backbone comes from a plugin that is not loaded."""
    arch = row.set.get("backbone.arch")
    if row.reference is None or arch is None or arch in architectures():
        return None
    return f"the backbone {arch} comes from a plugin, such as --plugin examples/vit_backbone.py"


def fitting(row: Row, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of --set for a row: the backbone of a reference row is that of its checkpoint."""
    return {
        path: value for path, value in overrides.items() if row.reference is None or not path.startswith("backbone.")
    }


def _with_first_stage(rows: list[Row], overrides: Mapping[str, Any]) -> list[Row]:
    """The rows with the method of the first stage that `--set first_stage=...` names."""
    if FIRST_STAGE not in overrides:
        return rows
    method = str(overrides[FIRST_STAGE])
    if method not in get_args(FirstStage):
        raise unknown("method of first stages in --set first_stage:", method, get_args(FirstStage))
    if all(row.stage1 == "none" for row in rows):
        raise UsageError(
            f"--set {FIRST_STAGE}={method}: none of the selected rows has a first stage. "
            "Grids with a first stage: paper_table2 (COCO) and paper_table3 (ImageNet)."
        )
    return [row if row.stage1 == "none" else row.model_copy(update={FIRST_STAGE: method}) for row in rows]


_ON_IMAGENET = (
    "--stage1 {}: public checkpoints were pretrained on ImageNet-1K, and the first stage of row '{}' is on {}. "
    "The grid with a first stage on ImageNet is paper_table3."
)


def _checkpoints(rows: Sequence[Row], given: Mapping[str, str]) -> dict[str, str]:
    """Per row, the checkpoint in place of its first stage: that of the command line, else that of the row.

    A checkpoint of the command line stands for the plain objective: it replaces no first stage of a row's own method.
    """
    with_stage1 = [row for row in rows if row.stage1 != "none"]
    if given and with_stage1 and all(own_first_stage(row) for row in with_stage1):
        raise UsageError(
            "--stage1 replaces first stages of plain objectives, and all selected rows have a first stage of their own "
            "method (first_stage: own). Name a checkpoint of such a row in the grid file: stage1_checkpoint: FILE"
        )
    if given and not with_stage1:
        raise UsageError(
            "--stage1 replaces the first stage of a row, and none of the selected rows has one. "
            "Grids with a first stage: paper_table2 (COCO) and paper_table3 (ImageNet)."
        )
    for objective in given.keys() - {ALL_OBJECTIVES}:
        if objective not in {row.objective for row in with_stage1}:
            raise unknown("objective in --stage1:", objective, {str(row.objective) for row in with_stage1})
    if ALL_OBJECTIVES in given and not any(row.stage1 == "imagenet" for row in with_stage1):
        raise UsageError(_ON_IMAGENET.format("public", with_stage1[0].name, with_stage1[0].stage1))
    sources = {row.name: _source(row, given) for row in with_stage1}
    sources |= {row.name: row.stage1_checkpoint for row in rows if row.frozen and row.objective is None}
    return {name: source for name, source in sources.items() if source is not None}


def _source(row: Row, given: Mapping[str, str]) -> str | None:
    """The checkpoint in place of a row's first stage; a public one as "public:" and its name."""
    if own_first_stage(row):
        return row.stage1_checkpoint
    objective = str(row.objective)
    source = given.get(objective)
    if source is None:
        public = defaults().get(objective) if ALL_OBJECTIVES in given and row.stage1 == "imagenet" else None
        return row.stage1_checkpoint if public is None else f"{PREFIX}{public.name}"
    if source not in public_checkpoints():
        if "/" not in source and "." not in source and get_close_matches(source, public_checkpoints(), n=1, cutoff=0.8):
            raise unknown(
                "public checkpoint", source, public_checkpoints(), f"For a file of that name write ./{source}."
            )
        return source
    if (of := checkpoint_named(source).objective) != objective:
        raise UsageError(
            f"--stage1 {objective}={source}: that checkpoint was pretrained with {of}, not with {objective}."
        )
    if row.stage1 != "imagenet":
        raise UsageError(_ON_IMAGENET.format(f"{objective}={source}", row.name, row.stage1))
    return f"{PREFIX}{source}"


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
            fields = {name for recipe in recipes for name in field_paths(recipe)}
            fields |= {name for recipe in stage1 for name in field_paths(recipe, STAGE1)}
            fields |= {FIRST_STAGE} if stage1 else set()
            section = path.removeprefix(STAGE1).partition(".")[0]
            if section in PRETRAINING and all(getattr(recipe, section) is None for recipe in fitting):
                raise UsageError(_without(section, path, bool(stage1) or not prefix))
            raise unknown("field in --set:", path, fields)


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
