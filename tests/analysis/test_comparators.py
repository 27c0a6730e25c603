"""Numbers of other works in a block of their own: rows, footnotes, and tables without them."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from analysis.cells.published import COMPARATORS, comparators, footnotes, published_choice
from analysis.page.tables import metric_page_table, page_table
from analysis.report import write_report
from analysis.tables import metrics_text
from analysis.tables.accuracy import accuracy_table
from analysis.tables.latex import to_latex
from analysis.tables.metrics import Column, DatasetBlock, MetricRow, MetricTable, Number
from analysis.tables.text import COLUMNS, to_csv, to_text
from suite.errors import UsageError

from .stores import made_up_store
from .table_fixtures import GRID, PUBLISHED, RESULTS

OTHERS = comparators("finetune", ["cub", "cars"])
TABLE = accuracy_table(GRID, RESULTS, published=PUBLISHED, comparators=OTHERS)


def printed(renderable: object) -> str:
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text()


def test_the_rows_of_a_protocol_have_the_numbers_of_the_shown_datasets_and_share_footnotes() -> None:
    assert {row.protocol for row in OTHERS} == {"finetune"}
    by_label = {row.label: row.numbers for row in OTHERS}
    assert by_label["BYOL (ImageNet-1K) [a]"] == {"cars": 91.6}  # their Aircraft is not in this table
    assert by_label["SimCLR (ImageNet-1K) [a]"] == {"cars": 91.3}
    assert by_label["SimCLR (target training split only) [d]"] == {"cub": 67.46, "cars": 88.63}
    assert len(footnotes(OTHERS)) == 4
    assert footnotes(OTHERS)[0].startswith("[a] fine-tuning, 20,000 steps; arXiv:2006.07733, table 3")
    assert comparators("finetune", ["nabirds"]) == ()


def test_every_number_of_lcr_says_how_it_was_selected_and_where_it_starts() -> None:
    rows = [row for row in comparators("linear", ["cub"]) if "LCR" in row.source]
    assert {row.method: row.numbers["cub"] for row in rows} == {"LCR": 71.31, "MoCo.v2": 68.3}
    for text in footnotes(rows):
        assert "the best test epoch is kept" in text
        assert "starts from supervised ImageNet weights" in text


def test_the_accuracy_table_has_them_below_in_every_form_and_none_is_bold() -> None:
    latex, text, page = to_latex(TABLE), printed(to_text(TABLE)), page_table(TABLE)
    assert latex.index(COMPARATORS) > latex.index("Published (paper, ResNet-50)")
    row = next(row for row in latex.splitlines() if row.strip().startswith("{BYOL (ImageNet-1K) {[}a{]}}"))
    assert row.endswith(r"\multicolumn{3}{c}{--} & 91.60 &  &  \\")
    assert "table 3; Aircraft as mean per-class accuracy." in latex
    assert text.index(COMPARATORS) > text.index("58.51")
    assert "[a] fine-tuning, 20,000 steps" in " ".join(text.split())
    block = page.blocks[-1]
    assert (block.heading, block.is_secondary) == (COMPARATORS, True)
    assert [cell.text for cell in block.rows[0].cells] == ["\N{EN DASH}", "91.60"]
    assert not any(cell.is_best or cell.is_second or cell.delta for row in block.rows for cell in row.cells)
    assert any("[a] fine-tuning" in sentence for sentence in page.caption)


def test_a_table_of_one_dataset_shows_them_in_the_column_of_published_numbers() -> None:
    table = accuracy_table(GRID, RESULTS, published=PUBLISHED, datasets=["cub"], comparators=OTHERS)
    row = next(row for row in to_latex(table).splitlines() if "{MoCo (200 epochs) (ImageNet-1K)" in row)
    assert row.split("}} & ")[-1].startswith(r"\multicolumn{3}{c}{} & 75.60 &  &  & \multicolumn{3}{c}{}")


def test_csv_has_a_line_and_a_kind_for_each_of_their_numbers() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert [line["kind"] for line in lines[:6]] == ["measured"] * 6
    others = {(line["label"], line["dataset"]): line for line in lines[6:]}
    line = others["MoCo (200 epochs) (ImageNet-1K) [c]", "cub"]
    assert (line["kind"], line["published"], line["mean"], line["row"]) == ("comparator", "75.6", "", "")
    assert (line["protocol"], line["data"]) == ("fine-tuning", "ImageNet-1K")
    assert len(others) == sum(len(row.numbers) for row in OTHERS)
    assert tuple(csv.DictReader(io.StringIO(to_csv(accuracy_table(GRID, RESULTS)))).fieldnames or ()) == COLUMNS


def test_the_probes_table_has_them_in_the_column_of_their_protocol() -> None:
    numbers = (Number(60.0, None, 1, 10, is_best=True), Number(50.0, None, 1, 10, is_best=True))
    block = DatasetBlock("cub", (MetricRow("byol", "BYOL", numbers),))
    columns = (Column("knn", "kNN"), Column("linear", "Linear"))
    table = MetricTable(
        "t", "T", "small", "probe", columns, (block,), ("C.",), (), {}, (), comparators("linear", ["cub"])
    )
    row = next(row for row in metrics_text.to_latex(table).splitlines() if "{LCR (" in row)
    assert row.endswith(r"& \multicolumn{2}{c}{} & 71.3 &  \\")
    lines = list(csv.DictReader(io.StringIO(metrics_text.to_csv(table))))
    assert [(line["kind"], line["mean"]) for line in lines if line["label"].startswith("LCR")] == [
        ("comparator", "71.31")
    ]
    assert COMPARATORS in metrics_text.to_latex(table)
    page = metric_page_table(table)
    assert page.blocks[-1].heading == COMPARATORS
    cells = next(row.cells for row in page.blocks[-1].rows if row.label.startswith("LCR"))
    assert [cell.text for cell in cells] == ["\N{EN DASH}", "71.3"]
    assert "best test epoch" in " ".join(page.caption)
    assert "best test epoch" in " ".join(printed(metrics_text.to_text(table)).split())


def test_the_choice_reaches_the_report_and_leaves_out_what_it_says(
    tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    workspace = made_up_store(tmp_path / "runs", drawn, tiny_profile)
    texts = {}
    for choice in ("paper", "all", "none"):
        written = write_report(workspace, "paper_table1", None, tmp_path / choice, None, published_choice(choice))
        texts[choice] = {path.name: path.read_text() for path in written.files if path.suffix in {".tex", ".csv"}}
    name = "paper_table1.tex"
    assert ("Published (paper" in texts["paper"][name], COMPARATORS in texts["paper"][name]) == (True, False)
    assert ("Published (paper" in texts["all"][name], COMPARATORS in texts["all"][name]) == (True, True)
    assert ("Published" in texts["none"][name], "91.60" in texts["none"][name]) == (False, False)
    assert "LCR" in texts["all"]["paper_table1_probe.tex"]
    assert "LCR" not in texts["paper"]["paper_table1_probe.tex"]
    with pytest.raises(UsageError, match="'pape': did you mean 'paper'"):
        published_choice("pape")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-extra)")
def test_the_table_compiles(tmp_path: Path) -> None:
    (tmp_path / "toy.tex").write_text(to_latex(TABLE))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "toy.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "siunitx.sty' not found" in done.stdout:
        pytest.skip("siunitx is not installed (Debian: texlive-science)")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
