"""The retrieval table: test images ranked for each other by the similarity of their frozen features."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import remarks
from analysis.tables.captions import metric_caption
from analysis.tables.metrics import Column, MetricTable, blocks, images_tested, seeds_note, title
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

PROTOCOL = "retrieval"
_COLUMNS = (Column("rank1", "Rank-1"), Column("rank5", "Rank-5"), Column("map", "mAP"))
_SIMILARITIES = {"cosine": "cosine", "dot": "dot product"}


def retrieval_table(
    store: Store, grid: GridSpec, profile: str, recorded: Sequence[CellRecord], lines: Sequence[ResultLine]
) -> MetricTable | None:
    """The table of the recorded cells; None without results. `lines`: the results of the cells."""
    records = remarks.in_order(grid, recorded)
    suspicious = remarks.suspicions(remarks.results_of(store, records), records)
    shown = blocks(grid, lines, PROTOCOL, _COLUMNS, suspicious, best=True)
    if not shown:
        return None
    notes = [
        "Each test image is a query; all other test images are ranked by the similarity of pooled features of central "
        f"crops{_similarity(records)}, on the frozen backbone.",
        "Rank-1, Rank-5: share (%) of queries with an image of their class among the first one or five. mAP: mean over "
        "queries of the average precision of the whole ranking (%).",
        *remarks.caption_sentences(grid, recorded),
        f"Queries: {images_tested(shown)}.",
        seeds_note(shown) + " Best of the rows in bold.",
    ]
    return MetricTable(
        f"{grid.name}_{PROTOCOL}",
        title("Retrieval on frozen features", grid),
        profile,
        PROTOCOL,
        _COLUMNS,
        shown,
        metric_caption("Rank-1, Rank-5 and mAP (%) of test images among each other.", profile, records, shown),
        tuple(notes),
        remarks.data_used(records),
        remarks.datasets_with("synthetic", records),
    )


def _similarity(records: Sequence[CellRecord]) -> str:
    """In parentheses; empty for cells of a plugin that measures under this name."""
    probes = [record.recipe.get("probe") or {} for record in records]
    names = sorted({_SIMILARITIES[probe[PROTOCOL]] for probe in probes if probe.get(PROTOCOL)})
    return f" ({' or '.join(names)})" if names else ""
