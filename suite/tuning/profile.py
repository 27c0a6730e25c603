"""The places in a profile that the best values of a study belong to. `suite.tuning.yaml_file` writes them there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from methods.registry import OBJECTIVES, VIEWS
from suite.grid.cells import STAGE1, Cell
from suite.grid.profile import Profile
from suite.grid.recipe import Resolved, applies, first_stage
from suite.grid.spec import Row
from suite.tuning.space import Value, current_values
from suite.tuning.yaml_file import KeyPath


def edits(profile: Profile, cells: Sequence[Cell], best: Mapping[str, Value]) -> dict[KeyPath, Any]:
    """The places of the values of `best` in the profile: each value goes to the section that holds its field now.

    A section may serve other rows too (all fine-tuning has one recipe); theirs change with it. A first stage that
    reads the same section keeps its value, which is then written into the profile's section of that stage.
    """
    tuned = {
        key_path: v for field, value in best.items() for cell in cells for key_path, v in _edits(cell, field, value)
    }
    return {key_path: value for cell in cells for key_path, value in _plugins_edits(cell, profile)} | tuned


def _edits(cell: Cell, field: str, value: Value) -> Iterator[tuple[KeyPath, Value]]:
    if field.startswith(STAGE1):
        if cell.stage1 is not None and applies(field.removeprefix(STAGE1), cell.stage1.recipe):
            yield (STAGE1[:-1], cell.row.stage1, *field.split(".")[1:]), value
        return
    if not applies(field, cell.recipe):
        return
    key_path = _key_path(field, cell.resolved, cell.row)
    yield key_path, value
    if cell.stage1 is None or not applies(field, cell.stage1.recipe):
        return
    first = _key_path(field, cell.stage1, first_stage(cell.row))
    if not cell.row.stage2:
        yield first, value
    elif first == key_path:
        yield (STAGE1[:-1], cell.row.stage1, *field.split(".")), current_values(STAGE1 + field, [cell])[0]


def _plugins_edits(cell: Cell, profile: Profile) -> Iterator[tuple[KeyPath, Any]]:
    """A plugin's values for this profile. The plugin names the profile, and the new profile has another name."""
    choices = (("objectives", OBJECTIVES, cell.row.objective), ("views", VIEWS, cell.row.views))
    for section, entries, name in choices:
        if name in entries:
            for path, value in _leaves(entries[name].by_profile.get(profile.name, {})):
                of_profile: Any = getattr(profile, section).get(name, {})
                for key in path:
                    of_profile = of_profile.get(key) if isinstance(of_profile, dict) else None
                if of_profile is None:
                    yield (section, name, *path), value


def _leaves(values: Mapping[str, Any], prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def _key_path(field: str, resolved: Resolved, row: Row) -> KeyPath:
    """The section a field's value comes from, or, where it is a default, the one it belongs to."""
    head, *rest = field.split(".")
    origin = resolved.origins.get(field, "default")
    kind, _, name = origin.rpartition(", ")[2].partition(" ")
    if origin.startswith("profile") and kind == "stage":
        return (STAGE1[:-1], name.partition(" ")[2], head, *rest)
    if head == "views" and (kind == "view" or origin == "default"):
        return ("views", row.views, *rest)
    if kind == "objective" or origin.startswith("plugin") or (head == "objective" and origin == "default"):
        section = ("views", row.views) if head == "views" else (head,)
        return ("objectives", str(row.objective), *section, *rest)
    return ("defaults", head, *rest)
