"""Captions of tables: two sentences. All else that a reader has to know stands in the notes, in one box "Setup"."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables.metrics import DatasetBlock
    from analysis.tables.table import Table
    from suite.store.cells import CellRecord

Sentences = tuple[str, ...]


def scope(profile: str | None, synthetic: bool, subset: bool, seeds: Collection[int]) -> str:
    """One sentence on how far the numbers reach: profile, images, seeds.

    Args:
        profile: of the cells; None without a result.
        synthetic: whether any dataset is synthetic.
        subset: whether any dataset is a subset of the official one.
        seeds: distinct numbers of seeds per cell; empty without a result.
    """
    parts = [] if profile in {None, "paper"} else [f"profile {profile}, not the paper's protocol"]
    images = [
        name for name, used in (("synthetic images", synthetic), ("subsets of the official data", subset)) if used
    ]
    parts += [f"on {' and '.join(images)}"] if images else []
    if seeds:
        most = max(seeds)
        parts.append("one seed" if most == 1 else f"mean \N{PLUS-MINUS SIGN} standard deviation over {most} seeds")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def accuracy_caption(table: Table) -> Sentences:
    """Scope, and how to read differences, bold and underlined numbers. Without a result, that there is none."""
    measured = [cell for cell in table.cells.values() if cell]
    if not measured:
        return ("No results yet.",)
    cells = [*measured, *table.published.values()]
    second = ", second best underlined" if any(cell.is_second for cell in cells) else ""
    difference = ""
    if any(cell.delta is not None for cell in cells):
        difference = f"in parentheses the difference to {table.reference}, coloured where its 95 % interval excludes 0"
    best = f"best in bold{second}" if any(cell.is_best for cell in cells) else ""
    reading = "; ".join(part for part in (best, difference) if part)
    subset = bool(set(table.partial) - set(table.synthetic))
    seeds = {cell.seeds or 0 for cell in measured}
    sentences = scope(table.profile, bool(table.synthetic), subset, seeds), _sentence(reading)
    return tuple(sentence for sentence in sentences if sentence)


def metric_caption(
    about: str, profile: str, records: Sequence[CellRecord], blocks: Sequence[DatasetBlock]
) -> Sentences:
    """What the table measures, and its scope.

    Args:
        about: one sentence; empty where the title says it.
        profile: of the cells.
        records: the cells.
        blocks: the numbers.
    """
    data = [facts for record in records for facts in record.data.values()]
    synthetic = any(facts.synthetic for facts in data)
    subset = any(facts.subset and not facts.synthetic for facts in data)
    seeds = {number.seeds for block in blocks for row in block.rows for number in row.numbers if number is not None}
    return tuple(sentence for sentence in (about, scope(profile, synthetic, subset, seeds)) if sentence)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
