"""What a table's caption has to say so that its numbers can be trusted: protocol, data, seeds, spread, holes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from suite.data.catalogue import DATASETS

if TYPE_CHECKING:
    from analysis.tables import Table
    from suite.grid.spec import Row


def with_notes(table: Table, remarks: Sequence[str]) -> Table:
    """The table with its notes: what limits the numbers comes first, what explains the notation last."""
    notes = [
        *_protocol(table),
        *remarks,
        *_images(table),
        *_seeds(table),
        *_deltas(table),
        *_marks(table),
        *_holes(table),
    ]
    return dataclasses.replace(table, notes=tuple(_sentence(note) for note in notes))


def row_name(table: Table, row: Row) -> str:
    """The row's label, with its stages where the table has two rows of one method that differ only in them."""
    return row_label(row) if table.shows_stage2 else row.label


def row_label(row: Row) -> str:
    """The row's label, and that it skips the second stage where it does."""
    skips = row.objective is not None and not row.stage2
    return f"{row.label} (no stage 2)" if skips else row.label


def _protocol(table: Table) -> Iterable[str]:
    if table.profile not in (None, "paper"):
        yield f"Profile {table.profile}: not the paper's protocol"
    if table.protocol != "finetune":
        yield f"Protocol {table.protocol}, not fine-tuning"
    if table.metric != "top1":
        yield f"Metric {table.metric}"


def _images(table: Table) -> Iterable[str]:
    counts = {key[1]: cell.n for key, cell in table.cells.items() if cell}
    if counts:
        parts = (f"{DATASETS[name].label} {counts[name]}" for name in table.datasets if name in counts)
        yield f"Test images: {', '.join(parts)}"


def _seeds(table: Table) -> Iterable[str]:
    counts = sorted({cell.seeds or 0 for cell in table.cells.values() if cell})
    if not counts:
        return
    if counts == [1]:
        yield "One seed, so no spread is given"
        return
    most = counts[-1]
    yield f"Mean over {most} seeds; \N{PLUS-MINUS SIGN} is the sample standard deviation over seeds"
    fewer = [
        f"{row_name(table, row)} on {DATASETS[name].label} ({cell.seeds})"
        for row in table.rows
        for name in table.datasets
        if (cell := table.cells[row.name, name]) and cell.seeds != most
    ]
    if fewer:
        yield f"Fewer seeds: {', '.join(fewer)}"


def _deltas(table: Table) -> Iterable[str]:
    cells = [*table.cells.values(), *table.published.values()]
    if any(cell and cell.delta is not None for cell in cells):
        yield f"In parentheses: difference to {table.reference}, from unrounded means; best in bold"
    if table.published and table.profile not in (None, "paper"):
        yield "The published numbers come from another protocol and are not comparable with those above them"


def _marks(table: Table) -> Iterable[str]:
    if any(cell and cell.suspicious for cell in table.cells.values()):
        yield "\N{DAGGER}: suspicious, at chance level or collapsed"


def _holes(table: Table) -> Iterable[str]:
    parts = []
    for row in table.rows:
        missing = [DATASETS[name].label for name in table.datasets if table.cells[row.name, name] is None]
        if missing:
            where = "" if len(missing) == len(table.datasets) else f" ({', '.join(missing)})"
            parts.append(row_name(table, row) + where)
    if not any(table.cells.values()):
        yield "No results yet"
    elif parts:
        yield f"No result yet: {', '.join(parts)}"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
