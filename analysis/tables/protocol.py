"""The table of a protocol that describes its own columns (`suite.kinds.base.Protocol.headings`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.cells import remarks
from analysis.tables.captions import metric_caption
from analysis.tables.metrics import Column, MetricTable, blocks, images_tested, seeds_note, title
from suite.grid.spec import GridSpec
from suite.kinds.base import Protocol
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store


def protocol_table(
    protocol: Protocol[Any],
    store: Store,
    grid: GridSpec,
    profile: str,
    recorded: Sequence[CellRecord],
    lines: Sequence[ResultLine],
) -> MetricTable | None:
    """The table of the recorded cells; None without results.

    Args:
        protocol: one with headings.
        store: holds the results.
        grid: whose rows and datasets are shown.
        profile: of the cells.
        recorded: the cells.
        lines: their results.
    """
    columns = tuple(Column(heading.metric, heading.label, heading.group) for heading in protocol.headings)
    records = remarks.in_order(grid, recorded)
    suspicious = remarks.suspicions(remarks.results_of(store, records), records)
    shown = blocks(grid, lines, protocol.name, columns, suspicious, best=True)
    if not shown:
        return None
    notes = [
        *([protocol.note] if protocol.note else []),
        *remarks.caption_sentences(grid, recorded),
        f"Test images: {images_tested(shown)}.",
        seeds_note(shown) + " Best of the rows in bold.",
    ]
    brief = metric_caption("", profile, records, shown)
    name, data = f"{grid.name}_{protocol.name}", remarks.data_used(records)
    synthetic = remarks.datasets_with("synthetic", records)
    return MetricTable(
        name, title(protocol.title, grid), profile, protocol.name, columns, shown, brief, tuple(notes), data, synthetic
    )
