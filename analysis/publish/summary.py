"""The tables of the front page: top-1 of the rows of a grid, by protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.publish.comparable import SeedResult
from analysis.publish.leaderboard import PROTOCOLS, RankedRow, ranked
from analysis.publish.record import PublishedGrid


@dataclass(frozen=True)
class GridTable:
    """Rows x datasets by one protocol, each number with its interval; None where there is none."""

    protocol: str
    meaning: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[RankedRow | None]]]


def grid_tables(grid: PublishedGrid) -> list[GridTable]:
    """One table for each protocol with a number, fine-tuning first."""
    labels = {cell.row: cell.label for cell in grid.cells}
    tables = []
    for protocol, meaning in PROTOCOLS.items():
        numbers = {
            (row, data.name, data.fingerprint): _number(grid, row, data.name, data.fingerprint, protocol)
            for row in labels
            for data in grid.datasets
        }
        if any(numbers.values()):
            rows = [
                (label, [numbers[row, data.name, data.fingerprint] for data in grid.datasets])
                for row, label in labels.items()
            ]
            tables.append(GridTable(protocol, meaning, [data.heading for data in grid.datasets], rows))
    return tables


def _number(grid: PublishedGrid, row: str, dataset: str, fingerprint: str, protocol: str) -> RankedRow | None:
    found = [
        ("", SeedResult(cell, result.value, result.key, ""), result.n)
        for cell in grid.cells
        if (cell.row, cell.dataset, cell.data) == (row, dataset, fingerprint)
        for result in cell.results
        if (result.protocol, result.metric) == (protocol, "top1")
    ]
    return ranked([(source, entry) for source, entry, _ in found], found[0][2])[0] if found else None
