"""Tables of several metrics per row: datasets one below the other, metrics side by side, baselines below the rows.

Pure and light, as `analysis.tables.accuracy` is; printed by `analysis.tables.metrics_text`.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from suite.data.catalogue import DATASETS
from suite.errors import UsageError
from suite.grid.spec import GridSpec
from suite.store.cells import ResultLine


@dataclass(frozen=True, slots=True)
class Column:
    """One metric as printed."""

    metric: str  # as in results.csv
    label: str
    group: str = ""  # heading shared with its neighbours; a baseline has one number for all of a group


@dataclass(frozen=True, slots=True)
class Number:
    """A metric's mean over seeds, unrounded."""

    mean: float
    std: float | None  # sample standard deviation over seeds (ddof = 1); None with one seed
    seeds: int
    n: int  # test images
    is_best: bool = False  # the highest mean of its column and dataset; never where the column holds one number only


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the grid or a baseline, on one dataset."""

    name: str
    label: str
    numbers: tuple[Number | None, ...]  # one per column; of a baseline one per group


@dataclass(frozen=True, slots=True)
class Block:
    """One dataset."""

    dataset: str
    lines: tuple[Line, ...]
    baselines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All datasets of a grid under one protocol."""

    name: str  # of the grid and of the protocol; also the files'
    title: str
    profile: str
    protocol: str
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]  # sentences for the caption
    data: Mapping[str, str]  # dataset -> what was used of it
    drawn: Collection[str] = ()  # datasets drawn by a program

    def heading(self, dataset: str) -> str:
        """The dataset as printed."""
        return DATASETS[dataset].heading(dataset in self.drawn)

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Headings above the columns, each with the number of columns it spans; a column without one heads itself."""
        spans: dict[str, int] = {}
        for column in self.columns:
            heading = column.group or column.label
            spans[heading] = spans.get(heading, 0) + 1
        return tuple(spans.items())


def blocks(
    grid: GridSpec,
    lines: Iterable[ResultLine],
    protocol: str,
    columns: Sequence[Column],
    suspicious: Collection[tuple[str, str]] = (),
    baselines: Mapping[str, tuple[str, Sequence[str]]] | None = None,
    best: bool = False,
) -> tuple[Block, ...]:
    """A block for each dataset with a number, rows in the grid's order; a row without any number is left out.

    Args:
        grid: names rows and datasets.
        lines: results, of which those of this grid and protocol are taken.
        protocol: as in results.csv.
        columns: metrics to show.
        suspicious: (row, dataset) to mark with a dagger.
        baselines: name -> label and one metric per group of columns; the same for every row, so any row's will do.
        best: whether the highest number of each column is to be marked.
    """
    values: dict[tuple[str, str, str], dict[int, ResultLine]] = {}
    for line in lines:
        if (line.grid, line.protocol) == (grid.name, protocol):
            values.setdefault((line.dataset, line.row, line.metric), {})[line.seed] = line
    found = []
    for dataset in grid.datasets:
        rows = []
        for row in grid.rows:
            numbers = [_number(values.get((dataset, row.name, column.metric))) for column in columns]
            if any(numbers):
                mark = "\N{DAGGER}" if (row.name, dataset) in suspicious else ""
                rows.append(Line(row.name, row.label + mark, tuple(numbers)))
        if rows:
            common = [
                Line(name, label, tuple(_number(_of_any_row(values, dataset, metric)) for metric in metrics))
                for name, (label, metrics) in (baselines or {}).items()
            ]
            known = tuple(line for line in common if any(line.numbers))
            found.append(Block(dataset, _with_best(rows) if best else tuple(rows), known))
    return tuple(found)


def title(about: str, grid: GridSpec) -> str:
    """What a table is about, and the grid's title without the metric of its own table."""
    return f"{about}. {grid.title.partition(', top-1')[0]}"


def seeds_note(table_blocks: Iterable[Block]) -> str:
    """What the spread is of."""
    counts = sorted({n.seeds for block in table_blocks for line in block.lines for n in line.numbers if n is not None})
    if counts == [1]:
        return "One seed, so no spread is given."
    number = "/".join(str(count) for count in counts)
    return f"Mean over {number} seeds; \N{PLUS-MINUS SIGN} is the sample standard deviation over seeds."


def images_tested(table_blocks: Iterable[Block]) -> str:
    """How many test images each dataset's numbers are of. Raises UsageError where rows differ."""
    parts = []
    for block in table_blocks:
        counts = {number.n for line in block.lines for number in line.numbers if number is not None}
        if len(counts) > 1:
            raise UsageError(
                f"{block.dataset}: results on {' and '.join(map(str, sorted(counts)))} test images do not compare; "
                "was the data or the saliency detector changed between the runs?"
            )
        parts.append(f"{DATASETS[block.dataset].label} {counts.pop()}")
    return ", ".join(parts)


def _number(seeds: Mapping[int, ResultLine] | None) -> Number | None:
    if not seeds:
        return None
    values = [seeds[seed].value for seed in sorted(seeds)]
    std = statistics.stdev(values) if len(values) > 1 else None
    return Number(statistics.fmean(values), std, len(values), next(iter(seeds.values())).n)


def _of_any_row(
    values: Mapping[tuple[str, str, str], Mapping[int, ResultLine]], dataset: str, metric: str
) -> dict[int, ResultLine]:
    found: dict[int, ResultLine] = {}
    for key, seeds in values.items():
        if (key[0], key[2]) == (dataset, metric):
            found |= seeds
    return found


def _with_best(rows: Sequence[Line]) -> tuple[Line, ...]:
    best = []
    for column in zip(*(row.numbers for row in rows), strict=True):
        means = [number.mean for number in column if number is not None]
        best.append(max(means) if len(means) > 1 else None)
    return tuple(
        Line(row.name, row.label, tuple(_marked(number, top) for number, top in zip(row.numbers, best, strict=True)))
        for row in rows
    )


def _marked(number: Number | None, best: float | None) -> Number | None:
    if number is None or number.mean != best:
        return number
    return Number(number.mean, number.std, number.seeds, number.n, is_best=True)
