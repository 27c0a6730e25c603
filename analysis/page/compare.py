"""The section "Compare" of the report page: the numbers, words and pictures of `suite compare`, for every two rows.

Everything is computed here, by the functions of the command. The page only chooses what it shows.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from itertools import combinations

from markupsafe import Markup

from analysis.cells.learning import LearningCurves, Panel
from analysis.page.curves import Curve, chart, tick_values
from analysis.page.model import RowComparison
from analysis.page.tables import html_id
from analysis.tables.notes import row_label
from analysis.tables.pair import Pair, pair_of, top1_values
from suite.grid.spec import GridSpec, Row
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

WIDTH, LINE, BELOW, SIDE = 340, 36, 34, 12  # CSS pixels of the forest plot: width, one dataset, the axis, margins
MOST_POINTS = 30  # per learning curve


def comparisons(
    store: Store, grid: GridSpec, profile: str, records: Sequence[CellRecord], lines: Iterable[ResultLine]
) -> list[RowComparison]:
    """Every two rows with a common seed, in the order of the grid. Reference rows are not compared.

    In a sweep, rows at different values of the swept field are left out: that is what its figure shows.
    """
    values, counts = top1_values(lines)
    learning = LearningCurves(store, records)
    rows = [row for row in grid.rows if row.reference is None]
    shown = []
    for first, second in combinations(rows, 2):
        if not _same_value(grid, first, second):
            continue
        of_pair = [record for record in records if record.row in (first.name, second.name)]
        pair = pair_of(grid.name, profile, (first.name, second.name), of_pair, values, counts)
        if pair is not None:
            shown.append(_comparison(pair, (row_label(first), row_label(second)), learning.panels(pair)))
    return shown


def _same_value(grid: GridSpec, first: Row, second: Row) -> bool:
    swept = {row.set.get(grid.sweep or "") for row in (first, second)} - {None}
    return len(swept) < 2


def _comparison(pair: Pair, labels: tuple[str, str], panels: Sequence[Panel]) -> RowComparison:
    names = ("--grid", pair.grid, "--profile", pair.profile)
    return RowComparison(
        id=html_id("compare", pair.grid, pair.first, pair.second),
        rows=(pair.first, pair.second),
        labels=labels,
        protocol=pair.protocol,
        sentences=pair.sentences(),
        numbers=[
            (
                part.heading, str(len(part.seeds)), f"{part.first:.2f}", f"{part.second:.2f}",
                f"{part.difference:+.2f}", "{:+.2f} to {:+.2f}".format(*part.interval),
            )
            for part in pair.datasets
        ],
        forest=forest(pair),
        curves=[(f"{panel.measure}, {panel.heading}", _curves(panel, pair)) for panel in panels],
        command=shlex.join(("suite", "compare", pair.first, pair.second, *names)),
    )  # fmt: skip


def _curves(panel: Panel, pair: Pair) -> Markup:
    names = (pair.first, pair.second)
    lines = []
    for line in panel.lines:
        step = math.ceil(len(line.points) / MOST_POINTS)
        lines.append(Curve(f"{names[line.row]}, seed {line.seed}", line.row, line.points[::-step][::-1]))
    return chart(f"{panel.measure} on {panel.heading}", lines)


def forest(pair: Pair) -> Markup:
    """The forest plot of `suite compare` as inline SVG: grey where the interval holds 0, hollow where it knows the test
    images only."""
    ends = [end for part in pair.datasets for end in (*part.interval, 0.0)]
    ticks = tick_values(min(ends), max(ends))
    low, high = min(ticks), max(ticks)

    def x_of(points: float) -> float:
        return round(SIDE + (WIDTH - 2 * SIDE) * (points - low) / (high - low), 1)

    bottom = LINE * len(pair.datasets) + 4
    parts = []
    for tick in ticks:
        name = "zero" if tick == 0 else "grid"
        parts.append(
            Markup(
                '<line class="{}" x1="{x}" x2="{x}" y1="2" y2="{}"/><text class="tick" x="{x}" y="{}" '
                'text-anchor="middle">{:g}</text>'
            ).format(name, bottom, bottom + 12, tick, x=x_of(tick))
        )
    for number, part in enumerate(pair.datasets):
        y = LINE * number + 26
        seeds = f"{len(part.seeds)} seed{'s' * (len(part.seeds) > 1)}"
        kind = ("apart" if part.told_apart else "open") + ("" if part.over_seeds else " hollow")
        parts.append(
            Markup(
                '<text class="name-of" x="{}" y="{}">{}, {}</text><line class="{kind}" x1="{}" x2="{}" y1="{y}" '
                'y2="{y}"/><circle class="{kind}" cx="{}" cy="{y}" r="3.5"/>'
            ).format(SIDE, y - 9, part.heading, seeds, *map(x_of, part.interval), x_of(part.difference), kind=kind, y=y)
        )
    words = "; ".join(
        f"{part.heading} {part.difference:+.2f}, {part.interval[0]:+.2f} to {part.interval[1]:+.2f}"
        for part in pair.datasets
    )
    title = f"{pair.second} - {pair.first}, points of {pair.protocol} top-1, 95 % interval"
    parts.append(
        Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(WIDTH / 2, bottom + 27, title)
    )
    return Markup(
        '<svg class="chart forest" role="img" aria-label="{}: {}." width="{w}" height="{h}" viewBox="0 0 {w} {h}">'
        "{}</svg>"
    ).format(title, words, Markup("").join(parts), w=WIDTH, h=bottom + BELOW)
