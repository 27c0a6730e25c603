"""The accuracy table of a grid from its recorded cells, with everything its notes have to say."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import remarks as say
from analysis.cells.drift import refuse_mixed_seeds
from analysis.cells.published import printed_deltas, published_numbers
from analysis.tables.accuracy import Table, accuracy_table
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store


def grid_table(
    store: Store, grid: GridSpec, profile: str, recorded: Sequence[CellRecord], lines: Sequence[ResultLine]
) -> Table:
    """The table of the rows and datasets that were asked for; `lines` are the results of the `recorded` cells.

    Raises UsageError where the seeds of a cell differ in their settings, or results do not compare.
    """
    entries = say.in_order(grid, recorded)
    refuse_mixed_seeds(grid.name, entries)
    results = say.results_of(store, entries)
    suspicious, outdated = say.suspicions(results, entries), say.outdated(grid, profile, entries)
    rows, datasets = {entry.row for entry in entries}, {entry.dataset for entry in entries}
    drawn = say.datasets_with("synthetic", entries)
    return accuracy_table(
        grid,
        lines,
        rows=[row.name for row in grid.rows if row.name in rows],
        datasets=[name for name in grid.datasets if name in datasets],
        published={} if grid.published is None else published_numbers(grid.published),
        printed_deltas={} if grid.published is None else printed_deltas(grid.published),
        remarks=say.remarks(grid, profile, recorded),
        cell_remarks=say.joined(say.holes(store, results, entries), suspicious, outdated),
        suspicious=suspicious,
        oracle=say.oracles(entries),
        outdated=outdated,
        data=say.data_used(entries),
        partial=say.datasets_with("subset", entries) | drawn,
        drawn=drawn,
        profile=profile,
    )
