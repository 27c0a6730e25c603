"""Remarks on the cells of a table: data, saliency detector, changed settings, failures, missing results.

All remarks are derived from cell records and results, so a store and its mirror in MLflow give the same text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from analysis.cells.references import reference_note
from analysis.cells.stale import stale_settings
from suite.data.catalogue import DATASETS
from suite.grid.profile import Profile, load_profile
from suite.grid.spec import EXPERIMENTS, GridSpec
from suite.store.cells import CellRecord, CheckpointFacts, DatasetFacts
from suite.store.store import Result, Store
from suite.text import yaml_text

Key = tuple[str, str]  # (row, dataset)

_ORACLES = {"boxes", "masks"}
# compared by `stale_settings`
_SETTINGS = ("row", "method", "stage1", "stage2", "first_stage", "set", "recipe", "stage1_recipe")
_LENGTH = 200  # longest error message quoted, characters


def shipped_profile(name: str) -> Profile | None:
    """The shipped profile of that name; None for a profile that came from a file."""
    return load_profile(name) if (EXPERIMENTS / "profiles" / f"{name}.yaml").is_file() else None


def in_order(grid: GridSpec, recorded: Iterable[CellRecord]) -> list[CellRecord]:
    """The records of the grid's rows and datasets, sorted in the grid's order and by seed."""
    rows = {row.name: position for position, row in enumerate(grid.rows)}
    of_grid = [record for record in recorded if record.row in rows and record.dataset in grid.datasets]
    return sorted(of_grid, key=lambda e: (rows[e.row], grid.datasets.index(e.dataset), e.seed))


def caption_notes(grid: GridSpec, recorded: Sequence[CellRecord]) -> list[str]:
    """Notes for the caption: scale, data, saliency detector, imported first stages, changes by --set."""
    records = in_order(grid, recorded)
    notes = [f"Network: {' or '.join(networks)}"] if (networks := _networks(records)) else []
    for facts in _facts(grid, records):
        if facts.synthetic:
            notes.append(f"{facts.describe} (synthetic images, not photographs)")
        elif facts.subset:
            notes.append(f"{facts.describe} (a subset of the official data)")
    for name in sorted({name for record in records for name in detectors(record)}):
        notes.append(f"Saliency: {name}" + (", an oracle from annotations" if name in _ORACLES else ""))
    shown = {record.row: record for record in records}
    references = [row for row in grid.rows if row.reference is not None and row.name in shown]
    notes += reference_note(references)
    notes += [f"{row.label}: {_described(checkpoint)}" for row in references
              if (checkpoint := shown[row.name].stage1_checkpoint) is not None]  # fmt: skip
    imported = {
        _described(checkpoint)
        for record in records
        if (checkpoint := record.stage1_checkpoint) is not None and record.row not in {row.name for row in references}
    }
    if imported:
        others = {r.row: r for r in records if r.stage1 != "none" and r.stage1_checkpoint is None}
        labels = [row.label for row in grid.rows if row.name in others]
        here = f"; trained here: those of {', '.join(dict.fromkeys(labels))}" if labels else ""
        notes.append(f"First stages not trained here but taken from {', '.join(sorted(imported))}{here}")
    notes += _first_stages(grid, records)
    notes += _overrides(records, len({(e.row, e.dataset, e.seed) for e in records}))
    names = {f"{record.row} on {record.dataset}" for record in recorded if record not in records}
    if names:
        listing = ", ".join(sorted(names))
        notes.append(f"Left out, since the grid has no such row or dataset without its --plugin: {listing}")
    return notes


def _first_stages(grid: GridSpec, records: Sequence[CellRecord]) -> list[str]:
    """The method of the first stages that were trained here. The paper does not state it."""
    trained = [record for record in records if record.stage1_recipe is not None]
    own = {record.row for record in trained if record.first_stage == "own"}
    plain = "the objective with its plain views, without alignment (first_stage: plain)"
    if not trained:
        return []
    if not own:
        return [f"Method of the first stage: {plain}"]
    labels = ", ".join(dict.fromkeys(row.label for row in grid.rows if row.name in own))
    others = f"; of the other rows {plain}" if {record.row for record in trained} - own else ""
    return [f"Method of the first stage of {labels}: the row's own, with its views and alignment{others}"]


def _described(checkpoint: CheckpointFacts) -> str:
    """Name, origin where it is known, and the beginning of the SHA-256."""
    return f"{checkpoint.name} ({checkpoint.origin}{'; ' * bool(checkpoint.origin)}SHA-256 {checkpoint.sha256[:12]})"


def caption_sentences(grid: GridSpec, recorded: Sequence[CellRecord]) -> list[str]:
    """The caption notes, each with its full stop."""
    return [f"{text.rstrip('.')}." for text in caption_notes(grid, recorded)]


def data_used(records: Sequence[CellRecord]) -> dict[str, str]:
    """Per dataset, the counts of the images used."""
    used: dict[str, list[str]] = {}
    for record in records:
        for name, facts in record.data.items():
            if facts.describe not in used.setdefault(name, []):
                used[name].append(facts.describe)
    return {name: " / ".join(descriptions) for name, descriptions in used.items()}


def datasets_with(fact: str, records: Sequence[CellRecord]) -> set[str]:
    """Datasets for which `fact` ("subset" or "synthetic") was recorded as true in any cell."""
    return {name for record in records for name, facts in record.data.items() if getattr(facts, fact)}


def detectors(record: CellRecord) -> set[str]:
    """Saliency detectors whose maps the cell's training read. Old records do not say; there, those of the recipe."""
    if record.trained_with is not None:
        return set(record.trained_with)
    recipes = [record.recipe if record.stage2 == "yes" else None, record.stage1_recipe]
    return {recipe["saliency"]["detector"] for recipe in recipes if recipe and recipe.get("saliency")}


