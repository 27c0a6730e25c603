"""The fields in which a job differs from the job that was run in its place before."""

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
_LENGTH = 12  # characters that are shown of a value longer than 40, such as a hash


def changes(old: JobSpec, new: JobSpec) -> list[str]:
    """One phrase per field, such as ``train.epochs 6 -> 8``. For a parent: only that it changed."""
    phrases = []
    for path, before, after in _differences(old.model_dump(mode="json"), new.model_dump(mode="json"), ""):
        if path in _PARENTS:
            phrases.append(f"{_PARENTS[path]} changed")
        elif path == "data.fingerprint":
            phrases.append("the images or annotations changed")
        elif path.endswith("version"):
            phrases.append(f"the suite's code changed ({path} {before} -> {after})")
        elif path.endswith(".code"):
            phrases.append("the plugin's file changed")
        else:
            phrases.append(f"{path} {_short(before)} -> {_short(after)}")
    return phrases


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
