"""The background table: accuracy on test images whose object or background was replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.cells import remarks
from analysis.tables.captions import metric_caption
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
    """The table of the recorded cells; None without results. `lines`: the results of the cells."""
    records = remarks.in_order(grid, recorded)
    results = remarks.results_of(store, records)
    blocks_shown = blocks(grid, lines, PROTOCOL, _COLUMNS, remarks.suspicions(results, records))
    if not blocks_shown:
        return None
    recipes = [record.recipe for record in records if record.recipe.get("background")]
    detectors = sorted({recipe["saliency"]["detector"] for recipe in recipes})
    oracles = [name for name in detectors if DETECTORS[name].oracle]
    fills = sorted({_FILLS[recipe["background"]["fill"]] for recipe in recipes})
    who = _measured_by(records)
    notes = [
        f"Top-1 (%) of {who} after Xiao et al. 2020 (Noise or Signal). Object only: on black. "
        f"BG only (background): the object's box holds {' or '.join(fills)}. Mixed: the object on such a background of "
        "another test image, of the same class (same) or another (rand). BG-gap: mixed same - mixed rand, in points.",
        f"Object and background are separated by the maps of {', '.join(detectors)}"
        + (", an oracle from annotations." if oracles else "."),
        *remarks.caption_sentences(grid, recorded),
        f"Test images: {images_tested(blocks_shown)}{_left_out(results, records)}.",
        seeds_note(blocks_shown) + " Backgrounds are sampled once per seed, the same for all rows.",
    ]
    name, heading, data = f"{grid.name}_{PROTOCOL}", title("Background reliance", grid), remarks.data_used(records)
    return MetricTable(
        name,
        heading,
        profile,
        PROTOCOL,
        _COLUMNS,
        blocks_shown,
        metric_caption(f"Top-1 (%) of {who} with object or background exchanged.", profile, records, blocks_shown),
        tuple(notes),
        data,
        remarks.datasets_with("synthetic", records),
    )


def _measured_by(records: Sequence[CellRecord]) -> str:
    """What predicts the classes: the fine-tuned network, or of frozen rows kNN."""
    frozen = {"finetune" not in record.measured for record in records if PROTOCOL in record.measured}
    tuned, knn = "the fine-tuned network", "kNN on the frozen backbone"
    return f"{tuned} (of frozen rows: {knn})" if frozen == {True, False} else knn if frozen == {True} else tuned


def _left_out(results: Mapping[str, Result], records: Sequence[CellRecord]) -> str:
    """Test images in which the detector finds no object; empty if there are none."""
    missing: dict[str, int] = {}
    for record in records:
        key = record.measured.get(PROTOCOL)
        if key is not None and key in results:
            missing[DATASETS[record.dataset].label] = results[key].counts.get("n_left_out", 0)
    parts = [f"{label} {count}" for label, count in missing.items() if count]
    return f"; left out, because their map gives no box: {', '.join(parts)}" if parts else ""
