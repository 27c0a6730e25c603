"""The table of what the background does: accuracy on test images with object or background exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.cells import remarks as say
from analysis.tables.metrics import Column, MetricTable, blocks, images_tested, seeds_note, title
from suite.data.catalogue import DATASETS
from suite.data.saliency.detectors import DETECTORS
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Result, Store

PROTOCOL = "background"
_COLUMNS = (
    Column("original", "Original"),
    Column("foreground", "Object only"),
    Column("background_only", "BG only"),
    Column("mixed_same", "Mixed same"),
    Column("mixed_rand", "Mixed rand"),
    Column("bg_gap", "BG-gap"),
)
_FILLS = {"tile": "the largest strip of background beside it, repeated", "mean": "the background's mean colour"}


def background_table(
    store: Store, grid: GridSpec, profile: str, recorded: Sequence[CellRecord], lines: Sequence[ResultLine]
) -> MetricTable | None:
    """The table of the recorded cells; None where nothing was measured. `lines` are their results."""
    entries = say.in_order(grid, recorded)
    results = say.results_of(store, entries)
    found = blocks(grid, lines, PROTOCOL, _COLUMNS, say.suspicions(results, entries))
    if not found:
        return None
    recipes = [entry.recipe for entry in entries if entry.recipe.get("background")]
    detectors = sorted({recipe["saliency"]["detector"] for recipe in recipes})
    oracles = [name for name in detectors if DETECTORS[name].oracle]
    fills = sorted({_FILLS[recipe["background"]["fill"]] for recipe in recipes})
    notes = [
        "Top-1 (%) of the fine-tuned network after Xiao et al. 2020 (Noise or Signal). Object only: on black. "
        f"BG only (background): the object's box holds {' or '.join(fills)}. Mixed: the object on such a background of "
        "another test image, of its own class (same) or of another (rand). BG-gap: mixed same - mixed rand, in points.",
        f"Object and background are told apart by the maps of {', '.join(detectors)}"
        + (", an oracle from annotations." if oracles else "."),
        *say.sentences(grid, profile, recorded),
        f"Test images: {images_tested(found)}{_left_out(results, entries)}.",
        seeds_note(found) + " Backgrounds are drawn once per seed, alike for all rows.",
    ]
    name, heading, data = f"{grid.name}_{PROTOCOL}", title("What the background does", grid), say.data_used(entries)
    return MetricTable(
        name, heading, profile, PROTOCOL, _COLUMNS, found, tuple(notes), data, say.datasets_with("synthetic", entries)
    )


def _left_out(results: Mapping[str, Result], entries: Sequence[CellRecord]) -> str:
    """Test images in which the detector finds no object, where there are any."""
    missing: dict[str, int] = {}
    for entry in entries:
        key = entry.measured.get(PROTOCOL)
        if key is not None and key in results:
            missing[DATASETS[entry.dataset].label] = results[key].counts.get("n_left_out", 0)
    parts = [f"{label} {count}" for label, count in missing.items() if count]
    return f"; left out, because their map gives no box: {', '.join(parts)}" if parts else ""
