"""A forest plot: the difference of two rows on every dataset, with its 95 % interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.figures.style import STYLE, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.tables.pair import Pair

WIDTH, LINE, REST = 4.2, 0.28, 0.75  # inches: the figure, one dataset, and axis with title


def forest_figure(pair: Pair, stem: Path) -> list[Path]:
    """Write stem.pdf and stem.png; returns their paths. A hollow marker: the interval knows the test images only."""
    return save(_figure(pair), stem)


def _figure(pair: Pair) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, REST + LINE * len(pair.datasets)), layout="constrained")
        axes = figure.subplots()
        for place, part in enumerate(pair.datasets):
            colour = "black" if part.told_apart else "0.5"
            axes.plot(part.interval, (place, place), color=colour, linewidth=1.2, solid_capstyle="butt")
            face = colour if part.over_seeds else "white"
            axes.plot(part.difference, place, "o", color=colour, markerfacecolor=face, markersize=4)
        axes.axvline(0, color="black", linewidth=0.5, linestyle=(0, (4, 3)))
        counts = [f"{len(part.seeds)} seed{'s' * (len(part.seeds) > 1)}" for part in pair.datasets]
        names = [f"{part.heading}, {count}" for part, count in zip(pair.datasets, counts, strict=True)]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{pair.second} - {pair.first}: points of {pair.protocol} top-1, 95 % interval")
    return figure
