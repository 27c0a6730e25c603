"""Tables in the form of the report page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from analysis.cells.published import COMPARATORS, Comparator
from analysis.page.model import PageBlock, PageCell, PageRow, PageTable
from analysis.statistics.intervals import wilson_interval
from analysis.tables import metrics_text as metric_text
from analysis.tables.accuracy import MINUS_PUBLISHED, AccuracyCell, Key, Table
from analysis.tables.latex import to_latex
from analysis.tables.metrics import MetricTable, Number
from analysis.tables.notes import row_name
from analysis.tables.text import to_csv
from suite.grid.spec import Row

MISSING = PageCell("\N{EN DASH}")


def page_table(table: Table, linked: Iterable[str] = ()) -> PageTable:
    """The table with its two blocks and what its buttons copy. Numbers link to the cells whose ids are in `linked`."""
    ids = set(linked)
    blocks = [PageBlock(f"Measured (profile {table.profile})" if table.profile else "Measured", _rows(table, ids))]
    if table.published:
        blocks.append(PageBlock(table.published_heading, _published(table), is_secondary=True))
    if table.minus_published:
        blocks.append(PageBlock(MINUS_PUBLISHED, _minus_published(table), is_secondary=True))
    if table.comparators:
        rows = [
            PageRow(one.label, [_published_number(one, name, 2) for name in table.datasets])
            for one in table.comparators
        ]
        blocks.append(PageBlock(COMPARATORS, rows, is_secondary=True))
    return PageTable(
        id=html_id("table", table.name, table.protocol),
        title=table.title,
        caption=(*table.caption, *table.footnotes),
        notes=table.notes,
        columns=[
            f"{label}*" if name in table.partial else label
            for name, label in zip(table.datasets, table.labels, strict=True)
        ],
        blocks=blocks if len(blocks) > 1 else [PageBlock("", blocks[0].rows)],
        latex=to_latex(table),
        csv=to_csv(table),
    )


def metric_page_table(table: MetricTable) -> PageTable:
    """A table of several metrics: per dataset a block of rows and a block of baselines. The number of a baseline
    stands in every column of its group."""
    blocks = []
    for block in table.blocks:
        rows = [PageRow(line.label, [_number(number) for number in line.numbers]) for line in block.rows]
        blocks.append(PageBlock(table.heading(block.dataset), rows))
        baselines = []
        for line in block.baselines:
            groups = zip(line.numbers, table.groups, strict=True)
            baselines.append(
                PageRow(line.label, [_number(number) for number, (_, columns) in groups for _ in range(columns)])
            )
        if baselines:
            blocks.append(PageBlock("", baselines, is_secondary=True))
        others = []
        for one in table.compared(block.dataset):
            cells = [
                _published_number(one, block.dataset, 1) if column.metric == one.protocol else MISSING
                for column in table.columns
            ]
            others.append(PageRow(one.label, cells))
        if others:
            blocks.append(PageBlock(COMPARATORS, others, is_secondary=True))
    return PageTable(
        id=html_id("table", table.name),
        title=table.title,
        caption=(*table.caption, *table.footnotes),
        notes=table.notes,
        columns=[f"{column.group}\n{column.label}" if column.group else column.label for column in table.columns],
        blocks=blocks,
        latex=metric_text.to_latex(table),
        csv=metric_text.to_csv(table),
    )


def _published_number(row: Comparator, dataset: str, decimals: int) -> PageCell:
    """Another work's number, without bold and without a difference."""
    if dataset not in row.numbers:
        return MISSING
    return PageCell(f"{row.numbers[dataset]:.{decimals}f}", sort=row.numbers[dataset])


def _number(number: Number | None) -> PageCell:
    if number is None:
        return MISSING
    spread = "" if number.std is None else f"{number.std:.1f}"
    text = f"{number.mean:.1f}".replace("-", "\N{MINUS SIGN}")
    return PageCell(text, sort=number.mean, spread=spread, is_best=number.is_best)


def html_id(*parts: str) -> str:
    """An HTML id: letters and digits of any script, dots, underscores and hyphens, no blanks."""
    return "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts)


def page_cell(cell: AccuracyCell | None, link: str = "") -> PageCell:
    """A number as the table prints it: two decimals, sorted by the unrounded mean."""
    if cell is None:
        return PageCell(MISSING.text, link=link)
    return PageCell(
        text=f"{cell.mean:.2f}",
        sort=cell.mean,
        spread="" if cell.std is None else f"{cell.std:.2f}",
        delta=MISSING.text if cell.is_reference else "" if cell.delta is None else f"{cell.delta:+.2f}",
        change=cell.change,
        hint=_hint(cell),
        delta_mark="\N{PILCROW SIGN}" if cell.misprinted else "",
        is_best=cell.is_best,
        is_second=cell.is_second,
        mark=cell.marks,
        link=link,
    )


def _hint(cell: AccuracyCell) -> str:
    """Intervals of a measured accuracy, for the tooltip."""
    if cell.n is None:
        return ""
    low, high = wilson_interval(cell.mean, cell.n)
    hint = f"{cell.n} test images: 95 % Wilson interval {low:.1f} to {high:.1f}"
    if cell.interval is not None:
        hint += f"; {cell.seeds} seeds: 95 % t interval {cell.interval[0]:.1f} to {cell.interval[1]:.1f}"
    return hint


def _rows(table: Table, linked: set[str]) -> list[PageRow]:
    def link(row: Row, dataset: str) -> str:
        wanted = html_id("cell", table.name, row.name, dataset)
        return wanted if wanted in linked else ""

    return [
        PageRow(
            row_name(table, row),
            [page_cell(table.cells[row.name, dataset], link(row, dataset)) for dataset in table.datasets],
        )
        for row in table.rows
    ]


def _published(table: Table) -> list[PageRow]:
    numbers: Mapping[Key, AccuracyCell] = table.published
    return [
        PageRow(row_name(table, row), [page_cell(numbers.get((row.name, dataset))) for dataset in table.datasets])
        for row in table.published_rows
    ]


def _minus_published(table: Table) -> list[PageRow]:
    def signed(value: float | None) -> PageCell:
        return MISSING if value is None else PageCell(f"{value:+.2f}".replace("-", "\N{MINUS SIGN}"), sort=value)

    minus = table.minus_published
    return [
        PageRow(row_name(table, row), [signed(minus.get((row.name, dataset))) for dataset in table.datasets])
        for row in table.published_rows
    ]
