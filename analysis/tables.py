"""From results in long format to one table of accuracies: means over seeds, deltas to a reference row, what is missing.

Pure functions, and light: neither torch nor matplotlib nor pandas is imported. `analysis.latex`
and `analysis.table_text` print the table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from analysis.results import ResultLine, result_lines
from analysis.significance import Comparison, compare
from analysis.statistics import t_interval
from analysis.table_notes import with_notes
from suite.data.catalogue import DATASETS
from suite.errors import UsageError, unknown
from suite.grid.spec import GridSpec, Row

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str]  # (row name, dataset name)
PUBLISHED = "Published (paper, ResNet-50)"  # all the poster states of its protocol; it names no input size
MINUS_PUBLISHED = "Measured minus published"


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the table. Nothing is rounded. A published cell has neither spread nor counts."""

    mean: float  # percent, over seeds
    std: float | None  # sample standard deviation over seeds (ddof = 1); None with one seed
    seeds: int | None
    n: int | None  # test images
    delta: float | None  # mean - mean of the reference row on this dataset; None where the reference is missing
    is_best: bool  # the highest mean of its column and block; never where the column holds one number only
    suspicious: bool = False  # chance level or collapse: printed with a dagger
    is_second: bool = False  # the second highest mean, of three or more
    interval: tuple[float, float] | None = None  # 95 % t interval of the mean over seeds; None with one seed
    oracle: bool = False  # trained with saliency from annotations
    outdated: bool = False  # run with other settings than grid and profile have now
    printed_delta: float | None = None  # of a published cell: the difference as it was printed

    @property
    def marks(self) -> str:
        """The signs beside the number; the notes explain them."""
        signs = {"\N{DAGGER}": self.suspicious, "\N{DOUBLE DAGGER}": self.oracle, "\N{SECTION SIGN}": self.outdated}
        return "".join(sign for sign, applies in signs.items() if applies)

    @property
    def misprinted(self) -> bool:
        """Whether the printed difference is not that of the printed accuracies (to two decimals, as both are)."""
        if self.printed_delta is None or self.delta is None:
            return False
        return abs(self.printed_delta - self.delta) > 0.006


