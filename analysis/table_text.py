"""A table as CSV, in full precision, and as text for the terminal."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from analysis.table_notes import row_name
from analysis.tables import PUBLISHED, Cell, Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

COLUMNS = (
    *("row", "label", "dataset", "mean", "std", "seeds", "n", "delta", "published", "published_delta"),
    *("profile", "protocol", "data"),
)


def to_csv(table: Table) -> str:
    """One line per cell, holes included, in full precision; an empty field is a number that does not exist."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table.rows:
        for dataset in table.datasets:
            cell, paper = table.cells[row.name, dataset], table.published.get((row.name, dataset))
            numbers = (cell.mean, cell.std, cell.seeds, cell.n, cell.delta) if cell else ("", "", 0, "", "")
            published = (paper.mean, paper.delta) if paper else ("", "")
            origin = (table.profile or "", table.protocol, table.data.get(dataset, ""))
            writer.writerow([row.name, row.label, dataset, *numbers, *published, *origin])
    return text.getvalue()


def to_text(table: Table) -> RichTable:
    """For a terminal: the same two blocks as in LaTeX, the notes below."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    view = RichTable(title=escape(table.title), caption=escape(" ".join(table.notes)), caption_justify="left")
    view.add_column("Method")
    for label in table.labels:
        view.add_column(label, justify="right")
    blank = [""] * len(table.datasets)
    for row in table.rows:
        cells = [_terminal(table.cells[row.name, dataset]) for dataset in table.datasets]
        view.add_row(escape(row_name(table, row)), *cells)
    if table.published:
        view.add_section()
        view.add_row(f"[italic]{PUBLISHED}[/]", *blank)
        for row in table.published_rows:
            cells = [_terminal(table.published.get((row.name, dataset))) for dataset in table.datasets]
            view.add_row(escape(row_name(table, row)), *cells)
    return view


def _terminal(cell: Cell | None) -> str:
    """A cell in rich's markup."""
    if cell is None:
        return "-"
    mean = f"[bold]{cell.mean:.2f}[/]" if cell.is_best else f"{cell.mean:.2f}"
    spread = "" if cell.std is None else f" ±{cell.std:.2f}"
    colour = "red" if cell.delta is not None and cell.delta < 0 else "green"
    delta = "" if cell.delta is None else f" [{colour}]({cell.delta:+.2f})[/]"
    return f"{mean}{'†' if cell.suspicious else ''}{spread}{delta}"
