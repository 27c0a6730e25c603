"""Published numbers of a grid, from experiments/published."""

from __future__ import annotations

import csv

from suite.grid.spec import EXPERIMENTS


def published_numbers(table: str) -> dict[tuple[str, str], float]:
    """The paper's top-1 for one table: {(row name, dataset name): percent}. Source: see the CSV's header lines."""
    return {(line["row"], line["dataset"]): float(line["top1"]) for line in _published(table)}


def printed_deltas(table: str) -> dict[tuple[str, str], float]:
    """The differences to BYOL as the paper prints them beside its accuracies, some of which disagree with those."""
    return {
        (line["row"], line["dataset"]): float(line["printed_delta"])
        for line in _published(table)
        if line["printed_delta"]
    }


def _published(table: str) -> list[dict[str, str]]:
    with (EXPERIMENTS / "published" / "reference_tables.csv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(text for text in file if not text.startswith("#"))
        return [line for line in lines if line["table"] == table]
