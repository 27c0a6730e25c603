"""The table of a sweep: top-1 after fine-tuning, a row per series and a column per value of the swept field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from analysis.cells import remarks
from analysis.tables.captions import metric_caption
from analysis.tables.metrics import Column, MetricTable, blocks, images_tested, seeds_note
from suite.grid.spec import LABEL_FRACTION, GridSpec, Row
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

PROTOCOL = "finetune"

# Per swept field: its name on an axis, how a value is written, and what a reader of the numbers has to know.
_AXES: dict[str, tuple[str, Callable[[float], str], str]] = {
    "views.scale": ("scale s of Saliency Swap", "{:g}".format, ""),
    LABEL_FRACTION: (
        "share of the training labels",
        lambda share: f"{100 * share:g} %",
        "Each share is sampled per class by the seed; a smaller share is part of a larger one. Pretraining reads all "
        "training images, without labels. The epochs of fine-tuning are the same at every share, so a smaller share "
        "takes fewer steps.",
    ),
}


def axis(field: str) -> str:
    """Name of a swept field on an axis."""
    return _AXES[field][0] if field in _AXES else field


def tick(field: str, value: float) -> str:
    """A value of a swept field as text."""
    return _AXES[field][1](value) if field in _AXES else f"{value:g}"


def sweep_table(
    store: Store, grid: GridSpec, profile: str, recorded: Sequence[CellRecord], lines: Sequence[ResultLine]
) -> MetricTable | None:
    """The table of the recorded cells; None without a sweep or without results. `lines`: the results of the cells.

    A row without the swept field stands below the others, with one number for all columns.
    """
    if grid.sweep is None:
        return None
    field, records = grid.sweep, remarks.in_order(grid, recorded)
    rows = {row.name: row for row in grid.rows}
    values = sorted({float(row.set[field]) for row in grid.rows if field in row.set})
    baselines = {row.name: (row.label, [row.name]) for row in grid.rows if field not in row.set}
    group = field.rpartition(".")[2] if baselines else ""  # under which a baseline has its one number
    columns = tuple(Column(_metric(value), tick(field, value), group) for value in values)
    measured = [
        replace(line, row=_series(row), metric=_metric(row.set[field]) if field in row.set else line.row)
        for line in lines
        if line.grid == grid.name and line.protocol == PROTOCOL and (row := rows.get(line.row)) is not None
    ]
    suspicious = remarks.suspicions(remarks.results_of(store, records), records)
    marked = {(_series(rows[name]), dataset) for name, dataset in suspicious if name in rows}
    shown = blocks(_by_series(grid), measured, PROTOCOL, columns, marked, baselines, best=True)
    if not shown:
        return None
    about = f"Top-1 (%) after fine-tuning by {axis(field)}"
    notes = [
        f"{about}.",
        *([_AXES[field][2]] if field in _AXES and _AXES[field][2] else []),
        *remarks.caption_sentences(grid, recorded),
        f"Test images: {images_tested(shown)}.",
        *(["\N{DAGGER}: a point of the row is suspicious, at chance level or collapsed."] if marked else []),
        seeds_note(shown) + " Best of the rows in bold.",
    ]
    return MetricTable(
        f"{grid.name}_sweep",
        about,
        profile,
        PROTOCOL,
        columns,
        shown,
        metric_caption("", profile, records, shown),
        tuple(notes),
        remarks.data_used(records),
        remarks.datasets_with("synthetic", records),
    )


def _metric(value: float) -> str:
    return f"{value:g}"


def _series(row: Row) -> str:
    return row.series or row.label


def _by_series(grid: GridSpec) -> GridSpec:
    """The grid with one row per series, under the series' name."""
    names = dict.fromkeys(_series(row) for row in grid.rows if grid.sweep in row.set)
    rows = tuple(Row(name=name, label=name, method=name, stage2=False) for name in names)
    return grid.model_copy(update={"rows": rows})
