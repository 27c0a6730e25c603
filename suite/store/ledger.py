"""Which cells were asked for (`<runs>/grids/*.json`) and their numbers (`<runs>/results.csv`), from the store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from suite.errors import UsageError
from suite.grid.cells import CellJobs
from suite.grid.jobs import PretrainSpec
from suite.store.atomic import write_json, write_text
from suite.store.store import Store

COLUMNS = (
    *("grid", "row", "method", "dataset", "stage1", "stage2", "profile"),  # the cell
    *("protocol", "seed", "metric", "value", "n", "key"),  # the number
)


# By kind of job, which of its metrics is the top1 of which protocol. A kind that is not here is a protocol itself, and
# all its metrics go by their own names.
_PROTOCOLS = {"finetune": {"finetune": "top1"}, "probe": {"knn": "knn_top1", "linear": "linear_top1"}}


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


def result_lines(store: Store, entries: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """One line per finished cell and metric, in results.csv's columns."""
    lines = []
    for entry in entries:
        cell = {column: str(entry[column]) for column in COLUMNS if column in entry}
        for kind, key in entry["measured"].items():
            result = store.result(key)
            if result is None:
                continue
            numbers = (
                [(protocol, "top1", result.metrics.get(name)) for protocol, name in _PROTOCOLS[kind].items()]
                if kind in _PROTOCOLS
                else [(kind, metric, value) for metric, value in result.metrics.items()]
            )
            for protocol, metric, value in numbers:
                if value is not None:
                    number = {"value": repr(value), "n": str(result.counts["n_test"]), "key": key}
                    lines.append(cell | {"protocol": protocol, "metric": metric} | number)
    return lines


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
    entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return entries


def _identity(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["row"], entry["dataset"], entry["seed"]


def _entry(item: CellJobs, profile: str, overrides: dict[str, Any]) -> dict[str, Any]:
    cell, stages = item.cell, [job.spec for job in item.stages]
    return {
        "grid": cell.grid,
        "row": cell.row.name,
        "method": cell.row.method,
        "dataset": cell.dataset,
        "stage1": cell.row.stage1,
        "stage2": "yes" if cell.row.stage2 else "no",
        "profile": profile,
        "seed": cell.seed,
        "jobs": [job.key for job in item.jobs],
        "trained_with": sorted({s.saliency.detector for s in stages if isinstance(s, PretrainSpec) and s.saliency}),
        "roles": {role: job.key for role, job in item.roles.items()},
        "measured": item.measured,
        "set": overrides,
        "recipe": cell.recipe.model_dump(mode="json"),
        "origins": dict(cell.resolved.origins),
        "stage1_recipe": cell.stage1 and cell.stage1.recipe.model_dump(mode="json"),
        "stage1_origins": cell.stage1 and dict(cell.stage1.origins),
        "stage1_checkpoint": item.checkpoint,
    }
