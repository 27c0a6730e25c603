"""Merge another store into this one, such as that of a second lab: cells by their place, jobs by their key.

A job's key is the hash of everything that determines its result, data included, so equal keys mean the same job. The
numbers of one job may still differ between machines, because floating-point results do. Such a job is a conflict: which
of the two numbers counts is for the users to decide.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.atomic import atomic_folder
from suite.errors import StoreError, UsageError
from suite.store.cells import CellRecord
from suite.store.ledger import add_cells, read_cells, write_results
from suite.store.store import Store, sha256
from suite.text import leaves

_LISTED = 10  # conflicts in an error
_NOT_COPIED = {"claim.json", "failure.json", "state.pt"}  # they belong to an attempt, not to a result


@dataclass(frozen=True)
class MergeOutcome:
    """Outcome of `merge`, or with `dry_run` what it would be."""

    cells: tuple[str, ...]  # new here
    identical: int  # cells that both stores have, with equal results
    unfinished: tuple[str, ...]  # cells of the other store that have jobs without a result; left out
    conflicts: tuple[str, ...]  # left out; empty unless `skip_conflicts`
    jobs: tuple[str, ...]  # keys of the jobs that were copied


def merge(store: Store, other: Store, *, skip_conflicts: bool = False, dry_run: bool = False) -> MergeOutcome:
    """Add the finished cells of `other`, with their jobs, and rewrite results.csv. `other` is only read.

    Records are written after their jobs, so an interrupted merge can be repeated. Studies of `suite tune` and MLflow's
    database are not merged: `suite sync` brings MLflow up to date.

    Args:
        store: where cells are added.
        other: the store they come from.
        skip_conflicts: leave conflicting cells out instead of refusing the merge.
        dry_run: change nothing.

    Raises:
        UsageError: `other` is no store, or the same one.
        StoreError: conflicts, a damaged job of `other`, or one that is running here. Nothing was changed.
    """
    if other.root.resolve() == store.root.resolve():
        raise UsageError(f"{other.root} is this store itself. Expected another store: suite merge OTHER --runs DIR")
    records = read_cells(other.root)
    if not records:
        raise UsageError(f"no cell is recorded in {other.root}. Expected a folder that `suite run --runs` wrote.")
    if unsafe := [record for record in records if not _is_plain(record.grid) or not _is_plain(record.profile)]:
        raise StoreError(f"{other.root} names a grid or profile that is not a valid file name: {_name(unsafe[0])!r}.")
    cells = _classify(store, other, records)
    if cells.conflicts and not skip_conflicts:
        more = f"\nand {len(cells.conflicts) - _LISTED} more" if len(cells.conflicts) > _LISTED else ""
        raise StoreError(
            f"{len(cells.conflicts)} of {len(records)} cells of {other.root} conflict with {store.root}; nothing was "
            "merged.\n"
            + "\n".join(cells.conflicts[:_LISTED])
            + f"{more}\nTo merge the others and keep these cells as they are here: --skip-conflicts"
        )
    keys_to_add = dict.fromkeys(key for record in cells.to_add for key in record.jobs)
    jobs = tuple(key for key in keys_to_add if not store.done(key))
    if running := [key for key in jobs if store.status(key) == "running"]:
        raise StoreError(f"job {running[0]} is running here. Wait for it, or stop it: suite cancel")
    for key in jobs:
        _check(other, key)
    if not dry_run:
        for key in jobs:
            _copy(store, other, key)
        add_cells(store.root, cells.to_add)
        write_results(store)
    return MergeOutcome(
        tuple(map(_name, cells.to_add)), cells.identical, tuple(cells.unfinished), tuple(cells.conflicts), jobs
    )


@dataclass
class _CellClasses:
    """The cells of the other store: records to add, and what keeps the others from being added."""

    to_add: list[CellRecord] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    identical: int = 0


def _classify(store: Store, other: Store, records: Sequence[CellRecord]) -> _CellClasses:
    here = {_identity(record): record for record in read_cells(store.root)}
    cells = _CellClasses()
    for record in records:
        if any(other.result(key) is None for key in record.jobs):
            cells.unfinished.append(_name(record))
        elif reason := _conflict(store, other, here.get(_identity(record)), record):
            cells.conflicts.append(f"{_name(record)}: {reason}")
        elif _identity(record) in here and all(store.done(key) for key in record.jobs):
            cells.identical += 1
        else:
            cells.to_add.append(record)
    return cells


def _identity(record: CellRecord) -> tuple[str, str, str, str, int]:
    return record.grid, record.profile, record.row, record.dataset, record.seed


def _is_plain(name: str) -> bool:
    """Whether a name that comes from another store may become a part of a file name here."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _name(record: CellRecord) -> str:
    return f"{record.id} ({record.grid}, {record.profile})"


def _conflict(store: Store, other: Store, local: CellRecord | None, record: CellRecord) -> str | None:
    """Why a cell of the other store cannot be taken as it is; None where it can."""
    if local is not None and local.jobs != record.jobs:
        differences = [f"{path} {here} here, {there} there" for path, here, there in _differences(local, record)]
        listing = ", ".join(differences[:3])
        return (
            f"run with other settings: {listing}" if listing else "run with other data or another version of the code"
        )
    for key in record.jobs:
        here, there = store.result(key), other.result(key)
        if here is None or there is None or here.metrics == there.metrics:
            continue
        names = here.metrics.keys() | there.metrics.keys()
        name = min(n for n in names if here.metrics.get(n) != there.metrics.get(n))
        values = f"{here.metrics.get(name)} here, {there.metrics.get(name)} there"
        return f"job {key} ({here.name}) has another result: {name} {values}"
    return None


def _differences(local: CellRecord, record: CellRecord) -> Iterator[tuple[str, Any, Any]]:
    for here, there, prefix in (
        (local.recipe, record.recipe, ""),
        (local.stage1_recipe or {}, record.stage1_recipe or {}, "first stage: "),
    ):
        flat_here, flat_there = dict(leaves(here)), dict(leaves(there))
        for path in dict.fromkeys((*flat_here, *flat_there)):
            if flat_here.get(path) != flat_there.get(path):
                yield f"{prefix}{path}", flat_here.get(path), flat_there.get(path)


def _files(folder: Path) -> Sequence[Path]:
    """The files of a job that are copied, relative to its folder. Links are left out: they could point anywhere."""
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in paths if path.name not in _NOT_COPIED and not path.name.endswith(".tmp")]


def _check(other: Store, key: str) -> None:
    """Raise StoreError where the spec does not give the key, or a weight file differs from its recorded SHA-256."""
    other.name(key)
    result = other.result(key)
    for name, digest in ({} if result is None else result.files).items():
        path = other.checkpoint(key) / name
        if path.is_symlink() or (path.is_file() and sha256(path) != digest):
            raise StoreError(
                f"{path} is not the file that was recorded (SHA-256 {digest[:16]}...); nothing was merged."
            )


def _copy(store: Store, other: Store, key: str) -> None:
    """Copy one finished job. What an unfinished attempt left here is moved to ``<runs>/forgotten``."""
    source, target = other.folder(key), store.folder(key)
    if target.exists():
        aside = store.root / "forgotten" / f"{time.strftime('%Y%m%d-%H%M%S')}-merge"
        aside.mkdir(parents=True, exist_ok=True)
        target.rename(aside / key)
    with atomic_folder(target) as folder:
        for path in _files(source):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, folder / path)
