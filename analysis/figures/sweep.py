"""The figure of a sweep: accuracy over one recipe field, a line per series; the poster's ablation of the SS scale."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.figures.style import STYLE, save
from analysis.tables.accuracy import AccuracyCell, Table
from analysis.tables.sweep import axis, tick
from suite.data.catalogue import DATASETS
from suite.grid.spec import GridSpec, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.5, 3.2  # inches: about a column of a two-column page
PALE = 0.35  # opacity of what was published
# Okabe & Ito's colours, which do not need red and green told apart, and a marker each for print without colours.
_STYLES = (
    ("#56B4E9", "o"), ("#E69F00", "s"), ("#0072B2", "^"), ("#D55E00", "D"), ("#009E73", "v"), ("#CC79A7", "P"),
    ("#000000", "X"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the sweep.

    x: None for a row without the swept field, shown as a horizontal line. cell: None without a result; the line is
    broken there, nothing is interpolated.
    """

    x: float | None
    cell: AccuracyCell | None


Lines = Mapping[str, Sequence[Point]]


def series(
    grid: GridSpec, rows: Iterable[Row], cells: Mapping[tuple[str, str], AccuracyCell | None], dataset: str
) -> dict[str, list[Point]]:
    """The points of each line in the order of the grid; lines without any number are left out."""
    lines: dict[str, list[Point]] = {}
    for row in rows:
        x = row.set.get(grid.sweep or "")
        point = Point(None if x is None else float(x), cells.get((row.name, dataset)))
        lines.setdefault(row.series or row.label, []).append(point)
    return {name: points for name, points in lines.items() if any(point.cell for point in points)}


def scale_figure(grid: GridSpec, table: Table, stem: Path) -> list[Path]:
    """Write stem.pdf and stem.png per dataset that has a number; returns their paths.

    Published points are shown pale, below the measured ones. They share the y axis only in the `paper` profile. With
    any other profile they have a right axis with the same length per point: differences are comparable, levels are
    not. Bars are the sample standard deviation over seeds, where there are several.
    """
    files: list[Path] = []
    for dataset in table.datasets:
        measured = series(grid, table.rows, table.cells, dataset)
        if measured:
            published = series(grid, grid.rows, table.published, dataset)
            place = stem if len(table.datasets) == 1 else stem.with_name(f"{stem.name}_{dataset}")
            files += save(_figure(grid, table, dataset, measured, published), place)
    return files


def _figure(grid: GridSpec, table: Table, dataset: str, measured: Lines, published: Lines) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(row.series or row.label for row in grid.rows))
    styles = {name: _STYLES[place % len(_STYLES)] for place, name in enumerate(names)}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        right = axes.twinx() if published and table.profile != "paper" else None
        for name, points in published.items():
            _line(right or axes, points, styles[name], PALE, "")
        for name, points in measured.items():
            _line(axes, points, styles[name], 1.0, name)
        if right is not None:
            axes.set_zorder(right.get_zorder() + 1)  # measured points lie above published ones
            axes.patch.set_visible(False)
            _same_length(axes, _extent(measured), right, _extent(published))
            right.set_ylabel(f"published: top-1 on {DATASETS[dataset].label} (%)", color="0.5")
            right.tick_params(colors="0.5")
        for one in (axes, right or axes):
            one.spines["top"].set_visible(False)
            one.spines["right"].set_visible(right is not None)
        ticks = sorted({p.x for lines in (measured, published) for ps in lines.values() for p in ps if p.x is not None})
        axes.set_xticks(ticks, [tick(str(grid.sweep), value) for value in ticks])
        axes.grid(visible=True, axis="y", linewidth=0.3, alpha=0.6)
        axes.set_xlabel(axis(str(grid.sweep)))
        axes.set_ylabel(f"top-1 on {table.labels[table.datasets.index(dataset)]} (%)")
        handles, labels = axes.get_legend_handles_labels()
        if published:
            handles.append(Line2D([], [], color="0.3", marker="o", markersize=3.5, linewidth=1.0, alpha=PALE))
            labels.append("published, another protocol")
        figure.legend(
            handles, labels, loc="outside upper center", ncols=3 if len(labels) in (3, 5) else 2, frameon=False
        )
        figure.supxlabel(textwrap.fill(_note(table, dataset, measured, right is not None), 68), size=6)
    return figure


def _extent(lines: Lines) -> tuple[float, float]:
    """Lowest and highest end of the error bars."""
    cells = [point.cell for points in lines.values() for point in points if point.cell is not None]
    return min(c.mean - (c.std or 0) for c in cells), max(c.mean + (c.std or 0) for c in cells)


def _same_length(left: Axes, ours: tuple[float, float], right: Axes, theirs: tuple[float, float]) -> None:
    """Give both axes the same span in percent points, each centred on its own numbers."""
    half = 0.58 * max(ours[1] - ours[0], theirs[1] - theirs[0], 0.5)
    for axes, (low, high) in ((left, ours), (right, theirs)):
        axes.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)


def _line(axes: Axes, points: Sequence[Point], style: tuple[str, str], alpha: float, name: str) -> None:
    colour, marker = style
    for cell in [point.cell for point in points if point.x is None and point.cell is not None]:
        axes.axhline(cell.mean, color=colour, linewidth=1.0, linestyle="--", alpha=alpha, label=name)
        if cell.std is not None:
            low, high = cell.mean - cell.std, cell.mean + cell.std
            axes.axhspan(low, high, color=colour, alpha=0.12 * alpha, linewidth=0)
    placed = [(point.x, point.cell) for point in points if point.x is not None]
    if placed:
        spread = [math.nan if cell is None or cell.std is None else cell.std for _, cell in placed]
        axes.errorbar(
            [x for x, _ in placed], [math.nan if cell is None else cell.mean for _, cell in placed],
            yerr=None if all(map(math.isnan, spread)) else spread, color=colour, marker=marker,
            markersize=3.5, linewidth=1.0, capsize=2, elinewidth=0.7, alpha=alpha, label=name,
        )  # fmt: skip


def _note(table: Table, dataset: str, lines: Lines, two_axes: bool) -> str:
    counts = sorted({point.cell.seeds or 0 for points in lines.values() for point in points if point.cell is not None})
    text = "one seed" if counts == [1] else f"{'-'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"
    profile = "" if table.profile in (None, "paper") else f"profile {table.profile}, not the paper's protocol; "
    bars = "" if counts == [1] else "; bars and bands: standard deviation over seeds"
    pale = (
        "; pale: as published, by another protocol; the right axis is shifted, a point has the same length on both"
        if two_axes
        else "; pale: as published, by another protocol"
        if table.published
        else ""
    )
    return f"{profile}{table.data.get(dataset, '')}; {text}{bars}{pale}".lstrip("; ")
