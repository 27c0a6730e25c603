"""Reference rows: frozen public checkpoints in a table, for orientation. They are marked, never best, never tested."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suite.grid.spec import Row

MEASURED, COMPARATOR, BASELINE = "measured", "comparator", "baseline"  # in the column `kind` of CSV files


def marked(row: Row) -> str:
    """The row's label; of a reference row with its mark, such as ``DINO ResNet-50 (reference)``."""
    if row.reference is None:
        return row.label
    return f"{row.label} (reference{', supervised' * (row.reference == 'supervised')})"


def kind(row: Row) -> str:
    """What the column `kind` of CSV files says: measured, reference, or reference supervised."""
    if row.reference is None:
        return MEASURED
    return "reference" + " supervised" * (row.reference == "supervised")


def compared(rows: Iterable[Row]) -> list[str]:
    """Names of the rows that are ranked and tested: all but reference rows."""
    return [row.name for row in rows if row.reference is None]


def reference_note(rows: Iterable[Row]) -> list[str]:
    """A sentence for the setup on the reference rows; none where there are none."""
    references = [row for row in rows if row.reference is not None]
    if not references:
        return []
    supervised = [row.label for row in references if row.reference == "supervised"]
    with_labels = f"; {', '.join(supervised)} was pretrained with labels" if supervised else ""
    return [
        f"Reference rows, which are frozen public checkpoints that were not trained here and are neither ranked nor "
        f"tested: {', '.join(row.label for row in references)}{with_labels}"
    ]
