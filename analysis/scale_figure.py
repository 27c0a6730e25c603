"""The figure of a sweep: accuracy over one recipe field, a line per series; the poster's ablation of the SS scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.figures import STYLE, save
from analysis.tables import Cell, Table
from suite.data.catalogue import DATASETS
from suite.grid.spec import GridSpec, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.3, 2.5  # inches: a panel is as wide as a column of a two-column page
# Okabe & Ito's colours, which do not need red and green told apart, and a marker each for print without colours.
_STYLES = (
    ("#56B4E9", "o"), ("#E69F00", "s"), ("#0072B2", "^"), ("#D55E00", "D"), ("#009E73", "v"), ("#CC79A7", "P"),
    ("#000000", "X"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the sweep. x is None for a row without the swept field, which is drawn as a horizontal line; cell is
    None for a hole, at which the line is broken: nothing is interpolated."""

    x: float | None
    cell: Cell | None


def series(
    grid: GridSpec, rows: Iterable[Row], cells: Mapping[tuple[str, str], Cell | None], dataset: str
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

    Measured and published points stand in panels of their own with their own y axes: a profile's numbers and the
    paper's share no protocol. Bars are the sample standard deviation over seeds, where there are several.
    """
    files: list[Path] = []
    for dataset in table.datasets:
        measured = series(grid, table.rows, table.cells, dataset)
        if measured:
            published = series(grid, grid.rows, table.published, dataset)
            place = stem if len(table.datasets) == 1 else stem.with_name(f"{stem.name}_{dataset}")
            files += save(_figure(grid, table, dataset, measured, published), place)
    return files


def _figure(
    grid: GridSpec,
    table: Table,
    dataset: str,
    measured: Mapping[str, Sequence[Point]],
    published: Mapping[str, Sequence[Point]],
) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.series or row.label for row in grid.rows))
    styles = {name: _STYLES[place % len(_STYLES)] for place, name in enumerate(names)}
    panels = [("Measured" + (f", profile {table.profile}" if table.profile else ""), measured, 1.0)]
    if published:
        panels.append(("Published, another protocol", published, 0.6))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * len(panels), HEIGHT + 0.45), layout="constrained")
        for axes, (title, lines, alpha) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for name, points in lines.items():
                _line(axes, points, styles[name], alpha, name)
            ticks = sorted({point.x for points in lines.values() for point in points if point.x is not None})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.grid(visible=True, axis="y", linewidth=0.3, alpha=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(y=0.12)
            axes.set_title(title, size=8)
            axes.set_xlabel("scale s of Saliency Swap" if grid.sweep == "views.scale" else str(grid.sweep))
            axes.set_ylabel(f"top-1 on {DATASETS[dataset].label} (%)")
        fullest = max(figure.axes, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
        handles, labels = fullest.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=min(3 * len(panels), len(labels)), frameon=False
        )
        figure.supxlabel(_note(table, dataset, measured), size=6)
    return figure


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


def _note(table: Table, dataset: str, lines: Mapping[str, Sequence[Point]]) -> str:
    counts = sorted({point.cell.seeds or 0 for points in lines.values() for point in points if point.cell is not None})
    text = "one seed" if counts == [1] else f"{'-'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"
    bars = "" if counts == [1] else "; bars: standard deviation over seeds"
    return f"{table.data.get(dataset, '')}; {text}{bars}".lstrip("; ")
