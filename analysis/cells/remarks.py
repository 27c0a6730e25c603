"""What a reader of a table must know of the cells behind it: their data, saliency, settings, and why some are missing.

Everything here comes from the recorded cells and their results, so a store and its mirror in MLflow say the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from analysis.cells.drift import drift
from suite.data.catalogue import DATASETS
from suite.grid.profile import Profile, load_profile
from suite.grid.spec import EXPERIMENTS, GridSpec
from suite.store.cells import CellRecord, DatasetFacts
from suite.store.store import Result, Store

Key = tuple[str, str]  # (row, dataset)

_ORACLES = {"boxes", "masks"}
_SETTINGS = ("row", "method", "stage1", "stage2", "set", "recipe", "stage1_recipe")  # what `drift` looks at
_LENGTH = 200  # characters of an error


def shipped_profile(name: str) -> Profile | None:
    """The profile of that name, where it is one of the suite's own."""
    return load_profile(name) if (EXPERIMENTS / "profiles" / f"{name}.yaml").is_file() else None


def in_order(grid: GridSpec, recorded: Iterable[CellRecord]) -> list[CellRecord]:
    """The cells of the grid's rows and datasets in the grid's order, whatever order they were recorded in."""
    rows = {row.name: place for place, row in enumerate(grid.rows)}
    known = [entry for entry in recorded if entry.row in rows and entry.dataset in grid.datasets]
    return sorted(known, key=lambda e: (rows[e.row], grid.datasets.index(e.dataset), e.seed))


def remarks(grid: GridSpec, profile: str, recorded: Sequence[CellRecord]) -> list[str]:
    """Sentences for the caption."""
    entries = in_order(grid, recorded)
    known = shipped_profile(profile)
    found = [] if known is None or not known.note else [f"Scale: {known.note}"]
    for facts in _facts(grid, entries):
        if facts.synthetic:
            found.append(f"{facts.describe} (images drawn by program, no photographs)")
        elif facts.subset:
            found.append(f"{facts.describe} (a subset of the official data)")
    for name in sorted({name for entry in entries for name in detectors(entry)}):
        found.append(f"Saliency: {name}" + (", an oracle from annotations" if name in _ORACLES else ""))
    imported = {
        f"{entry.stage1_checkpoint.name} (SHA-256 {entry.stage1_checkpoint.sha256[:12]})"
        for entry in entries
        if entry.stage1_checkpoint is not None
    }
    if imported:
        found.append(f"First stages not trained here but taken from {', '.join(sorted(imported))}")
    found += _overrides(entries, len({(e.row, e.dataset, e.seed) for e in entries}))
    names = {f"{entry.row} on {entry.dataset}" for entry in recorded if entry not in entries}
    if names:
        listing = ", ".join(sorted(names))
        found.append(f"Left out, because the grid has no such row or dataset without its --plugin: {listing}")
    return found


def sentences(grid: GridSpec, profile: str, recorded: Sequence[CellRecord]) -> list[str]:
    """The remarks, each with its full stop."""
    return [f"{text.rstrip('.')}." for text in remarks(grid, profile, recorded)]


def data_used(entries: Sequence[CellRecord]) -> dict[str, str]:
    """Per dataset, the counts of what was used of it."""
    used: dict[str, list[str]] = {}
    for entry in entries:
        for name, facts in entry.data.items():
            if facts.describe not in used.setdefault(name, []):
                used[name].append(facts.describe)
    return {name: " / ".join(found) for name, found in used.items()}


def datasets_with(fact: str, entries: Sequence[CellRecord]) -> set[str]:
    """Datasets of which the recorded `fact`, subset or synthetic, is true in any cell."""
    return {name for entry in entries for name, facts in entry.data.items() if getattr(facts, fact)}


def detectors(entry: CellRecord) -> set[str]:
    """Saliency detectors that this cell's training read; before the measurements read maps as well, its recipe's."""
    if entry.trained_with is not None:
        return set(entry.trained_with)
    recipes = [entry.recipe if entry.stage2 == "yes" else None, entry.stage1_recipe]
    return {recipe["saliency"]["detector"] for recipe in recipes if recipe and recipe.get("saliency")}


