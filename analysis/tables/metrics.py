"""Tables of several metrics: datasets one below the other, metrics side by side, baselines below the rows.

Pure functions; `analysis.tables.metrics_text` prints the tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.cells.published import Comparator, footnotes
from analysis.cells.references import MEASURED, kind, marked
from suite.data.catalogue import DATASETS
from suite.errors import UsageError
from suite.grid.spec import GridSpec
from suite.store.cells import ResultLine


@dataclass(frozen=True, slots=True)
class Column:
    """One metric and its heading."""

    metric: str  # as in results.csv
    label: str
    group: str = ""  # heading shared with neighbouring columns; a baseline has one number per group


@dataclass(frozen=True, slots=True)
class Number:
    """A metric's mean over seeds, unrounded."""

    mean: float
    std: float | None  # sample standard deviation over seeds (ddof = 1); None with one seed
    seeds: int
    n: int  # test images
    is_best: bool = False  # highest mean of its column and dataset; False if the column holds one number


@dataclass(frozen=True, slots=True)
class MetricRow:
    """The numbers of a grid row or of a baseline on one dataset."""

    name: str
    label: str
    numbers: tuple[Number | None, ...]  # one per column; of a baseline one per group
    kind: str = MEASURED  # or that of a reference row


@dataclass(frozen=True, slots=True)
class DatasetBlock:
    """The rows of one dataset."""

    dataset: str
    rows: tuple[MetricRow, ...]
    baselines: tuple[MetricRow, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All datasets of a grid under one protocol."""

    name: str  # grid and protocol; also the stem of the files
    title: str
    profile: str
    protocol: str
    columns: tuple[Column, ...]
    blocks: tuple[DatasetBlock, ...]
    caption: tuple[str, ...]  # sentences below the title
    notes: tuple[str, ...]  # sentences of the box "Setup"
    data: Mapping[str, str]  # dataset -> images used
    synthetic: Collection[str] = ()  # names of synthetic datasets
    comparators: tuple[Comparator, ...] = ()  # other works' published rows; their protocol names the column

    @property
    def footnotes(self) -> tuple[str, ...]:
        """Protocol and source of the comparators."""
        return footnotes(self.comparators)

    def compared(self, dataset: str) -> tuple[Comparator, ...]:
        """The comparators with a number on a dataset."""
        return tuple(row for row in self.comparators if dataset in row.numbers)

    def heading(self, dataset: str) -> str:
        """Heading of the dataset."""
        return DATASETS[dataset].heading(dataset in self.synthetic)

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Headings above the columns with the number of columns each spans; one without a group is its own."""
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
) -> tuple[DatasetBlock, ...]:
    """One block per dataset, rows in the grid's order. Datasets and rows without any number are left out.

    Args:
        grid: names rows and datasets.
        lines: results; those of other grids and protocols are ignored.
        protocol: as in results.csv.
        columns: metrics to show.
        suspicious: (row, dataset) to mark with a dagger.
        baselines: name -> label and one metric per group of columns. Baselines have the same value in every row.
        best: mark the highest number of each column.
    """
    values: dict[tuple[str, str, str], dict[int, ResultLine]] = {}
    for line in lines:
        if (line.grid, line.protocol) == (grid.name, protocol):
            values.setdefault((line.dataset, line.row, line.metric), {})[line.seed] = line
    dataset_blocks = []
    for dataset in grid.datasets:
        rows = []
        for row in grid.rows:
            numbers = [_number(values.get((dataset, row.name, column.metric))) for column in columns]
            if any(numbers):
                mark = "\N{DAGGER}" if (row.name, dataset) in suspicious else ""
                rows.append(MetricRow(row.name, marked(row) + mark, tuple(numbers), kind(row)))
        if rows:
            common = [
                MetricRow(name, label, tuple(_number(_of_any_row(values, dataset, metric)) for metric in metrics))
                for name, (label, metrics) in (baselines or {}).items()
            ]
            measured = tuple(row for row in common if any(row.numbers))
            dataset_blocks.append(DatasetBlock(dataset, _with_best(rows) if best else tuple(rows), measured))
    return tuple(dataset_blocks)


def title(about: str, grid: GridSpec) -> str:
    """Title of a table: its subject, and the grid's title without its metric."""
    return f"{about}. {grid.title.partition(', top-1')[0]}"


def seeds_note(table_blocks: Iterable[DatasetBlock]) -> str:
    """Number of seeds, and the meaning of the spread."""
    counts = sorted({n.seeds for block in table_blocks for row in block.rows for n in row.numbers if n is not None})
    if counts == [1]:
        return "One seed, so no spread is given."
    number = "/".join(str(count) for count in counts)
    return f"Mean over {number} seeds; \N{PLUS-MINUS SIGN} is the sample standard deviation over seeds."


def images_tested(table_blocks: Iterable[DatasetBlock]) -> str:
    """Number of test images per dataset, as text. Raises UsageError where rows differ."""
    parts = []
    for block in table_blocks:
        counts = {number.n for row in block.rows for number in row.numbers if number is not None}
        if len(counts) > 1:
            raise UsageError(
                f"{block.dataset}: results on {' and '.join(map(str, sorted(counts)))} test images are not comparable; "
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
    by_seed: dict[int, ResultLine] = {}
    for key, seeds in values.items():
        if (key[0], key[2]) == (dataset, metric):
            by_seed |= seeds
    return by_seed


def _with_best(rows: Sequence[MetricRow]) -> tuple[MetricRow, ...]:
    best = []
    for column in zip(*(row.numbers for row in rows if row.kind == MEASURED), strict=True):
        means = [number.mean for number in column if number is not None]
        best.append(max(means) if len(means) > 1 else None)
    return tuple(
        replace(row, numbers=tuple(_marked(number, top) for number, top in zip(row.numbers, best, strict=True)))
        if row.kind == MEASURED
        else row
        for row in rows
    )


def _marked(number: Number | None, best: float | None) -> Number | None:
    if number is None or number.mean != best:
        return number
    return Number(number.mean, number.std, number.seeds, number.n, is_best=True)
