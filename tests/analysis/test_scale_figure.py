"""The sweep's figure: which points, where, and what is left open."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

import analysis.scale_figure as module
from analysis.results import ResultLine
from analysis.scale_figure import scale_figure, series
from analysis.tables import Table, accuracy_table
from suite.grid.spec import load_grid, published_numbers

GRID = load_grid("ss_scale")


def line(row: str, seed: int, value: float) -> ResultLine:
    return ResultLine(
        GRID.name, row, "m", "cub", "none", "yes", "small", "finetune", seed, "top1", value, 528, f"{row}-{seed}"
    )


def table(lines: list[ResultLine]) -> Table:
    return accuracy_table(GRID, lines, published=published_numbers("ss_scale"), data={"cub": "CUB subset: 600/5994"})


def measured(hole: str = "byol_ss_0.4") -> Table:
    values = {row.name: 30 + place for place, row in enumerate(GRID.rows)}
    return table([line(row, seed, value + seed) for row, value in values.items() if row != hole for seed in (0, 1, 2)])


def test_points_in_the_order_of_the_grid_with_a_hole_where_there_is_no_number() -> None:
    found = series(GRID, GRID.rows, measured().cells, "cub")
    assert list(found) == ["MoCo.v2+RRC", "BYOL+RRC", "MoCo.v2+SS", "BYOL+SS", "BYOL+SS+Align"]
    assert [point.x for point in found["BYOL+SS"]] == [0.08, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert [point.cell is None for point in found["BYOL+SS"]] == [False] * 3 + [True] + [False] * 4
    assert found["BYOL+RRC"][0].x is None


def test_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(module, "save", lambda figure, stem: drawn.extend(figure.axes) or [stem])
    scale_figure(GRID, measured(), tmp_path / "figure")
    ours, theirs = drawn
    assert ours.get_title() == "Measured, profile small"
    assert theirs.get_title() == "Published, another protocol"
    bars = [c for c in ours.containers if isinstance(c, ErrorbarContainer)]
    assert [c.get_label() for c in bars] == ["MoCo.v2+SS", "BYOL+SS", "BYOL+SS+Align"]
    heights = np.asarray(bars[1][0].get_ydata(), dtype=float)
    assert math.isnan(heights[3])  # the hole breaks the line
    expected = [30 + place + 1 for place, row in enumerate(GRID.rows) if row.series == "BYOL+SS"]
    assert [h for h in heights if not math.isnan(h)] == [e for k, e in enumerate(expected) if k != 3]
    low, high = bars[0][2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(1.0)  # the deviation of 0, 1, 2
    dashed = [one for one in ours.get_lines() if one.get_linestyle() == "--"]
    assert sorted(float(np.asarray(one.get_ydata())[0]) for one in dashed) == [31, 32]
    best = max(float(np.nanmax(c[0].get_ydata())) for c in theirs.containers if isinstance(c, ErrorbarContainer))
    assert best == 65.09


def test_files_and_one_seed(tmp_path: Path) -> None:
    one = table([line("byol", 0, 40.0), line("byol_ss_0.2", 0, 41.0)])
    assert [path.name for path in scale_figure(GRID, one, tmp_path / "figure")] == ["figure.pdf", "figure.png"]
    assert b"/Type3" not in (tmp_path / "figure.pdf").read_bytes()


def test_without_a_number_there_is_no_figure(tmp_path: Path) -> None:
    assert scale_figure(GRID, table([]), tmp_path / "figure") == []