def oracles(records: Iterable[CellRecord]) -> set[Key]:
    """Cells that were trained with saliency from annotations."""
    return {record.row_and_dataset for record in records if detectors(record) & _ORACLES}


def stale_cells(grid: GridSpec, profile: str, records: Iterable[CellRecord]) -> dict[Key, str]:
    """Cells whose settings differ from the current grid or shipped profile: {(row, dataset): the differences}."""
    current = shipped_profile(profile)
    stale, differences = dict[Key, str](), dict[str, list[str]]()
    for record in records:
        settings = json.dumps([getattr(record, name) for name in _SETTINGS], sort_keys=True)
        if settings not in differences:  # resolving a recipe takes milliseconds, and most cells share theirs
            differences[settings] = stale_settings(grid.row(record.row), current, record)
        if differences[settings]:
            stale[record.row_and_dataset] = f"run with other settings than now: {', '.join(differences[settings])}"
    return stale


def results_of(store: Store, records: Iterable[CellRecord]) -> dict[str, Result]:
    """The results of all finished jobs of these cells, by key."""
    results = {key: store.result(key) for key in dict.fromkeys(key for record in records for key in record.jobs)}
    return {key: result for key, result in results.items() if result is not None}


def suspicions(results: Mapping[str, Result], records: Iterable[CellRecord]) -> dict[Key, str]:
    """Cells with a job marked suspicious: {(row, dataset): the reasons}."""
    reasons_of: dict[Key, dict[str, None]] = {}  # each reason once, in order
    for record in records:
        for reason in (reason for key in record.jobs if key in results for reason in results[key].suspicious):
            reasons_of.setdefault(record.row_and_dataset, {})[reason] = None
    return {key: "suspicious: " + "; ".join(reasons) for key, reasons in reasons_of.items()}


def missing_cells(store: Store, results: Mapping[str, Result], records: Iterable[CellRecord]) -> dict[Key, str]:
    """Cells with a seed that has no result, and the reason: failed, not finished, not run."""
    missing: dict[Key, list[str]] = {}
    for record in records:
        if not record.headlines & results.keys():
            why = _why(store, record.jobs)
            missing.setdefault(record.row_and_dataset, []).append(f"seed {record.seed} {why}")
    return {key: "; ".join(reasons) for key, reasons in missing.items()}


def join_remarks(*remarks_by_cell: Mapping[Key, str]) -> dict[Key, str]:
    """Join several remarks on the same cell with semicolons."""
    keys = dict.fromkeys(key for one in remarks_by_cell for key in one)
    return {key: "; ".join(one[key] for one in remarks_by_cell if key in one) for key in keys}


def _why(store: Store, keys: Sequence[str]) -> str:
    states = {key: store.status(key) for key in keys}
    for key in [key for key, state in states.items() if state == "failed"]:
        failure = store.failure(key)
        if failure is not None:
            return f"failed ({store.name(key)}: {' '.join(failure.error.split())[:_LENGTH]})"
    return "not run" if all(state == "new" for state in states.values()) else "not finished"


def _facts(grid: GridSpec, records: Sequence[CellRecord]) -> list[DatasetFacts]:
    """The recorded facts of each dataset: the grid's datasets first, then those of first stages."""
    unique = {(name, facts.describe): facts for record in records for name, facts in record.data.items()}
    places = [*grid.datasets, *(name for name in DATASETS if name not in grid.datasets)]
    return [unique[key] for key in sorted(unique, key=lambda key: (places.index(key[0]), key[1]))]


def _networks(records: Iterable[CellRecord]) -> list[str]:
    """Distinct scales of the records, from their resolved recipes: network, input side, epochs.

    Epochs are those of the second stage where a cell has one; a first stage has its own recipe.
    """
    networks: dict[str, tuple[set[int], set[int]]] = {}
    for record in records:
        recipe = record.recipe
        if not recipe:
            continue
        backbone, side = recipe["backbone"], recipe["image_size"]
        width = f", width {backbone['width']}" if backbone.get("width") else ""
        name = f"{backbone['arch']}{width}, {side} px"
        pretraining, finetuning = networks.setdefault(name, (set(), set()))
        finetuning.add(recipe["finetune"]["epochs"])
        for stage in (recipe if record.stage2 == "yes" else None, record.stage1_recipe):
            if stage and stage.get("pretrain"):
                pretraining.add(stage["pretrain"]["epochs"])
    return [
        f"{name}, {_epochs(pretraining, 'pretraining')}{_epochs(finetuning, 'fine-tuning')}".rstrip(", ")
        for name, (pretraining, finetuning) in networks.items()
    ]


def _epochs(counts: Iterable[int], stage: str) -> str:
    shown = "/".join(map(str, sorted(counts)))
    return f"{shown} epoch{'' if shown == '1' else 's'} of {stage}, " if shown else ""


def _overrides(records: Sequence[CellRecord], cells: int) -> list[str]:
    """The settings changed with --set, each with the number of cells."""
    changed: dict[str, int] = {}
    for record in records:
        for name, value in record.set.items():
            text = f"{name}={yaml_text(value)}"
            changed[text] = changed.get(text, 0) + 1
    if not changed:
        return []
    parts = [
        f"{text} ({'all' if count == cells else f'{count} of {cells}'} cells)"
        for text, count in sorted(changed.items())
    ]
    return [f"Changed with --set: {', '.join(parts)}"]
