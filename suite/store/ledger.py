"""Which cells were asked for (`<runs>/grids/*.json`) and their numbers (`<runs>/results.csv`), from the store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from suite.atomic import write_json, write_text
from suite.errors import StoreError, UsageError
from suite.grid.cell_jobs import CellJobs
from suite.locks import FileLock
from suite.store.cells import COLUMNS, CellRecord, record_of, result_lines
from suite.store.store import Store

_RECORDS = TypeAdapter(list[CellRecord])


def record_cells(
    store: Store,
    profile: str,
    overrides: Mapping[str, Any],
    planned: Sequence[CellJobs],
    data: Mapping[str, Mapping[str, Any]],
) -> None:
    """Remember which jobs make up each cell. A cell run again with another recipe replaces its earlier record.

    `data` says per dataset what captions must tell: the fields of `suite.store.cells.DatasetFacts`.
    """
    add_cells(store.root, [record_of(item, profile, overrides, data) for item in planned])


def add_cells(root: Path, records: Sequence[CellRecord]) -> None:
    """Add records; one of the same grid, profile, row, dataset and seed is replaced."""
    for grid, profile in dict.fromkeys((record.grid, record.profile) for record in records):
        path = _grid_file(root, grid, profile)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            recorded = {(*record.row_and_dataset, record.seed): record for record in _read(path)}
            added = [record for record in records if (record.grid, record.profile) == (grid, profile)]
            recorded.update({(*record.row_and_dataset, record.seed): record for record in added})
            _write(path, list(recorded.values()))


def write_cells(root: Path, grid: str, profile: str, records: Sequence[CellRecord]) -> None:
    """Replace all records of a grid in a profile."""
    _write(_grid_file(root, grid, profile), records)


def read_cells(root: Path, grid: str | None = None, profile: str | None = None) -> list[CellRecord]:
    """Recorded cells, of one grid or all, of one profile or all."""
    records = [record for path in sorted((root / "grids").glob("*.json")) for record in _read(path)]
    return [record for record in records if grid in (None, record.grid) and profile in (None, record.profile)]


def profile_of(root: Path, grid: str, profile: str | None) -> str:
    """The profile `grid` was run with. Raises UsageError where none or several were and none is named."""
    return choose_profile({record.profile for record in read_cells(root, grid)}, grid, profile, str(root))


def choose_profile(profiles: Collection[str], grid: str, profile: str | None, where: str) -> str:
    """`profile`, or the only one of `profiles`. Raises UsageError where that is not one."""
    listing = ", ".join(sorted(profiles))
    if profile in profiles:
        return str(profile)
    if not profiles:
        raise UsageError(f"nothing of grid '{grid}' was run in {where}. Run it first: suite run --grid {grid}")
    if profile is not None:
        raise UsageError(f"grid '{grid}' was not run with profile '{profile}' in {where}, but with: {listing}.")
    if len(profiles) > 1:
        raise UsageError(f"grid '{grid}' was run with profiles {listing} in {where}. Choose one: --profile NAME")
    return next(iter(profiles))


def write_results(store: Store) -> Path:
    """Rewrite `<runs>/results.csv` from the store."""
    path = store.root / "results.csv"
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    with FileLock(store.root / "grids" / ".results.lock"):
        writer.writeheader()
        writer.writerows(asdict(line) for line in result_lines(store, read_cells(store.root)))
        write_text(path, text.getvalue())
    return path


def _grid_file(root: Path, grid: str, profile: str) -> Path:
    return root / "grids" / f"{grid}--{profile}.json"


def _read(path: Path) -> list[CellRecord]:
    if not path.is_file():
        return []
    try:
        return _RECORDS.validate_python(json.loads(path.read_bytes()))
    except ValueError:  # pydantic's errors and JSON's are of this type
        raise StoreError(
            f"{path} is damaged. Delete it and give the `suite run` commands of this grid again: they record its "
            "cells, and train nothing that is finished."
        ) from None


def _write(path: Path, records: Sequence[CellRecord]) -> None:
    write_json(path, [record.as_json() for record in records])
