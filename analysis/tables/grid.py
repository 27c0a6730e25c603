"""The accuracy table of a grid, from its cell records and results, with its notes."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import remarks
from analysis.cells.published import Published, comparators, printed_deltas, published_numbers
from analysis.cells.stale import refuse_mixed_seeds
from analysis.tables.accuracy import Table, accuracy_table
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store


def grid_table(
    store: Store,
    grid: GridSpec,
    profile: str,
    recorded: Sequence[CellRecord],
    lines: Sequence[ResultLine],
    published: Published = "paper",
) -> Table:
    """The table of the rows and datasets that were run. `lines`: the results of the `recorded` cells.

    published: the paper's numbers beside the measured ones; "all" adds those of other works, "none" leaves out both.

    Raises UsageError where the seeds of one cell differ in their settings, or results are not comparable.
    """
    records = remarks.in_order(grid, recorded)
    refuse_mixed_seeds(grid.name, records)
    results = remarks.results_of(store, records)
    suspicious, stale = remarks.suspicions(results, records), remarks.stale_cells(grid, profile, records)
    rows, datasets = {record.row for record in records}, {record.dataset for record in records}
    synthetic = remarks.datasets_with("synthetic", records)
    protocol = "finetune" if not records or any("finetune" in record.measured for record in records) else "linear"
    paper = None if published == "none" else grid.published
    return accuracy_table(
        grid,
        lines,
        rows=[row.name for row in grid.rows if row.name in rows and not (row.frozen and protocol == "finetune")],
        datasets=[name for name in grid.datasets if name in datasets],
        published={} if paper is None else published_numbers(paper),
        printed_deltas={} if paper is None else printed_deltas(paper),
        comparators=comparators(protocol, datasets) if published == "all" else (),
        caption_notes=remarks.caption_notes(grid, recorded),
        cell_remarks=remarks.join_remarks(remarks.missing_cells(store, results, records), suspicious, stale),
        suspicious=suspicious,
        oracle=remarks.oracles(records),
        stale=stale,
        data=remarks.data_used(records),
        partial=remarks.datasets_with("subset", records) | synthetic,
        synthetic=synthetic,
        profile=profile,
        protocol=protocol,
    )
