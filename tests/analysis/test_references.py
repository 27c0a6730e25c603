"""Reference rows in tables: marked, shown, and neither ranked nor tested."""

from __future__ import annotations

import csv
import io

from rich.console import Console

from analysis.cells.references import compared, marked, reference_note
from analysis.page.tables import page_table
from analysis.tables import metrics_text
from analysis.tables.accuracy import accuracy_table
from analysis.tables.latex import to_latex
from analysis.tables.metrics import Column, MetricTable, blocks
from analysis.tables.text import COLUMNS, to_csv, to_text
from suite.grid.spec import GridSpec, Row

from .table_fixtures import GRID, RESULTS, line

ROWS = (
    Row(name="labels", label="Teacher", method="labels", stage2=False, frozen=True, reference="supervised",
        stage1_checkpoint="teacher.pth"),
    Row(name="other", label="Other", method="other", stage2=False, frozen=True, reference="self-supervised",
        stage1_checkpoint="other.pth"),
)  # fmt: skip
WITH: GridSpec = GRID.model_copy(update={"rows": (*GRID.rows, *ROWS)})
NUMBERS = [*RESULTS, *(line("labels", "cub", seed, 99.0) for seed in (0, 1)), line("other", "cars", 0, 98.0)]
COLUMN = (Column("linear", "Linear"),)


def test_their_labels_say_what_they_are() -> None:
    assert [marked(row) for row in WITH.rows] == [
        "Random init", "BYOL", "A&B_50% #1 [x]", "Teacher (reference, supervised)", "Other (reference)",
    ]  # fmt: skip
    assert compared(WITH.rows) == ["random", "byol", "mine"]
    (note,) = reference_note(WITH.rows)
    assert note.endswith("neither ranked nor tested: Teacher, Other; Teacher was pretrained with labels")
    assert reference_note(GRID.rows) == []


def test_the_others_are_ranked_and_tested_as_without_them() -> None:
    plain, table = accuracy_table(GRID, RESULTS), accuracy_table(WITH, NUMBERS)
    assert table.comparisons == plain.comparisons
    for key, cell in plain.cells.items():
        assert table.cells[key] == cell
    best = table.cells["labels", "cub"]
    assert best is not None
    assert (best.mean, best.is_best, best.is_second, best.delta, best.change) == (99.0, False, False, None, "")


def test_every_form_of_the_accuracy_table_marks_them_and_none_is_bold() -> None:
    table = accuracy_table(WITH, NUMBERS)
    latex = next(text for text in to_latex(table).splitlines() if "{Teacher (reference, supervised)}" in text)
    assert "99.00" in latex
    assert "textbf" not in latex
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(to_text(table))
    assert "Teacher (reference, supervised)" in console.export_text()
    rows = {row.label: row.cells for row in page_table(table).blocks[0].rows}
    assert not any(cell.is_best or cell.delta for cell in rows["Other (reference)"])
    kinds = {row["row"]: row["kind"] for row in csv.DictReader(io.StringIO(to_csv(table)))}
    assert (kinds["byol"], kinds["labels"], kinds["other"]) == ("measured", "reference supervised", "reference")
    assert tuple(next(csv.reader(io.StringIO(to_csv(accuracy_table(GRID, RESULTS)))))) == COLUMNS


def test_tables_of_other_protocols_mark_them_and_the_best_is_one_of_the_others() -> None:
    values = {"random": 20.0, "byol": 40.0, "mine": 30.0, "labels": 90.0}
    lines = [line(row, "cub", 0, value, protocol="probe", metric="linear") for row, value in values.items()]
    (block,) = blocks(WITH, lines, "probe", COLUMN, best=True)
    bold = {row.label: bool(row.numbers[0] and row.numbers[0].is_best) for row in block.rows}
    assert bold == {
        "Random init": False, "BYOL": True, "A&B_50% #1 [x]": False, "Teacher (reference, supervised)": False,
    }  # fmt: skip
    table = MetricTable("t", "T", "small", "probe", COLUMN, (block,), ("C.",), (), {})
    kinds = {row["row"]: row["kind"] for row in csv.DictReader(io.StringIO(metrics_text.to_csv(table)))}
    assert (kinds["byol"], kinds["labels"]) == ("measured", "reference supervised")
    (plain,) = blocks(GRID, lines[:3], "probe", COLUMN, best=True)
    text = metrics_text.to_csv(MetricTable("t", "T", "small", "probe", COLUMN, (plain,), ("C.",), (), {}))
    assert tuple(next(csv.reader(io.StringIO(text)))) == metrics_text.COLUMNS