def oracles(entries: Iterable[CellRecord]) -> set[Key]:
    """Cells that were trained with saliency from annotations."""
    return {entry.place for entry in entries if detectors(entry) & _ORACLES}


def outdated(grid: GridSpec, profile: str, entries: Iterable[CellRecord]) -> dict[Key, str]:
    """Cells run with other settings than the grid and, where it is a shipped one, the profile have now; and which."""
    known = shipped_profile(profile)
    found, seen = {}, dict[str, list[str]]()
    for entry in entries:
        settings = json.dumps([getattr(entry, name) for name in _SETTINGS], sort_keys=True)
        if settings not in seen:  # resolving a recipe takes milliseconds, and most cells share theirs
            seen[settings] = drift(grid.row(entry.row), known, entry)
        if seen[settings]:
            found[entry.place] = f"run with other settings than now: {', '.join(seen[settings])}"
    return found


def results_of(store: Store, entries: Iterable[CellRecord]) -> dict[str, Result]:
    """The results of all finished jobs of these cells, by key."""
    found = {key: store.result(key) for key in dict.fromkeys(key for entry in entries for key in entry.jobs)}
    return {key: result for key, result in found.items() if result is not None}


def suspicions(results: Mapping[str, Result], entries: Iterable[CellRecord]) -> dict[Key, str]:
    """Cells of which a job is marked suspicious, and why."""
    found: dict[Key, dict[str, None]] = {}  # each reason once, in order
    for entry in entries:
        for reason in (reason for key in entry.jobs if key in results for reason in results[key].suspicious):
            found.setdefault(entry.place, {})[reason] = None
    return {key: "suspicious: " + "; ".join(reasons) for key, reasons in found.items()}


def holes(store: Store, results: Mapping[str, Result], entries: Iterable[CellRecord]) -> dict[Key, str]:
    """Cells and seeds without a number, and why: failed, not finished, not run."""
    found: dict[Key, list[str]] = {}
    for entry in entries:
        if entry.measured["finetune"] not in results:
            why = _why(store, entry.jobs)
            found.setdefault(entry.place, []).append(f"seed {entry.seed} {why}")
    return {key: "; ".join(reasons) for key, reasons in found.items()}


def joined(*remarks_by_cell: Mapping[Key, str]) -> dict[Key, str]:
    """All that is to be said of each cell."""
    keys = dict.fromkeys(key for one in remarks_by_cell for key in one)
    return {key: "; ".join(one[key] for one in remarks_by_cell if key in one) for key in keys}


def _why(store: Store, keys: Sequence[str]) -> str:
    states = {key: store.status(key) for key in keys}
    for key in [key for key, state in states.items() if state == "failed"]:
        failure = store.failure(key)
        if failure is not None:
            return f"failed ({store.name(key)}: {' '.join(failure.error.split())[:_LENGTH]})"
    return "not run" if all(state == "new" for state in states.values()) else "not finished"


def _facts(grid: GridSpec, entries: Sequence[CellRecord]) -> list[DatasetFacts]:
    """What was recorded of each dataset, in the order of the grid's and then the first stages'."""
    unique = {(name, facts.describe): facts for entry in entries for name, facts in entry.data.items()}
    places = [*grid.datasets, *(name for name in DATASETS if name not in grid.datasets)]
    return [unique[key] for key in sorted(unique, key=lambda key: (places.index(key[0]), key[1]))]


def _overrides(entries: Sequence[CellRecord], cells: int) -> list[str]:
    """What --set changed, and for how many of the cells."""
    changed: dict[str, int] = {}
    for entry in entries:
        for name, value in entry.set.items():
            changed[f"{name}={value}"] = changed.get(f"{name}={value}", 0) + 1
    if not changed:
        return []
    parts = [
        f"{text} ({'all' if count == cells else f'{count} of {cells}'} cells)"
        for text, count in sorted(changed.items())
    ]
    return [f"Changed with --set: {', '.join(parts)}"]
