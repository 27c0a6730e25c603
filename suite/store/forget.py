"""Forget a cell: its record and the jobs that only it uses leave the store. Nothing is deleted, only moved aside."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.errors import StoreError, UsageError, unknown
from suite.store.cells import CellRecord
from suite.store.ledger import read_cells, write_cells, write_results
from suite.store.store import Store


@dataclass(frozen=True)
class ForgetOutcome:
    """Outcome of `forget`."""

    cells: tuple[CellRecord, ...]
    moved: tuple[str, ...]  # keys of the jobs that were moved aside
    still_used: dict[str, tuple[str, ...]]  # key -> ids of the other cells and studies that use the job
    folder: Path  # where the record and the jobs are now


def forget(store: Store, cell: str, grid: str | None = None, profile: str | None = None) -> ForgetOutcome:
    """Move a cell's record and its own jobs to ``<runs>/forgotten/<time>-<cell>/`` and rewrite results.csv.

    Args:
        store: the store.
        cell: a cell's id; without the seed, all seeds.
        grid, profile: needed where several grids or profiles have a cell of that id.

    Raises:
        UsageError: no such cell, or cells of several grids or profiles.
        StoreError: a job of the cell is running.
    """
    records = read_cells(store.root)
    named = [record for record in records if cell in {record.id, "/".join(record.row_and_dataset)}]
    cells = [record for record in named if grid in (None, record.grid) and profile in (None, record.profile)]
    if not records:
        raise UsageError(f"nothing was run in {store.root}. Another store: --runs DIR")
    if not named:
        raise unknown("cell", cell, {record.id for record in records}, f"(recorded in {store.root})")
    if not cells:
        listing = ", ".join(f"--grid {g} --profile {p}" for g, p in sorted({(r.grid, r.profile) for r in named}))
        raise UsageError(f"cell {cell} was not run with this grid and profile; it is recorded with: {listing}.")
    if len(places := sorted({(record.grid, record.profile) for record in cells})) > 1:
        listing = ", ".join(f"--grid {g} --profile {p}" for g, p in places)
        raise UsageError(f"several grids or profiles have the cell {cell}; name one: {listing}.")
    keys = list(dict.fromkeys(key for record in cells for key in record.jobs))
    if running := [key for key in keys if store.status(key) == "running"]:
        raise StoreError(f"job {running[0]} of {cell} is running. Stop it first: suite cancel")
    rest = [record for record in records if record not in cells]
    users = {key: _users(store.root, key, rest) for key in keys}
    folder = store.root / "forgotten" / f"{time.strftime('%Y%m%d-%H%M%S')}-{cell.replace('/', '-')}"
    folder.mkdir(parents=True)
    (folder / "cells.json").write_text(json.dumps([record.as_json() for record in cells], indent=2) + "\n", "utf-8")
    write_cells(store.root, *places[0], [r for r in rest if (r.grid, r.profile) == places[0]])
    moved = _move(store, [key for key in keys if not users[key]], folder)
    write_results(store)
    return ForgetOutcome(tuple(cells), moved, {key: names for key, names in users.items() if names}, folder)


def _users(root: Path, key: str, records: Sequence[CellRecord]) -> tuple[str, ...]:
    """Other cells and studies that use a job."""
    cells = [f"{record.id} ({record.grid}, {record.profile})" for record in records if key in record.jobs]
    studies = [path.parent.name for path in sorted((root / "tuning").glob("*/trials.json")) if key in path.read_text()]
    return (*cells, *(f"study {name}" for name in studies))


def _move(store: Store, keys: Collection[str], folder: Path) -> tuple[str, ...]:
    there = [key for key in keys if store.folder(key).is_dir()]
    for key in there:
        store.folder(key).rename(folder / key)
    return tuple(there)
