"""Which cells were asked for (`<runs>/grids/*.json`) and their numbers (`<runs>/results.csv`), from the store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from suite.atomic import write_json, write_text
from suite.errors import StoreError, UsageError
from suite.grid.cells import CellJobs
from suite.store.cells import COLUMNS, _entry, result_lines
from suite.store.store import Store


def record_cells(
    store: Store,
    profile: str,
    overrides: dict[str, Any],
    planned: Sequence[CellJobs],
    data: Mapping[str, dict[str, Any]],
) -> None:
    """Remember which jobs make up each cell. A cell run again with another recipe replaces its earlier entry.

    `data` says per dataset what captions must tell: `describe` (the counts), `subset`, `synthetic`.
    """
    for grid in dict.fromkeys(item.cell.grid for item in planned):
        path = _grid_file(store.root, grid, profile)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            entries = {_identity(entry): entry for entry in _read(path)}
            for item in planned:
                if item.cell.grid == grid:
                    entry = _entry(item, profile, overrides) | {"data": {name: data[name] for name in item.cell.data}}
                    entries[_identity(entry)] = entry
            write_json(path, list(entries.values()))


def write_cells(root: Path, grid: str, profile: str, entries: Sequence[dict[str, Any]]) -> None:
    """Put `entries` in the place of all that is recorded of a grid in a profile."""
    write_json(_grid_file(root, grid, profile), list(entries))


def read_cells(root: Path, grid: str | None = None, profile: str | None = None) -> list[dict[str, Any]]:
    """Recorded cells, of one grid or all; as written by `record_cells`."""
    found = []
    for path in sorted((root / "grids").glob("*.json")):
        found += [
            entry for entry in _read(path) if grid in (None, entry["grid"]) and profile in (None, entry["profile"])
        ]
    return found


def profile_of(root: Path, grid: str, profile: str | None) -> str:
    """The profile `grid` was run with. Raises UsageError where none or several were and none is named."""
    return choose_profile({entry["profile"] for entry in read_cells(root, grid)}, grid, profile, str(root))


def choose_profile(known: Collection[str], grid: str, profile: str | None, where: str) -> str:
    """`profile`, or the only one `known`. Raises UsageError where that is not one."""
    listing = ", ".join(sorted(known))
    if profile in known:
        return str(profile)
    if not known:
        raise UsageError(f"nothing of grid '{grid}' was run in {where}. Run it first: suite run --grid {grid}")
    if profile is not None:
        raise UsageError(f"grid '{grid}' was not run with profile '{profile}' in {where}, but with: {listing}.")
    if len(known) > 1:
        raise UsageError(f"grid '{grid}' was run with profiles {listing} in {where}. Choose one: --profile NAME")
    return next(iter(known))


def write_results(store: Store) -> Path:
    """Rewrite `<runs>/results.csv` from the store."""
    path = store.root / "results.csv"
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    with FileLock(store.root / "grids" / ".results.lock"):
        writer.writeheader()
        writer.writerows(result_lines(store, read_cells(store.root)))
        write_text(path, text.getvalue())
    return path


def _grid_file(root: Path, grid: str, profile: str) -> Path:
    return root / "grids" / f"{grid}--{profile}.json"


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_bytes())
        if all("grid" in entry and entry["jobs"] is not None for entry in entries):
            return entries
    except (ValueError, TypeError, KeyError):
        pass
    raise StoreError(
        f"{path} is damaged. Delete it and give the `suite run` commands of this grid again: they record its cells, "
        "and train nothing that is finished."
    )


def _identity(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["row"], entry["dataset"], entry["seed"]
