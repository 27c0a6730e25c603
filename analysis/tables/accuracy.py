"""Build the table of accuracies from results in long format: means over seeds and differences to a reference row.

Pure functions that import neither torch nor matplotlib nor pandas. `analysis.tables.latex` and `analysis.tables.text`
print the table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.cells.published import Comparator
from analysis.cells.references import compared
from analysis.cells.results import as_lines
from analysis.statistics.comparisons import compare
from analysis.statistics.intervals import is_supported
from analysis.statistics.tests import t_interval
from analysis.tables.notes import with_notes
from analysis.tables.table import MINUS_PUBLISHED, AccuracyCell, Key, Table
from suite.errors import UsageError, unknown
from suite.grid.spec import GridSpec
from suite.store.cells import ResultLine

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MINUS_PUBLISHED", "AccuracyCell", "Key", "Table", "accuracy_table", "reference_label"]


def accuracy_table(
    grid: GridSpec,
    results: Iterable[ResultLine] | pd.DataFrame,
    *,
    rows: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    published: Mapping[Key, float] | None = None,
    printed_deltas: Mapping[Key, float] | None = None,
    comparators: tuple[Comparator, ...] = (),
    caption_notes: Sequence[str] = (),
    cell_remarks: Mapping[Key, str] | None = None,
    suspicious: Collection[Key] = (),
    oracle: Collection[Key] = (),
    stale: Collection[Key] = (),
    data: Mapping[str, str] | None = None,
    partial: Collection[str] = (),
    synthetic: Collection[str] = (),
    profile: str | None = None,
    protocol: str = "finetune",
) -> Table:
    """The table of one grid, from the lines of `results` that carry its name and this protocol: top-1 accuracies.

    rows, datasets: a selection, in the grid's order; None is all. A delta still refers to the grid's reference row,
    selected or not. published, printed_deltas: see `published_numbers`; comparators: see `Table`.
    caption_notes: sentences about the data; cell_remarks: remarks on single cells, for the CSV.
    suspicious, oracle, stale: cells to mark. data, partial, synthetic: see `Table`. profile: the one to show; needed if
    `results` holds several.

    Raises UsageError for unknown names, for two profiles or two numbers of test images in one comparison, and for a
    cell and seed measured twice under different keys.
    """
    shown = tuple(grid.row(name) for name in _selected("row", rows, [row.name for row in grid.rows]))
    columns = _selected("dataset", datasets, grid.datasets)
    relevant = {row.name for row in shown} | {grid.reference_row}
    lines = [
        line
        for line in as_lines(results)
        if (line.grid, line.protocol, line.metric) == (grid.name, protocol, "top1")
        and line.row in relevant
        and line.dataset in columns
        and profile in (None, line.profile)
    ]
    profiles = sorted({line.profile for line in lines})
    if len(profiles) > 1:
        raise UsageError(
            f"grid {grid.name} has results of the profiles {', '.join(profiles)}, which are not comparable: "
            "name one with --profile."
        )
    values = _by_cell(lines)
    counts = _test_images(lines)
    names = [row.name for row in shown]
    by_seed = {key: [seeds[seed] for seed in sorted(seeds)] for key, seeds in values.items()}
    measured = _block(by_seed, grid.reference_row, names, compared(shown))
    cells: dict[Key, AccuracyCell | None] = dict.fromkeys((row, dataset) for row in names for dataset in columns)
    for key, cell in measured.items():
        cells[key] = replace(
            cell,
            n=counts[key[1]],
            is_supported=cell.delta is not None
            and is_supported(values[key], values.get((grid.reference_row, key[1]), {}), counts[key[1]]),
            suspicious=key in suspicious,
            oracle=key in oracle,
            stale=key in stale,
        )
    paper = {key: [value] for key, value in (published or {}).items() if key[1] in columns}
    table = Table(
        name=grid.name,
        title=grid.title,
        profile=profiles[0] if profiles else None,
        protocol=protocol,
        reference=reference_label(grid),
        rows=shown,
        datasets=columns,
        cells=cells,
        published={
            key: replace(cell, seeds=None, printed_delta=(printed_deltas or {}).get(key))
            for key, cell in _block(paper, grid.reference_row, names, names).items()
        },
        caption=(),
        notes=(),
        data=data or {},
        partial=tuple(name for name in columns if name in partial),
        synthetic=tuple(name for name in columns if name in synthetic),
        comparisons=compare(
            values,
            grid.reference_row,
            compared(shown),
            columns,
            [row.name for row in grid.rows if row.stage1 != "none"],
        ),
        remarks=cell_remarks or {},
        comparators=comparators,
    )
    return with_notes(table, caption_notes)


def reference_label(grid: GridSpec) -> str:
    """The reference row's label, with its stages where another row has the same label."""
    reference = grid.row(grid.reference_row)
    twice = [row.label for row in grid.rows].count(reference.label) > 1
    return f"{reference.label} without stage 2" if twice and not reference.stage2 else reference.label


def _selected(what: str, wanted: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in names:
            raise unknown(what, name, names)
    return tuple(name for name in names if wanted is None or name in wanted)


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
    """{dataset: number of test images}. All rows must have the same number, or their accuracies are not comparable."""
    counts: dict[str, int] = {}
    for line in lines:
        if counts.setdefault(line.dataset, line.n) != line.n:
            raise UsageError(
                f"{line.dataset}: results on {counts[line.dataset]} and on {line.n} test images are not comparable; "
                "was the data changed between the runs?"
            )
    return counts


def _block(
    values: Mapping[Key, Sequence[float]], reference: str, rows: Sequence[str], ranked: Collection[str]
) -> dict[Key, AccuracyCell]:
    """The cells of `rows`: means over seeds; of `ranked` ones deltas to `reference` and the best of each column. All
    unrounded."""
    means = {
        key: statistics.fmean(seeds) for key, seeds in values.items()
    }  # exact, so the order of the seeds has no influence
    cells: dict[Key, AccuracyCell] = {}
    for (row, dataset), seeds in values.items():
        if row not in rows:
            continue
        mean = means[row, dataset]
        column = sorted((means[key] for key in means if key[1] == dataset and key[0] in ranked), reverse=True)
        base = means.get((reference, dataset), math.nan) if row in ranked else math.nan
        cells[row, dataset] = AccuracyCell(
            mean=mean,
            std=statistics.stdev(seeds) if len(seeds) > 1 else None,
            seeds=len(seeds),
            n=None,
            delta=None if math.isnan(base) else mean - base,
            is_best=row in ranked and len(column) > 1 and mean == column[0],
            is_second=row in ranked and len(column) > 2 and column[0] > column[1] == mean,
            interval=t_interval(seeds),
            is_reference=row == reference,
        )
    return cells
