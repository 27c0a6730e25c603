"""Tables of several metrics per row in the form of the report page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.metric_table import Block, Line, MetricTable, Number
from analysis.metric_text import to_csv, to_latex
from analysis.page import PageCell, PageRow, PageTable
from analysis.page_tables import HOLE, place
from suite.data.catalogue import DATASETS


def metric_page_table(table: MetricTable) -> PageTable:
    """The table with a block for each dataset, and one below it for the baselines of that dataset."""
    spans = [columns for _, columns in table.groups]
    return PageTable(
        id=place("table", table.name),
        title=table.title,
        notes=table.notes,
        columns=[f"{column.group} {column.label}".strip() for column in table.columns],
        blocks=[part for block in table.blocks for part in _blocks(block, spans)],
        latex=to_latex(table),
        csv=to_csv(table),
    )


def _blocks(block: Block, spans: Sequence[int]) -> Iterable[tuple[str, list[PageRow]]]:
    label = DATASETS[block.dataset].label
    yield label, [_row(line, line.numbers) for line in block.lines]
    if block.baselines:
        # A baseline has one number for all columns of a group: it stands in each, so that columns can be compared.
        yield (
            f"{label}, without a network",
            [
                _row(line, [n for n, columns in zip(line.numbers, spans, strict=True) for _ in range(columns)])
                for line in block.baselines
            ],
        )


def _row(line: Line, numbers: Iterable[Number | None]) -> PageRow:
    return PageRow(line.label, [_cell(number) for number in numbers])


def _cell(number: Number | None) -> PageCell:
    if number is None:
        return HOLE
    spread = "" if number.std is None else f"{number.std:.1f}"
    text = f"{number.mean:.1f}".replace("-", "\N{MINUS SIGN}")
    return PageCell(text, sort=number.mean, spread=spread, is_best=number.is_best)
