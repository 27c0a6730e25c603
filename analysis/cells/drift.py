"""Whether recorded cells still are what grid and profile say, and whether the seeds of a cell agree with each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from methods.registry import VIEWS
from suite.errors import UsageError
from suite.grid.profile import Profile
from suite.grid.recipe import Recipe, applies, first_stage, resolve
from suite.grid.spec import Row
from suite.store.cells import CellRecord

# Sections of a recipe that fine-tuned accuracy depends on.
_SECTIONS = (
    *("image_size", "store_size", "backbone", "objective", "views", "alignment", "saliency", "pretrain", "finetune"),
)
_STAGE1 = "stage1."
_SHOWN = 5  # differences


def drift(row: Row, profile: Profile | None, entry: CellRecord) -> list[str]:
    """How a recorded cell differs from the row, and from the profile where there is one, as they are now."""
    now = {"stage1": row.stage1, "stage2": "yes" if row.stage2 else "no", "method": row.method}
    found = [
        f"{name} {getattr(entry, name)}, now {value}" for name, value in now.items() if getattr(entry, name) != value
    ]
    if profile is None or found:
        return found
    both = {path: value for path, value in entry.set.items() if not path.startswith(_STAGE1)}
    found += _differences(entry.recipe, _recipe(profile, row, both), ", now ", _unread(row))
    before = entry.stage1_recipe
    if before is not None:
        first = both | {p.removeprefix(_STAGE1): v for p, v in entry.set.items() if p.startswith(_STAGE1)}
        stage1 = _recipe(profile, first_stage(row), first, row.stage1)
        texts = _differences(before, stage1, ", now ", _unread(first_stage(row)))
        found += [f"first stage: {text}" for text in texts]
    return found[:_SHOWN]


def refuse_mixed_seeds(grid: str, entries: Iterable[CellRecord]) -> None:
    """Raise UsageError where the seeds of a cell were run with different recipes: their mean would be of nothing."""
    first: dict[tuple[str, str], CellRecord] = {}
    wrong = []
    for entry in entries:
        cell = f"{entry.row}/{entry.dataset}"
        other = first.setdefault(entry.place, entry)
        found = _differences(other.recipe, entry.recipe, " and ")
        if other.stage1_checkpoint != entry.stage1_checkpoint:
            found.append("first stages out of different checkpoints")
        elif other.stage1_recipe and entry.stage1_recipe:
            texts = _differences(other.stage1_recipe, entry.stage1_recipe, " and ")
            found += [f"first stage: {text}" for text in texts]
        if found:
            wrong.append(f"{cell}, seeds {other.seed} and {entry.seed}: {', '.join(found[:_SHOWN])}")
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
    """Sections that the row's training does not read: measurements have saliency maps whatever the views are."""
    return () if row.objective is not None and VIEWS[row.views].needs_saliency else ("saliency",)


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], between: str, unread: tuple[str, ...] = ()
) -> list[str]:
    """Phrases such as ``pretrain.epochs 200, now 400``. A setting that did not exist `before` is no difference."""
    found = []
    for section in (name for name in _SECTIONS if name not in unread):
        old, new = before.get(section), after.get(section)
        if old is not None and new is not None:
            found += [f"{path} {a}{between}{b}" for path, a, b in _leaves(old, new, section)]
        elif old is not new:
            found.append(f"{section} {'none' if old is None else 'one'}{between}{'none' if new is None else 'one'}")
    return found


def _leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            yield from _leaves(value, new.get(name), f"{path}.{name}")
    elif old != new:
        yield path, _short(old), _short(new)


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
