"""The figure of learning curves of two rows: a row of panels per measure, a column per dataset, a line per seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis.cells.learning import Panel
from analysis.figures.style import STYLE, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.tables.pair import Pair

WIDE, HIGH, LEGEND = 1.75, 1.35, 0.3  # inches: a panel, four of which fill a page's text width, and the legend
_LOOKS: tuple[tuple[str, Literal["-", "--"]], ...] = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
)  # Okabe & Ito; the dashes are for print without colours


def learning_figure(pair: Pair, panels: Sequence[Panel], stem: Path) -> list[Path]:
    """Write stem.pdf and stem.png; returns their paths, none without a panel."""
    return save(_figure(pair, panels), stem) if panels else []


def _figure(pair: Pair, panels: Sequence[Panel]) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    measures = list(dict.fromkeys(panel.measure for panel in panels))
    headings = list(dict.fromkeys(panel.heading for panel in panels))
    with mpl.rc_context(STYLE):
        size = (max(2, len(headings)) * WIDE, len(measures) * HIGH + LEGEND)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(measures), len(headings), squeeze=False)
        for axes in grid.ravel():
            axes.set_axis_off()
        for panel in panels:
            place = measures.index(panel.measure), headings.index(panel.heading)
            axes = grid[place]
            axes.set_axis_on()
            for line in panel.lines:
                colour, dashes = _LOOKS[line.row]
                marker = "o" if len(line.points) == 1 else ""
                axes.plot(*zip(*line.points, strict=True), dashes, color=colour, marker=marker, markersize=3, lw=0.9)
            axes.set_title(f"{panel.heading.replace(' (', chr(10) + '(')}\n{panel.measure}", size=6.5)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(visible=True, axis="y", linewidth=0.3, alpha=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            if place[0] == len(measures) - 1:
                axes.set_xlabel("epoch")
        looks = [Line2D([], [], color=colour, linestyle=dashes) for colour, dashes in _LOOKS]
        figure.legend(looks, (pair.first, pair.second), loc="outside upper center", ncols=2, frameon=False)
    return figure
