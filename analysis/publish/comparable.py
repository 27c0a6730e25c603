"""Which published cells may be ranked together, and the reason where they may not."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.publish.record import Published, PublishedCell, PublishedDataset, PublishedGrid
from suite.grid.evaluation import EVALUATION
from suite.grid.recipe import TRAINING_SECTIONS
from suite.text import leaves, shortened

_SHOWN = 4  # settings named in a reason
_MEASURED = {  # protocol -> sections of a recipe that all rows of a ranking must share
    "finetune": ("image_size", "store_size", "backbone", "finetune"),
    "linear": ("image_size", "store_size", "backbone", "probe"),
    "knn": ("image_size", "store_size", "backbone", "probe"),
}


@dataclass(frozen=True)
class SeedResult:
    """One number: one row with one seed."""

    cell: PublishedCell
    value: float  # percent
    key: str  # of the job that measured it
    training: str  # canonical text of the training recipes; rows with equal texts are one row


@dataclass(frozen=True)
class ResultGroup:
    """Numbers of one grid of one source on one dataset that were measured alike."""

    source: str  # its letter on the page
    grid: str
    profile: str
    data: PublishedDataset
    n: int  # test images
    changed: str  # by --set
    evaluation: Mapping[str, Any]  # settings by dotted path
    entries: tuple[SeedResult, ...]

    @property
    def quality(self) -> tuple[bool, bool, bool, int]:
        """Sorts groups: photographs before synthetic images, whole datasets before subsets, the paper's profile before
        others, many rows before few."""
        return self.data.synthetic, self.data.subset, self.profile != "paper", -len(self.entries)


def result_groups(source: str, published: Published, dataset: str, protocol: str) -> list[ResultGroup]:
    """The groups of a source on one dataset by one protocol.

    Args:
        source: letter of the source.
        published: its record.
        dataset: name of the dataset.
        protocol: ``finetune``, ``linear``, ``knn`` or one of a plugin; the metric is top1.
    """
    groups_found: list[ResultGroup] = []
    for grid in published.grids:
        groups: dict[tuple[str, str, int, str], list[SeedResult]] = defaultdict(list)
        for cell in grid.cells:
            recipes = published.recipes[cell.recipe]
            for result in cell.results:
                if (cell.dataset, result.protocol, result.metric) == (dataset, protocol, "top1"):
                    changed = ", ".join(f"{name}={shortened(value)}" for name, value in sorted(cell.changed.items()))
                    settings = json.dumps(_evaluation(recipes, protocol, grid.name == EVALUATION), sort_keys=True)
                    entry = SeedResult(cell, result.value, result.key, _training(recipes))
                    groups[cell.data, changed, result.n, settings].append(entry)
        groups_found += [
            ResultGroup(
                source, grid.name, grid.profile, _data(grid, entries), n, changed, json.loads(settings), (*entries,)
            )
            for (_, changed, n, settings), entries in groups.items()
        ]
    return groups_found


def reason_not_comparable(first: ResultGroup, second: ResultGroup) -> str | None:
    """Why `second` may not be ranked with `first`, as a part of a sentence; None where it may."""
    if second.data.fingerprint != first.data.fingerprint:
        return f"other images ({second.data.describe}; fingerprint {second.data.fingerprint[:8]})"
    if second.n != first.n:
        return f"{second.n} test images instead of {first.n}"
    if second.profile != first.profile:
        return f"profile {second.profile} instead of {first.profile}"
    if second.changed != first.changed:
        return f"changed with --set: {second.changed or 'nothing'} instead of {first.changed or 'nothing'}"
    if second.evaluation != first.evaluation:
        return f"other settings of the measurement: {_differences(first.evaluation, second.evaluation)}"
    return _other_recipe(first, second)


def _other_recipe(first: ResultGroup, second: ResultGroup) -> str | None:
    """The same row of the same grid with two recipes: then the two profiles of one name differ."""
    if first.grid != second.grid:
        return None
    recipes = {entry.cell.row: entry for entry in first.entries}
    for entry in second.entries:
        other = recipes.get(entry.cell.row)
        if other is not None and other.training != entry.training:
            text = _differences(dict(leaves(json.loads(other.training))), dict(leaves(json.loads(entry.training))))
            return f"row {entry.cell.label} has another recipe: {text}"
    return None


def _evaluation(recipes: Mapping[str, Any], protocol: str, backbones: bool) -> dict[str, Any]:
    """The settings that all rows of a ranking share. Where `backbones` are what is compared, theirs are not among
    them."""
    recipe = recipes.get("recipe") or {}
    names = _MEASURED.get(protocol, ("image_size", "store_size", "backbone"))
    settings = {name: recipe.get(name) for name in names if name != "backbone" or not backbones}
    if protocol not in _MEASURED:
        settings[protocol] = recipe.get(protocol) or (recipe.get("protocols") or {}).get(protocol)
    return dict(leaves(settings))


def _training(recipes: Mapping[str, Any]) -> str:
    """The parts of the recipes that training reads, as text that is equal for equal recipes."""
    parts: dict[str, Any] = {"checkpoint": recipes.get("checkpoint")}
    for stage in ("recipe", "first_stage"):
        recipe = recipes.get(stage)
        parts[stage] = recipe and {name: recipe.get(name) for name in TRAINING_SECTIONS if not _unread(name, recipe)}
    return json.dumps(parts, sort_keys=True)


def _unread(section: str, recipe: Mapping[str, Any]) -> bool:
    """Whether training does not read a section: without an objective, saliency serves the measurements alone."""
    return section == "saliency" and recipe.get("objective") is None


def _data(grid: PublishedGrid, entries: list[SeedResult]) -> PublishedDataset:
    return grid.dataset(entries[0].cell)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """``finetune.epochs 20 instead of 10, ...``"""
    paths = [path for path in dict.fromkeys((*before, *after)) if before.get(path) != after.get(path)]
    parts = [f"{path} {shortened(after.get(path))} instead of {shortened(before.get(path))}" for path in paths[:_SHOWN]]
    return ", ".join([*parts, *([f"and {len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else [])])
