"""A table as CSV, in full precision, and as text for the terminal."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from analysis.cells.published import COMPARATORS
from analysis.cells.references import COMPARATOR, kind
from analysis.tables.accuracy import AccuracyCell, Table
from analysis.tables.notes import row_name

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table as RichTable

COLUMNS = (
    *("row", "label", "dataset", "mean", "std", "ci95_low", "ci95_high", "seeds", "n", "delta", "place", "marks"),
    *("published", "published_delta", "printed_delta", "minus_published", "profile", "protocol", "data", "remark"),
)
TEST_COLUMNS = ("row", "label", "datasets", "test", "seeds", "blocks", "difference", "p", "p_holm")
_MARKS = {"suspicious": "suspicious", "oracle": "oracle", "stale": "outdated"}  # field -> word in the CSV


def to_csv(table: Table) -> str:
    """One line per cell, cells without a result included, in full precision; an empty field means no number.

    With comparators or reference rows there is a further column, `kind`, and one line per number of a comparator.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    has_kinds = bool(table.comparators) or any(row.reference is not None for row in table.rows)
    writer.writerow([*COLUMNS, *["kind"] * has_kinds])
    minus = table.minus_published
    for row in table.rows:
        for dataset in table.datasets:
            key = row.name, dataset
            paper = table.published.get(key)
            published = (paper.mean, paper.delta, paper.printed_delta) if paper else ("", "", "")
            origin = (table.profile or "", table.protocol, table.data.get(dataset, ""), table.remarks.get(key, ""))
            numbers = _numbers(table.cells[key])
            writer.writerow(
                [
                    row.name,
                    row.label,
                    dataset,
                    *numbers,
                    *published,
                    minus.get(key, ""),
                    *origin,
                    *[kind(row)] * has_kinds,
                ]
            )
    for one in table.comparators:
        for dataset, number in one.numbers.items():
            origin = ("", one.setting, one.pretraining, one.footnote)
            writer.writerow(["", one.label, dataset, *_numbers(None), number, "", "", "", *origin, COMPARATOR])
    return text.getvalue()


def tests_csv(table: Table) -> str:
    """One line per comparison with the reference row; see `analysis.statistics.comparisons`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TEST_COLUMNS)
    labels = {row.name: row_name(table, row) for row in table.rows}
    for one in table.comparisons:
        where = " ".join(one.datasets)
        numbers = (one.seeds, one.blocks, one.difference, one.p, one.p_holm)
        writer.writerow([one.row, labels[one.row], where, one.test, *numbers])
    return text.getvalue()


def _numbers(cell: AccuracyCell | None) -> tuple[object, ...]:
    if cell is None:
        return "", "", "", "", 0, "", "", "", ""
    low, high = cell.interval or ("", "")
    place = "best" if cell.is_best else "second" if cell.is_second else ""
    marks = " ".join(word for field, word in _MARKS.items() if getattr(cell, field))
    return cell.mean, cell.std, low, high, cell.seeds, cell.n, cell.delta, place, marks


def to_text(table: Table) -> RichTable:
    """For a terminal: the same two blocks as in LaTeX, the caption below."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    caption = " ".join((*table.caption, *table.footnotes))
    view = RichTable(title=escape(table.title), caption=escape(caption), caption_justify="left")
    view.add_column("Method")
    for name, label in zip(table.datasets, table.labels, strict=True):
        view.add_column(f"{label}*" if name in table.partial else label, justify="right")
    blank = [""] * len(table.datasets)
    for row in table.rows:
        cells = [_terminal(table.cells[row.name, dataset]) for dataset in table.datasets]
        view.add_row(escape(row_name(table, row)), *cells)
    if table.published:
        view.add_section()
        view.add_row(f"[italic]{table.published_heading}[/]", *blank)
        for row in table.published_rows:
            cells = [_terminal(table.published.get((row.name, dataset))) for dataset in table.datasets]
            view.add_row(escape(row_name(table, row)), *cells)
    if table.comparators:
        view.add_section()
        view.add_row(f"[italic]{escape(COMPARATORS)}[/]", *blank)
        for one in table.comparators:
            shown = (f"{one.numbers[name]:.2f}" if name in one.numbers else "-" for name in table.datasets)
            view.add_row(escape(one.label), *shown)
    return view


def setup_text(table: Table) -> Panel:
    """For a terminal: the notes in a box, printed once per report of a grid."""
    from rich.box import HORIZONTALS
    from rich.markup import escape
    from rich.panel import Panel

    return Panel(escape("\n".join(table.notes)), title="Setup", title_align="left", box=HORIZONTALS)


def _terminal(cell: AccuracyCell | None) -> str:
    """A cell in rich's markup."""
    if cell is None:
        return "-"
    style = "bold" if cell.is_best else "underline" if cell.is_second else ""
    mean = f"[{style}]{cell.mean:.2f}[/]" if style else f"{cell.mean:.2f}"
    spread = "" if cell.std is None else f" ±{cell.std:.2f}"
    delta = "" if cell.delta is None else f" ({cell.delta:+.2f})"
    if cell.change:
        delta = f"[{'red' if cell.change == 'loss' else 'green'}]{delta}[/]"
    if cell.is_reference:
        delta = " -"
    delta += "¶" if cell.misprinted else ""
    return f"{mean}{cell.marks}{spread}{delta}"
