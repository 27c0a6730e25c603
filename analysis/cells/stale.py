"""Find cells whose recorded settings differ from the current grid and profile, or between the seeds of one cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from methods.registry import VIEWS
from suite.errors import UsageError
from suite.grid.cells import FIRST_STAGE, fitting
from suite.grid.profile import Profile
from suite.grid.recipe import TRAINING_SECTIONS, Recipe, applies, first_stage, own_first_stage, resolve
from suite.grid.spec import Row
from suite.store.cells import CellRecord
from suite.text import shortened

_STAGE1 = "stage1."
_SHOWN = 5  # differences listed per cell


def stale_settings(row: Row, profile: Profile | None, record: CellRecord) -> list[str]:
    """Differences between a recorded cell and the current row and profile, such as "pretrain.epochs 40, now 7".

    profile: None compares with the row alone. At most five differences are listed.
    """
    if FIRST_STAGE in record.set:
        row = row.model_copy(update={FIRST_STAGE: record.set[FIRST_STAGE]})
    now = {"stage1": row.stage1, "stage2": "yes" if row.stage2 else "no", "method": row.method}
    differences = [
        f"{name} {getattr(record, name)}, now {value}" for name, value in now.items() if getattr(record, name) != value
    ]
    if record.stage1_recipe is not None and (record.first_stage == "own") != own_first_stage(row):
        differences.append(f"first_stage {record.first_stage or 'plain'}, now {row.first_stage}")
    if profile is None or differences:
        return differences
    both = {path: value for path, value in record.set.items() if path != FIRST_STAGE}
    overrides = {path: value for path, value in both.items() if not path.startswith(_STAGE1)}
    now_recipe = _recipe(profile, row, fitting(row, overrides))
    differences += _differences(record.recipe, now_recipe, ", now ", _unread(row))
    before = record.stage1_recipe
    if before is not None:
        first = overrides | {p.removeprefix(_STAGE1): v for p, v in record.set.items() if p.startswith(_STAGE1)}
        stage1 = _recipe(profile, first_stage(row), first, row.stage1)
        texts = _differences(before, stage1, ", now ", _unread(first_stage(row)))
        differences += [f"first stage: {text}" for text in texts]
    return differences[:_SHOWN]


def refuse_mixed_seeds(grid: str, records: Iterable[CellRecord]) -> None:
    """Raise UsageError where the seeds of one cell were run with different recipes; their mean has no meaning."""
    first: dict[tuple[str, str], CellRecord] = {}
    wrong = []
    for record in records:
        cell = f"{record.row}/{record.dataset}"
        other = first.setdefault(record.row_and_dataset, record)
        differences = _differences(other.recipe, record.recipe, " and ")
        if other.stage1_checkpoint != record.stage1_checkpoint:
            differences.append("first stages from different checkpoints")
        elif other.first_stage != record.first_stage:
            differences.append("first stages by the plain objective and by the row's own method")
        elif other.stage1_recipe and record.stage1_recipe:
            texts = _differences(other.stage1_recipe, record.stage1_recipe, " and ")
            differences += [f"first stage: {text}" for text in texts]
        if differences:
            wrong.append(f"{cell}, seeds {other.seed} and {record.seed}: {', '.join(differences[:_SHOWN])}")
    if wrong:
        raise UsageError(
            f"grid {grid} has cells whose seeds were run with different settings, so that they have no mean: "
            f"{'; '.join(wrong)}. Run these cells again with all their seeds: "
            f"suite run --grid {grid} --only {wrong[0].partition(',')[0]} --seeds ..."
        )


def _recipe(profile: Profile, row: Row, overrides: Mapping[str, Any], stage1: str | None = None) -> dict[str, Any]:
    try:
        plain: Recipe = resolve(profile, row, {}, stage1).recipe
        fitting = {path: value for path, value in overrides.items() if applies(path, plain)}
        return resolve(profile, row, fitting, stage1).recipe.model_dump(mode="json")
    except UsageError:  # the profile has no recipe for this row any more
        return {}


def _unread(row: Row) -> tuple[str, ...]:
    """Sections that the row's training does not read. Saliency settings may be there for the measurements alone."""
    return () if row.objective is not None and VIEWS[row.views].needs_saliency else ("saliency",)


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], between: str, unread: tuple[str, ...] = ()
) -> list[str]:
    """Phrases such as ``pretrain.epochs 200, now 400``. A setting that did not exist `before` does not count."""
    differences = []
    for section in (name for name in TRAINING_SECTIONS if name not in unread):
        old, new = before.get(section), after.get(section)
        if old is not None and new is not None:
            differences += [f"{path} {a}{between}{b}" for path, a, b in _leaves(old, new, section)]
        elif old is not new:
            differences.append(
                f"{section} {'none' if old is None else 'one'}{between}{'none' if new is None else 'one'}"
            )
    return differences


def _leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            yield from _leaves(value, new.get(name), f"{path}.{name}")
    elif old != new:
        yield path, shortened(old), shortened(new)
