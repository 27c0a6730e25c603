"""Why a job is not the one that was run before: the fields in which the two differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from suite.jobs.identity import JobSpec
from suite.text import yaml_text

_ABSENT = object()
_PARENTS = {
    "init": "its starting weights",
    "choose_from": "the learning rates tried",
    "finetune": "the fine-tuned network",
}
_LENGTH = 12  # characters of a hash that are shown


def changes(old: JobSpec, new: JobSpec) -> list[str]:
    """One phrase per field, such as ``train.epochs 6 -> 8``; of a change in a parent, only that it changed."""
    found = []
    for path, before, after in _differences(old.model_dump(mode="json"), new.model_dump(mode="json"), ""):
        if path in _PARENTS:
            found.append(f"{_PARENTS[path]} changed")
        elif path == "data.fingerprint":
            found.append("the images or annotations changed")
        elif path.endswith("version"):
            found.append(f"the suite's code changed ({path} {before} -> {after})")
        elif path.endswith(".code"):
            found.append("the plugin's file changed")
        else:
            found.append(f"{path} {_short(before)} -> {_short(after)}")
    return found


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            inner = f"{path}.{name}" if path else name
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), inner)
    elif old != new:
        yield path, old, new


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = yaml_text(value)
    return text if len(text) <= 40 else text[:_LENGTH] + "..."
