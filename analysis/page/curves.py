"""Training curves as small inline SVG: colours and type come from the page's style, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from analysis.page.model import CurveRow
from analysis.tables.accuracy import Table
from analysis.tables.notes import row_label
from suite.data.catalogue import DATASETS
from suite.store.cells import CellRecord
from suite.store.store import Store

if TYPE_CHECKING:
    from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 224, 116  # CSS pixels
LEFT, RIGHT, TOP, BOTTOM = 38, 6, 8, 18  # margins for labels
MOST_POINTS = 60  # per line; longer curves are thinned evenly

SHARED = 7  # colour of stages shared by the datasets

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: its name, the number of its colour in the legend, and (epoch, value) pairs."""

    name: str
    colour: int
    points: Sequence[Point]


def curve(name: str, colour: int, lines: Iterable[Mapping[str, float]], metric: str) -> Curve | None:
    """The curve of one metric in the lines of a metrics.jsonl, or None where no line has it."""
    points = [(float(line["epoch"]), float(line[metric])) for line in lines if metric in line and "epoch" in line]
    if not points:
        return None
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = points[::-step][::-1]  # from the end, so that the last epoch is always there
    return Curve(name, colour, kept)


def chart(title: str, curves: Sequence[Curve], *, low: float | None = None, high: float | None = None) -> Markup:
    """An SVG of the curves over the epochs. `low` and `high` fix the ends of the y axis; without them the values do.

    A line is broken where a value is not finite. The text for screen readers names the first and last value.
    """
    finite = [(x, y) for line in curves for x, y in line.points if math.isfinite(y)]
    if not finite:
        return Markup("")
    bottom = min(y for _, y in finite) if low is None else low
    top = max(y for _, y in finite) if high is None else high
    if top <= bottom:  # a flat line, placed in the middle
        margin = abs(top) * 0.05 or 0.5
        bottom, top = bottom - margin, top + margin
    last = max(x for x, _ in finite)
    ticks = tick_values(bottom, top)
    bottom, top = min([bottom, *ticks]), max([top, *ticks])

    def x_of(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((x - 1) / (last - 1) if last > 1 else 0.5)

    def y_of(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (top - y) / (top - bottom)

    parts = [_tick(tick, y_of(tick)) for tick in ticks]
    parts += [
        Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{:g}</text>').format(
            round(x_of(x), 1), HEIGHT - 5, anchor, x
        )
        for x, anchor in ([(1.0, "start"), (last, "end")] if last > 1 else [(last, "middle")])
    ]
    for line in curves:
        parts += [_polyline(line, [(x_of(x), y_of(y)) for x, y in piece]) for piece in _pieces(line.points)]
    frame = Markup(
        '<svg class="chart" role="img" aria-label="{text}" width="{w}" height="{h}" viewBox="0 0 {w} {h}">{parts}</svg>'
    )
    return frame.format(text=_spoken(title, curves, last), w=WIDTH, h=HEIGHT, parts=Markup("").join(parts))


def curve_rows(store: Store, table: Table, records: Sequence[CellRecord]) -> list[CurveRow]:
    """Curves per row of the grid: accuracy during fine-tuning, losses of the stages, spread of the embeddings.

    One colour per dataset, one line per seed. A first stage is shared by the datasets and has a colour of its own.
    """
    colours = {dataset: place for place, dataset in enumerate(table.datasets)}
    shown = []
    for row in table.rows:
        of_row = [record for record in records if record.row == row.name]
        panels = [
            ("Fine-tuning: training top-1 (%)", _curves(store, of_row, "finetune", "train_top1", colours), 0.0, 100.0),
            ("Stage 1: loss", _curves(store, of_row, "stage 1", "loss", None), None, None),
            ("Stage 2: loss", _curves(store, of_row, "stage 2", "loss", colours), None, None),
            ("Stage 2: std of embeddings", _curves(store, of_row, "stage 2", "embedding_std", colours), 0.0, None),
        ]
        charts = [
            (name, chart(f"{name} of {row_label(row)}", lines, low=low, high=high)) for name, lines, low, high in panels
        ]
        if any(svg for _, svg in charts):
            shown.append(CurveRow(row_label(row), [(name, svg) for name, svg in charts if svg]))
    return shown


def _curves(
    store: Store, records: Sequence[CellRecord], role: str, metric: str, colours: Mapping[str, int] | None
) -> list[Curve]:
    """One curve per distinct job in this role. colours: None for a first stage, which the datasets share."""
    curves: dict[str, Curve] = {}
    for record in records:
        key = record.roles.get(role)
        if key is None or key in curves:
            continue
        dataset = record.stage1 if colours is None else record.dataset
        if dataset not in record.data:  # a first stage out of a checkpoint has read no data here and has no curve
            continue
        colour = SHARED if colours is None else colours[dataset]
        label = DATASETS[dataset].heading(record.data[dataset].synthetic)
        line = curve(f"{label}, seed {record.seed}", colour, store.metrics(key), metric)
        if line is not None:
            curves[key] = line
    return list(curves.values())


@cache
def _locator() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3, steps=[1, 2, 5, 10], min_n_ticks=2)


def tick_values(low: float, high: float) -> list[float]:
    """Two to four round tick values that span low..high."""
    return [round(float(tick), 12) for tick in _locator().tick_values(low, high)]


def _tick(value: float, y: float) -> Markup:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
    text = Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:g}</text>').format(LEFT - 5, y + 3.3, value)
    return line + text


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    """Split the line at values that are not finite."""
    pieces: list[list[Point]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _polyline(line: Curve, piece: Sequence[Point]) -> Markup:
    tooltip = Markup("<title>{}</title>").format(line.name)
    if len(piece) == 1:
        x, y = piece[0]
        return Markup('<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="2">{}</circle>').format(
            line.colour, x, y, tooltip
        )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
    return Markup('<polyline class="line c{}" points="{}">{}</polyline>').format(line.colour, path, tooltip)


def _spoken(title: str, curves: Sequence[Curve], last: float) -> str:
    ends = [f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in curves[:8]]
    more = f", and {len(curves) - 8} more" if len(curves) > 8 else ""
    return f"{title} over {last:g} epochs: {'; '.join(ends)}{more}."
