"""The grid of the backbones that `suite evaluate` has measured in a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from suite.errors import UsageError
from suite.grid.evaluation import EVALUATION, TITLE, frozen_row
from suite.grid.spec import GridSpec, load_grid
from suite.plugin import with_plugins
from suite.store.cells import CellRecord
from suite.store.ledger import read_cells


def grid_of_store(root: Path, name: str) -> GridSpec:
    """A grid by its name or file, with the rows of plugins; for `evaluate`, the backbones measured in the store `root`.

    Raises:
        UsageError: no such grid, or no backbone was measured.
    """
    if name == EVALUATION:
        return evaluated_grid(read_cells(root, EVALUATION), str(root))
    return with_plugins(load_grid(name))


def evaluated_grid(records: Sequence[CellRecord], where: str) -> GridSpec:
    """Rows and datasets of the recorded cells, in the order in which they were first measured.

    Args:
        records: the cells of the grid `evaluate`.
        where: the store, for the message.

    Raises:
        UsageError: there are none.
    """
    if not records:
        raise UsageError(f"no backbone was evaluated in {where}. Evaluate one: suite evaluate resnet18 --dataset cub")
    rows = {record.row: {k: v for k, v in record.recipe["backbone"].items() if k != "code"} for record in records}
    return GridSpec(
        name=EVALUATION,
        title=TITLE,
        datasets=tuple(dict.fromkeys(record.dataset for record in records)),
        reference_row=records[0].row,
        rows=tuple(frozen_row(name, backbone) for name, backbone in rows.items()),
    )
