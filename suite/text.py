"""Numbers and nested values as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h`` or ``2.1 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def few(names: Sequence[str]) -> str:
    """The first five names and the number of the others, or "none"."""
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in nested mappings that is not a mapping."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def shortened(value: Any) -> str:
    """A value in at most 40 characters; "none" for None."""
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def yaml_text(value: Any) -> str:
    """A value as a YAML file has it: ``null``, ``true``, ``[1, 2]``; plain text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