@dataclass(frozen=True, slots=True)
class Table:
    """Rows x datasets of measured cells, and the published numbers for the same rows as a block of their own."""

    name: str  # the grid's
    title: str
    profile: str | None  # None: there is no result yet
    protocol: str
    metric: str
    reference: str  # label of the row the deltas refer to
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    cells: Mapping[Key, Cell | None]  # every (row, dataset); None is a hole
    published: Mapping[Key, Cell]  # only what was published
    notes: tuple[str, ...]  # sentences for the caption
    data: Mapping[str, str]  # dataset -> what was used of it, such as "CUB subset: 600/5994 train, ..."
    partial: Collection[str] = ()  # datasets of which not all was used, or drawn by a program: their heading has a star
    drawn: Collection[str] = ()  # those drawn: nothing published is subtracted from their numbers
    comparisons: tuple[Comparison, ...] = ()  # tests against the reference row
    remarks: Mapping[Key, str] = field(default_factory=dict)  # per cell: why it is a hole, or suspicious, or outdated

    @property
    def shows_stage2(self) -> bool:
        """Whether some rows skip the second stage, so that a column has to say which."""
        return any(row.objective is not None and not row.stage2 for row in self.rows)

    @property
    def published_rows(self) -> tuple[Row, ...]:
        """The rows of the published block: those with a published number on any of the datasets."""
        return tuple(
            row for row in self.rows if any((row.name, dataset) in self.published for dataset in self.datasets)
        )

    @property
    def minus_published(self) -> dict[Key, float]:
        """Measured - published, in points, where both exist and the data are photographs."""
        return {
            key: cell.mean - self.published[key].mean
            for key, cell in self.cells.items()
            if cell is not None and key in self.published and key[1] not in self.drawn
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The datasets as printed."""
        return tuple(DATASETS[name].label for name in self.datasets)


def accuracy_table(
    grid: GridSpec,
    results: Iterable[ResultLine] | pd.DataFrame,
    *,
    rows: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    published: Mapping[Key, float] | None = None,
    printed_deltas: Mapping[Key, float] | None = None,
    remarks: Sequence[str] = (),
    cell_remarks: Mapping[Key, str] | None = None,
    suspicious: Collection[Key] = (),
    oracle: Collection[Key] = (),
    outdated: Collection[Key] = (),
    data: Mapping[str, str] | None = None,
    partial: Collection[str] = (),
    drawn: Collection[str] = (),
    profile: str | None = None,
    protocol: str = "finetune",
    metric: str = "top1",
) -> Table:
    """The table of one grid, from the lines of `results` that carry its name, this protocol and this metric.

    rows, datasets: a selection, in the grid's order; None is all. A delta still refers to the grid's reference row,
    selected or not. published, printed_deltas: see `suite.grid.spec.published_numbers`. remarks: sentences about the
    data for the caption; cell_remarks: about single cells, for the CSV. suspicious, oracle, outdated: cells to mark.
    data, partial, drawn: see `Table`. profile: which one to show where `results` holds several.

    Raises UsageError for unknown names, for two profiles or two numbers of test images in one comparison, and for a
    cell and seed measured twice under different keys.
    """
    shown = tuple(grid.row(name) for name in _selected("row", rows, [row.name for row in grid.rows]))
    columns = _selected("dataset", datasets, grid.datasets)
    relevant = {row.name for row in shown} | {grid.reference_row}
    lines = [
        line
        for line in result_lines(results)
        if (line.grid, line.protocol, line.metric) == (grid.name, protocol, metric)
        and line.row in relevant
        and line.dataset in columns
        and profile in (None, line.profile)
    ]
    profiles = sorted({line.profile for line in lines})
    if len(profiles) > 1:
        raise UsageError(
            f"grid {grid.name} has results of the profiles {', '.join(profiles)}, which do not compare: "
            "name one with --profile."
        )
    values = _by_cell(lines)
    counts = _test_images(lines)
    names = [row.name for row in shown]
    by_seed = {key: [seeds[seed] for seed in sorted(seeds)] for key, seeds in values.items()}
    measured = _block(by_seed, grid.reference_row, names)
    cells: dict[Key, Cell | None] = dict.fromkeys((row, dataset) for row in names for dataset in columns)
    for key, cell in measured.items():
        cells[key] = replace(
            cell,
            n=counts[key[1]],
            suspicious=key in suspicious,
            oracle=key in oracle,
            outdated=key in outdated,
        )
    paper = {key: [value] for key, value in (published or {}).items() if key[1] in columns}
    table = Table(
        name=grid.name,
        title=grid.title,
        profile=profiles[0] if profiles else None,
        protocol=protocol,
        metric=metric,
        reference=reference_label(grid),
        rows=shown,
        datasets=columns,
        cells=cells,
        published={
            key: replace(cell, seeds=None, printed_delta=(printed_deltas or {}).get(key))
            for key, cell in _block(paper, grid.reference_row, names).items()
        },
        notes=(),
        data=data or {},
        partial=tuple(name for name in columns if name in partial),
        drawn=tuple(name for name in columns if name in drawn),
        comparisons=compare(
            values, grid.reference_row, names, columns, [row.name for row in grid.rows if row.stage1 != "none"]
        ),
        remarks=cell_remarks or {},
    )
    return with_notes(table, remarks)


def reference_label(grid: GridSpec) -> str:
    """The reference row's label, with its stages where another row has the same label."""
    reference = grid.row(grid.reference_row)
    twice = [row.label for row in grid.rows].count(reference.label) > 1
    return f"{reference.label} without stage 2" if twice and not reference.stage2 else reference.label


def _selected(what: str, wanted: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in known:
            raise unknown(what, name, known)
    return tuple(name for name in known if wanted is None or name in wanted)


def _by_cell(lines: Iterable[ResultLine]) -> dict[Key, dict[int, float]]:
    """{(row, dataset): {seed: value}}; the same line twice counts once."""
    values: dict[Key, dict[int, float]] = {}
    keys: dict[tuple[str, str, int], str] = {}
    for line in lines:
        where = f"{line.row}/{line.dataset} seed {line.seed}"
        if not 0 <= line.value <= 100:  # also catches NaN
            raise UsageError(f"{where}: {line.metric} must be a percentage from 0 to 100, but is {line.value}.")
        key = keys.setdefault((line.row, line.dataset, line.seed), line.key)
        if key != line.key:
            raise UsageError(
                f"{where} was measured twice with different settings (keys {key} and {line.key}); "
                "keep one of them in the results."
            )
        values.setdefault((line.row, line.dataset), {})[line.seed] = line.value
    return values


def _test_images(lines: Iterable[ResultLine]) -> dict[str, int]:
    """{dataset: number of test images}, which must be one number for a column to be a comparison."""
    counts: dict[str, int] = {}
    for line in lines:
        if counts.setdefault(line.dataset, line.n) != line.n:
            raise UsageError(
                f"{line.dataset}: results on {counts[line.dataset]} and on {line.n} test images do not compare; "
                "was the data changed between the runs?"
            )
    return counts


def _block(values: Mapping[Key, Sequence[float]], reference: str, rows: Sequence[str]) -> dict[Key, Cell]:
    """The cells of `rows`: means over seeds, deltas to `reference`, the best of each column. All unrounded."""
    means = {key: statistics.fmean(seeds) for key, seeds in values.items()}  # exact, so the order of seeds is free
    cells: dict[Key, Cell] = {}
    for (row, dataset), seeds in values.items():
        if row not in rows:
            continue
        mean = means[row, dataset]
        column = sorted((means[key] for key in means if key[1] == dataset and key[0] in rows), reverse=True)
        base = means.get((reference, dataset), math.nan)
        cells[row, dataset] = Cell(
            mean=mean,
            std=statistics.stdev(seeds) if len(seeds) > 1 else None,
            seeds=len(seeds),
            n=None,
            delta=None if math.isnan(base) else mean - base,
            is_best=len(column) > 1 and mean == column[0],
            is_second=len(column) > 2 and column[0] > column[1] == mean,
            interval=t_interval(seeds),
        )
    return cells
