"""The sweep's figure: which points, where, and what is left open."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

import analysis.figures.sweep as module
from analysis.cells.published import published_numbers
from analysis.figures.sweep import scale_figure, series
from analysis.report import write_report
from analysis.tables.accuracy import Table, accuracy_table
from analysis.tables.metrics import MetricTable
from analysis.tables.metrics_text import to_csv, to_latex
from analysis.tables.sweep import sweep_table
from suite.grid.cells import Selection
from suite.grid.spec import load_grid
from suite.store.cells import ResultLine, result_lines
from suite.store.ledger import read_cells
from suite.store.store import Store
from suite.workspace import Workspace

from .made_store import fill

GRID = load_grid("ss_scale")
SHARES = load_grid("label_fractions")


def line(row: str, seed: int, value: float, profile: str = "small") -> ResultLine:
    return ResultLine(
        GRID.name, row, "m", "cub", "none", "yes", profile, "finetune", seed, "top1", value, 528, f"{row}-{seed}"
    )


def table(lines: list[ResultLine]) -> Table:
    return accuracy_table(GRID, lines, published=published_numbers("ss_scale"), data={"cub": "CUB subset: 600/5994"})


def measured(missing: str = "byol_ss_0.4", profile: str = "small") -> Table:
    """Made-up numbers."""
    values = {row.name: 30 + place for place, row in enumerate(GRID.rows) if row.name != missing}
    return table([line(row, seed, value + seed, profile) for row, value in values.items() for seed in (0, 1, 2)])


def drawn_axes(shown: Table, monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """The axes of the figure that would be saved."""
    drawn: list[Axes] = []
    monkeypatch.setattr(module, "save", lambda figure, stem: drawn.extend(figure.axes) or [stem])
    scale_figure(GRID, shown, Path("figure"))
    return drawn


def bars_of(axes: Axes) -> list[ErrorbarContainer]:
    return [one for one in axes.containers if isinstance(one, ErrorbarContainer)]


def test_points_in_the_order_of_the_grid_with_a_hole_where_there_is_no_number() -> None:
    found = series(GRID, GRID.rows, measured().cells, "cub")
    assert list(found) == ["MoCo.v2+RRC", "BYOL+RRC", "MoCo.v2+SS", "BYOL+SS", "BYOL+SS+Align"]
    assert [point.x for point in found["BYOL+SS"]] == [0.08, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert [point.cell is None for point in found["BYOL+SS"]] == [False] * 3 + [True] + [False] * 4
    assert found["BYOL+RRC"][0].x is None


def test_measured_points_with_their_spread_and_a_missing_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = drawn_axes(measured(), monkeypatch)
    bars = bars_of(ours)
    assert [c.get_label() for c in bars] == ["MoCo.v2+SS", "BYOL+SS", "BYOL+SS+Align"]
    assert list(np.asarray(bars[1][0].get_xdata(), dtype=float)) == [0.08, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    heights = np.asarray(bars[1][0].get_ydata(), dtype=float)
    assert math.isnan(heights[3])  # the missing cell breaks the line
    expected = [30 + place + 1 for place, row in enumerate(GRID.rows) if row.series == "BYOL+SS"]
    assert [h for h in heights if not math.isnan(h)] == [e for k, e in enumerate(expected) if k != 3]
    low, high = bars[0][2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(1.0)  # the deviation of 0, 1, 2
    dashed = [one for one in ours.get_lines() if one.get_linestyle() == "--"]
    assert sorted(float(np.asarray(one.get_ydata())[0]) for one in dashed) == [31, 32]
    assert " ".join(tick.get_text() for tick in ours.get_xticklabels()) == "0.08 0.2 0.3 0.4 0.5 0.6 0.7 0.8"
    assert "another protocol" in " ".join(text.get_text() for text in ours.figure.legends[0].texts)
    assert theirs.get_ylabel().startswith("published")


def test_published_points_are_pale_and_have_an_axis_of_their_own_where_levels_do_not_compare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = drawn_axes(measured(), monkeypatch)
    pale = bars_of(theirs)
    assert max(float(np.nanmax(c[0].get_ydata())) for c in pale) == 65.09
    assert {c[0].get_alpha() for c in pale} == {module.PALE}
    spans = [high - low for low, high in (ours.get_ylim(), theirs.get_ylim())]
    assert spans[0] == pytest.approx(spans[1])  # a point has the same length on both axes
    (same,) = drawn_axes(measured(profile="paper"), monkeypatch)
    assert len(bars_of(same)) == 6  # ours and theirs, on one axis


def test_files_and_one_seed(tmp_path: Path) -> None:
    one = table([line("byol", 0, 40.0), line("byol_ss_0.2", 0, 41.0)])
    assert [path.name for path in scale_figure(GRID, one, tmp_path / "figure")] == ["figure.pdf", "figure.png"]
    assert b"/Type3" not in (tmp_path / "figure.pdf").read_bytes()


def test_without_a_number_there_is_no_figure(tmp_path: Path) -> None:
    assert scale_figure(GRID, table([]), tmp_path / "figure") == []


def swept(root: Path, grid: str, selection: Selection) -> MetricTable:
    """The table of made-up numbers."""
    fill(root, grid, selection, suspicious={"byol_0.15/cub/0": "collapsed"})
    recorded, store = read_cells(root, grid), Store(root)
    shown = sweep_table(store, load_grid(grid), "small", recorded, result_lines(store, recorded))
    assert shown is not None
    return shown


def test_label_fractions_are_a_table_of_methods_by_shares(tmp_path: Path) -> None:
    shown = swept(tmp_path, "label_fractions", Selection(("cub",), ("random", "byol"), seeds=(0,)))
    assert [column.label for column in shown.columns] == ["15 %", "30 %", "50 %", "100 %"]
    (block,) = shown.blocks
    assert [row.label for row in block.rows] == ["Random init", "BYOL\N{DAGGER}"]
    assert not block.baselines
    values = {line.row: line.value for line in result_lines(Store(tmp_path), read_cells(tmp_path))}
    expected = [values[f"byol_{share}"] for share in ("0.15", "0.3", "0.5", "1")]
    assert [number and number.mean for number in block.rows[1].numbers] == expected
    for column in zip(*(row.numbers for row in block.rows), strict=True):
        assert [number is not None and number.is_best for number in column].count(True) == 1
    text = " ".join(shown.notes)
    assert "a smaller share is part of a larger one" in text
    assert "a point of the row is suspicious" in text
    assert not any(column.group for column in shown.columns)
    assert "15 \\%" in to_latex(shown)
    assert "byol_0.15" not in to_csv(shown)


def test_figures_on_the_page_name_their_dataset(tmp_path: Path) -> None:
    fill(tmp_path, "label_fractions", Selection(("cub", "cars"), ("random", "byol"), seeds=(0,)))
    section = write_report(Workspace(tmp_path, tmp_path), "label_fractions", None, tmp_path / "out", None).section
    assert [(figure.title, figure.name) for figure in section.figures] == [
        (f"Top-1 by share of the training labels, {label}", f"label_fractions_figure_{name}")
        for name, label in (("cub", "CUB"), ("cars", "Cars"))
    ]
    assert all(kind in {"PDF", "PNG"} for figure in section.figures for kind, _, _ in figure.downloads)


def test_rows_without_the_swept_field_stand_below_with_one_number(tmp_path: Path) -> None:
    shown = swept(tmp_path, "ss_scale", Selection(methods=("byol", "byol_ss"), seeds=(0,)))
    assert shown.groups == (("scale", 8),)
    (block,) = shown.blocks
    assert [row.label for row in block.rows] == ["BYOL+SS"]
    assert [(row.label, len(row.numbers)) for row in block.baselines] == [("BYOL+RRC", 1)]


def test_the_axis_of_label_fractions_is_in_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        ResultLine(
            *("label_fractions", row.name, "m", "cub", "none", "yes", "small", "finetune", 0, "top1"),
            40.0 + place, 528, row.name,
        )
        for place, row in enumerate(SHARES.rows)
    ]  # fmt: skip
    drawn: list[Axes] = []
    monkeypatch.setattr(module, "save", lambda figure, stem: drawn.extend(figure.axes) or [stem])
    shown = accuracy_table(SHARES, lines, data={"cub": "CUB"})
    scale_figure(SHARES, shown, Path("figure"))
    (axes,) = drawn
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["15 %", "30 %", "50 %", "100 %"]
    assert axes.get_xlabel() == "share of the training labels"
    assert [bar.get_label() for bar in bars_of(axes)] == ["Random init", "MoCo.v2", "BYOL", "BYOL+SS", "BYOL+CVSA"]
    assert SHARES.row("byol_0.15").label == "BYOL, 15 % of the labels"
