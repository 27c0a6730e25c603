"""The critical-difference figure: mean ranks of the rows over datasets; a bar joins rows that cannot be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.cells.references import compared
from analysis.figures.style import STYLE, save
from analysis.statistics.comparisons import LEVEL
from analysis.statistics.ranks import MIN_DATASETS, MIN_ROWS, friedman_test, mean_ranks, nemenyi_test
from analysis.tables.accuracy import Table
from analysis.tables.notes import row_label
from suite.grid.spec import GridSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

WIDTH, HEIGHT, LINE = 5.0, 0.7, 0.16  # inches: the figure; the axis with bars; one row, of which two share a line


@dataclass(frozen=True, slots=True)
class RankFigure:
    """The files, with the note for the caption; or none, with the reason."""

    files: tuple[Path, ...]
    text: str


def critical_difference_figure(grid: GridSpec, table: Table, stem: Path) -> RankFigure:
    """Write stem.pdf and stem.png if there are enough rows and datasets.

    Ranks are of the means over seeds. Datasets with a number of at least three rows are used, and the rows that have
    a number on all of these; reference rows are not ranked.
    """
    what = "No critical-difference figure: "
    if grid.sweep is not None:
        return RankFigure((), f"{what}the rows of a sweep are points of curves, not methods.")
    names = compared(table.rows)
    counts = {data: sum(table.cells.get((row, data)) is not None for row in names) for data in table.datasets}
    wanted = min(MIN_ROWS, max(counts.values(), default=0))
    datasets = [data for data, count in counts.items() if count >= max(1, wanted)]
    rows = [row for row in names if datasets and all(table.cells.get((row, data)) is not None for data in datasets)]
    if len(rows) < MIN_ROWS or len(datasets) < MIN_DATASETS:
        return RankFigure(
            (),
            f"{what}it needs at least {MIN_ROWS} rows with a number on each of {MIN_DATASETS} datasets, because with "
            f"fewer no difference of ranks can be significant at 5 %. Here: {len(rows)} rows and {len(datasets)} "
            f"dataset{'s' * (len(datasets) != 1)}.",
        )
    if find_spec("scikit_posthocs") is None:
        return RankFigure((), f"{what}scikit-posthocs is not installed (pip install -e '.[ranks]').")
    labels = {row.name: row_label(row) for row in table.rows}
    accuracies = np.array(
        [[cell.mean for row in rows if (cell := table.cells[row, data]) is not None] for data in datasets]
    )
    p = friedman_test(accuracies)
    left_out = [labels[row] for row in names if row not in rows and any(table.cells.get((row, d)) for d in datasets)]
    text = (
        f"Mean ranks over {len(datasets)} datasets, 1 is best, of the means over seeds. A bar joins rows whose ranks "
        f"do not differ at {LEVEL:.0%} (Nemenyi's test, corrected for all pairs). Friedman's test over all rows: "
        f"p = {p:.3f}. {len(datasets)} datasets are few: only large and consistent differences can be found."
        + (f" Not ranked, without a number on some dataset: {', '.join(left_out)}." if left_out else "")
    )
    figure = _figure([labels[row] for row in rows], mean_ranks(accuracies), nemenyi_test(accuracies))
    return RankFigure(tuple(save(figure, stem)), text)


def _figure(labels: list[str], ranks: NDArray[np.float64], p: NDArray[np.float64]) -> Figure:
    import matplotlib as mpl
    import pandas as pd
    from matplotlib.figure import Figure
    from scikit_posthocs import critical_difference_diagram

    unique = [label if labels.count(label) == 1 else f"{label} [{place}]" for place, label in enumerate(labels, 1)]
    with mpl.rc_context(STYLE):
        lines = -(-len(labels) // 2)
        figure = Figure(figsize=(WIDTH, HEIGHT + LINE * lines * 1.6), layout="constrained")
        axes = figure.subplots()
        critical_difference_diagram(
            pd.Series(ranks, unique),
            pd.DataFrame(p, unique, unique),
            alpha=LEVEL,
            ax=axes,
            label_props={"size": 7},
            color_palette=["black"] * len(unique),
            marker_props={"s": 9},
            elbow_props={"linewidth": 0.6},
            crossbar_props={"color": "black", "linewidth": 1.8, "marker": "", "solid_capstyle": "butt"},
            label_fmt_left="{label} ({rank:.2f})",
            label_fmt_right="({rank:.2f}) {label}",
        )
        axes.tick_params(labelsize=7, width=0.5, length=2.5)
        axes.set_title("mean rank of top-1 over datasets, 1 is best", size=7)
    return figure
