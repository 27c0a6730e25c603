"""The best values as a profile: the text of the profile that was tuned, with its comments, and the values in it that
the study changed. Nothing else differs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from methods.registry import OBJECTIVES, VIEWS
from suite.grid.cells import STAGE1, Cell
from suite.grid.profile import Profile
from suite.grid.recipe import Resolved, applies, first_stage
from suite.grid.spec import Row
from suite.tuning.space import Value, current_values

Place = tuple[str, ...]  # keys from the top of a profile


def edits(profile: Profile, cells: Sequence[Cell], best: Mapping[str, Value]) -> dict[Place, Any]:
    """The places of the values of `best` in the profile: each value goes to the section that holds its field now.

    A section may serve other rows too (all fine-tuning has one recipe); theirs change with it. A first stage that
    reads the same section keeps its value, which is then written into the profile's section of that stage.
    """
    tuned = {place: v for field, value in best.items() for cell in cells for place, v in _edits(cell, field, value)}
    return {place: value for cell in cells for place, value in _plugins_edits(cell, profile)} | tuned


def edited(text: str, changes: Mapping[Place, Any]) -> str:
    """A profile's text with these values in place of its own."""
    for place, value in changes.items():
        text = _set(text, place, value)
    return text


def renamed(text: str, name: str, note: str, header: str) -> str:
    """A profile's text under another name, with a header of comment lines."""
    text = _set(_set(text, ("name",), name, ""), ("note",), note, "")
    return "".join(f"# {line}\n" for line in header.splitlines()) + "#\n" + text


def _edits(cell: Cell, field: str, value: Value) -> Iterator[tuple[Place, Value]]:
    if field.startswith(STAGE1):
        if cell.stage1 is not None and applies(field.removeprefix(STAGE1), cell.stage1.recipe):
            yield (STAGE1[:-1], cell.row.stage1, *field.split(".")[1:]), value
        return
    if not applies(field, cell.recipe):
        return
    place = _place(field, cell.resolved, cell.row)
    yield place, value
    if cell.stage1 is None or not applies(field, cell.stage1.recipe):
        return
    first = _place(field, cell.stage1, first_stage(cell.row))
    if not cell.row.stage2:
        yield first, value
    elif first == place:
        yield (STAGE1[:-1], cell.row.stage1, *field.split(".")), current_values(STAGE1 + field, [cell])[0]


def _plugins_edits(cell: Cell, profile: Profile) -> Iterator[tuple[Place, Any]]:
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


def _leaves(values: Mapping[str, Any], above: Place = ()) -> Iterator[tuple[Place, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _place(field: str, resolved: Resolved, row: Row) -> Place:
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


def _set(text: str, place: Place, value: Any, comment: str = "tuned, see the top of this file; before: ") -> str:
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for depth, key in enumerate(place):
        entry = next(((k, v) for k, v in node.value if k.value == key), None)
        if entry is None:
            return _inserted(text, node, place[depth:], value, comment)
        if entry[1].start_mark.index < entry[0].start_mark.index:  # an alias: write out what it stands for
            return _set(_written_out(text, *entry), place, value, comment)
        node = entry[1]
    start, end = node.start_mark.index, node.end_mark.index
    before, after, said = text[start:end].strip(), text[end:], ""
    behind = re.match(r"[ \t]*(?:#[ \t]*([^\n]*))?(?=\n|$)", after)  # None within {...}, where others follow
    if comment and behind is not None:
        said = f"   # {comment}{before}" + (f" ({behind[1]})" if behind[1] else "")
        after = after[behind.end() :]
    return text[:start] + _scalar(value) + said + after


def _inserted(text: str, node: Any, rest: Place, value: Any, comment: str) -> str:
    """A key that is not there yet, as the first of its mapping."""
    inner = _scalar(value)
    for key in reversed(rest[1:]):
        inner = f"{{{key}: {inner}}}"
    line = f"{rest[0]}: {inner}"
    if not node.value:  # {}
        at = text.index("{", node.start_mark.index) + 1
        return text[:at] + line + text[at:]
    mark = node.value[0][0].start_mark
    if node.flow_style:
        return f"{text[: mark.index]}{line}, {text[mark.index :]}"
    return f"{text[: mark.index]}{line}   # {comment}not in this file\n{' ' * mark.column}{text[mark.index :]}"


def _written_out(text: str, key: Any, node: Any) -> str:
    alias = re.compile(r"\s*:\s*(\*[^\s,}\]]+)").match(text, key.end_mark.index)
    if alias is None:
        raise ValueError(f"no alias behind '{key.value}' in line {key.start_mark.line + 1}")
    content = yaml.SafeLoader("").construct_document(node)
    flow = yaml.safe_dump(content, default_flow_style=True, width=10**6, sort_keys=False).strip()
    return text[: alias.start(1)] + flow + text[alias.end(1) :]


def _scalar(value: Any) -> str:
    return str(yaml.safe_dump(value, width=10**6, default_flow_style=True)).splitlines()[0]
