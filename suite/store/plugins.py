"""Plugins that runs of a store used (`<runs>/plugins.json`), so that `suite report` and `export` need not name them.

A plugin is Python that runs with the user's rights. It is loaded again only where the file is the very one that was run
(same place, same SHA-256) and does not lie inside the store, which may come from somebody else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from suite.atomic import write_json
from suite.errors import StoreError


def remember_plugins(root: Path, paths: Sequence[Path]) -> None:
    """Add the plugins of a run to those of the store."""
    if not paths:
        return
    recorded = _read(root)
    recorded.update({str(path): _digest(path) for path in paths})
    write_json(_file(root), recorded)


def remembered_plugins(root: Path) -> tuple[list[Path], list[str]]:
    """The plugins to load, and a sentence about each that is not loaded."""
    usable, remarks = [], []
    for text, digest in _read(root).items():
        path = Path(text)
        if not path.exists():
            remarks.append(f"the plugin {path} of an earlier run was not found")
        elif path.resolve().is_relative_to(root.resolve()):
            remarks.append(f"the plugin {path} lies inside the store, from which no plugin is loaded automatically")
        elif _digest(path) != digest:
            remarks.append(f"the plugin {path} has changed since it was run")
        else:
            usable.append(path)
    return usable, [f"{remark}; name it with --plugin if its rows are needed." for remark in remarks]


def _file(root: Path) -> Path:
    return root / "plugins.json"


def _digest(path: Path) -> str:
    """SHA-256 of a file; empty for a folder of images."""
    return "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def _read(root: Path) -> dict[str, str]:
    try:
        content = json.loads(_file(root).read_bytes())
        return {str(path): str(digest) for path, digest in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        raise StoreError(f"{_file(root)} is damaged. Delete it, and name plugins with --plugin.") from None
