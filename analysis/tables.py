"""From results in long format to one table of accuracies: means over seeds, deltas to a reference row, what is missing.

Pure functions, and light: neither torch nor matplotlib nor pandas is imported. `analysis.latex`
and `analysis.table_text` print the table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.results import ResultLine, result_lines
from analysis.table_notes import with_notes
from suite.data.catalogue import DATASETS
from suite.errors import UsageError, unknown
from suite.grid.spec import GridSpec, Row

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str]  # (row name, dataset name)
PUBLISHED = "Published (paper, ResNet-50)"  # all the poster states of its protocol; it names no input size


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
    remarks: Sequence[str] = (),
    suspicious: Collection[Key] = (),
    data: Mapping[str, str] | None = None,
    profile: str | None = None,
    protocol: str = "finetune",
    metric: str = "top1",
) -> Table:
    """The table of one grid, from the lines of `results` that carry its name, this protocol and this metric.

    rows, datasets: a selection, in the grid's order; None is all. A delta still refers to the grid's reference row,
    selected or not. published: see `suite.grid.spec.published_numbers`. remarks: sentences about the data for the
    caption. data: what was used of each dataset, for the CSV. profile: which one to show where `results` holds several.

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
    measured = _block({key: list(seeds.values()) for key, seeds in values.items()}, grid.reference_row, names)
    cells: dict[Key, Cell | None] = {}
    for key in ((row, dataset) for row in names for dataset in columns):
        cell = measured.get(key)
        cells[key] = cell and Cell(
            cell.mean, cell.std, cell.seeds, counts[key[1]], cell.delta, cell.is_best, key in suspicious
        )
    paper = {key: [value] for key, value in (published or {}).items() if key[1] in columns}
    table = Table(
        name=grid.name,
        title=grid.title,
        profile=profiles[0] if profiles else None,
        protocol=protocol,
        metric=metric,
        reference=grid.row(grid.reference_row).label,
        rows=shown,
        datasets=columns,
        cells=cells,
        published={
            key: Cell(cell.mean, None, None, None, cell.delta, cell.is_best)
            for key, cell in _block(paper, grid.reference_row, names).items()
        },
        notes=(),
        data=data or {},
    )
    return with_notes(table, remarks)


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
        column = [means[key] for key in means if key[1] == dataset and key[0] in rows]
        base = means.get((reference, dataset), math.nan)
        cells[row, dataset] = Cell(
            mean=mean,
            std=statistics.stdev(seeds) if len(seeds) > 1 else None,
            seeds=len(seeds),
            n=None,
            delta=None if math.isnan(base) else mean - base,
            is_best=len(column) > 1 and mean == max(column),
        )
    return cells
