"""Tables on their way to the page: every number, mark, block and link arrives."""

from __future__ import annotations

from analysis.page.tables import metric_page_table, page_table
from analysis.tables.accuracy import accuracy_table
from analysis.tables.latex import to_latex
from analysis.tables.metrics import Column, DatasetBlock, MetricRow, MetricTable, Number
from analysis.tables.table import PUBLISHED as PUBLISHED_HEADING
from analysis.tables.text import to_csv

from .table_fixtures import GRID, PUBLISHED, RESULTS


def test_a_table_of_accuracies() -> None:
    table = accuracy_table(GRID, RESULTS, published=PUBLISHED, suspicious=[("mine", "cub")], partial=["cub"])
    shown = page_table(table, linked=["cell-toy-mine-cub"])
    assert shown.columns == ["CUB*", "Cars"]
    assert (shown.latex, shown.csv, shown.notes) == (to_latex(table), to_csv(table), table.notes)
    assert shown.caption == table.caption
    measured, published = (block.rows for block in shown.blocks[:2])
    heading, below = (block.heading for block in shown.blocks[:2])
    assert (heading, below) == ("Measured (profile small)", PUBLISHED_HEADING)
    assert [row.label for row in measured] == ["Random init", "BYOL", "A&B_50% #1 [x]"]
    measured_cell, missing = measured[2].cells[0], measured[1].cells[1]
    assert (measured_cell.text, measured_cell.spread, measured_cell.delta, measured_cell.mark) == (
        "51.50",
        "0.70",
        "-0.00",
        "\N{DAGGER}",
    )
    assert abs((measured_cell.sort or 0) - 51.496) < 1e-9  # what it is sorted by is not rounded
    assert (measured_cell.link, measured[0].cells[0].link) == ("cell-toy-mine-cub", "")
    assert (missing.text, missing.sort) == ("\N{EN DASH}", None)
    best = [row.label for row in measured if row.cells[0].is_best]
    second = [row.label for row in measured if row.cells[0].is_second]
    assert (best, second) == (["BYOL"], ["A&B_50% #1 [x]"])  # 51.5 and 51.496
    assert [row.cells[0].text for row in published] == ["58.51", "64.85"]


def test_a_table_of_several_metrics() -> None:
    number = Number(71.25, 1.5, 3, 210, is_best=True)
    line = MetricRow("byol", "BYOL", (number, None, Number(-2.04, None, 1, 210)))
    columns = (Column("a", "Feat.", "Pointing"), Column("b", "CAM", "Pointing"), Column("c", "BG-gap"))
    block = DatasetBlock("cub", (line,), (MetricRow("centre", "Centre", (Number(50.0, None, 1, 210), None)),))
    shown = metric_page_table(
        MetricTable("toy_x", "T", "small", "x", columns, (block,), ("Briefly.",), ("A note.",), {})
    )
    assert shown.columns == ["Pointing\nFeat.", "Pointing\nCAM", "BG-gap"]
    assert [block.heading for block in shown.blocks] == ["CUB", ""]
    cells, centre = shown.blocks[0].rows[0].cells, shown.blocks[1].rows[0].cells
    assert [cell.text for cell in cells] == ["71.2", "\N{EN DASH}", "\N{MINUS SIGN}2.0"]
    assert (cells[0].spread, cells[0].is_best, cells[2].sort) == ("1.5", True, -2.04)
    assert [cell.text for cell in centre] == ["50.0", "50.0", "\N{EN DASH}"]  # one number for all of its group
    assert "71.25" in shown.csv
    assert "BYOL" in shown.latex
