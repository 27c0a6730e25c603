"""Notes of the accuracy table: protocol, data, seeds, tests, notation, missing results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.cells.references import marked
from analysis.statistics.comparisons import LEVEL, Comparison, out_of_reach
from analysis.statistics.intervals import wilson_interval
from analysis.tables.captions import accuracy_caption
from suite.data.catalogue import DATASETS

if TYPE_CHECKING:
    from analysis.tables.table import Table
    from suite.grid.spec import Row


def with_notes(table: Table, caption_notes: Sequence[str]) -> Table:
    """The table with its caption and its notes: limitations first, notation last."""
    notes = [
        *_protocol(table),
        *caption_notes,
        *_images(table),
        *_seeds(table),
        *significance_notes(table),
        *_deltas(table),
        *_published(table),
        *_marks(table),
        *_missing(table),
    ]
    sentences = tuple(_sentence(note) for note in notes)
    return dataclasses.replace(table, caption=accuracy_caption(table), notes=sentences)


def row_name(table: Table, row: Row) -> str:
    """The row's label, with "(no stage 2)" where rows of the table skip the second stage."""
    return row_label(row) if table.shows_stage2 else marked(row)


def row_label(row: Row) -> str:
    """The row's label, with "(no stage 2)" if it skips the second stage, and the mark of a reference row."""
    skips = row.objective is not None and not row.stage2
    return f"{row.label} (no stage 2)" if skips else marked(row)


def _protocol(table: Table) -> Iterable[str]:
    if table.profile not in (None, "paper"):
        yield f"Profile {table.profile}: not the paper's protocol"
    if table.protocol != "finetune":
        yield f"Protocol {table.protocol}, not fine-tuning"


def _images(table: Table) -> Iterable[str]:
    counts = {key[1]: cell.n for key, cell in table.cells.items() if cell}
    if counts:
        parts = (f"{DATASETS[name].label} {counts[name]}" for name in table.datasets if name in counts)
        yield f"Test images: {', '.join(parts)}"


def _seeds(table: Table) -> Iterable[str]:
    counts = sorted({cell.seeds or 0 for cell in table.cells.values() if cell})
    if not counts:
        return
    if counts == [1]:
        halves = [
            (high - low) / 2
            for cell in table.cells.values()
            if cell and cell.n
            for low, high in [wilson_interval(cell.mean, cell.n)]
        ]
        yield (
            "One seed, so no spread is given; from the number of test images alone an accuracy has a 95 % Wilson "
            f"interval of up to \N{PLUS-MINUS SIGN}{max(halves):.1f} points"
        )
        return
    most = counts[-1]
    yield (
        f"Mean over {most} seeds (n = {most} trainings through every stage); "
        "\N{PLUS-MINUS SIGN} is the sample standard deviation over seeds"
    )
    fewer = [
        f"{row_name(table, row)} on {DATASETS[name].label} ({cell.seeds})"
        for row in table.rows
        for name in table.datasets
        if (cell := table.cells[row.name, name]) and cell.seeds != most
    ]
    if fewer:
        yield f"Fewer seeds: {', '.join(fewer)}"


def _deltas(table: Table) -> Iterable[str]:
    cells = [cell for cell in (*table.cells.values(), *table.published.values()) if cell]
    if any(cell.delta is not None for cell in cells):
        second = ", second best underlined" if any(cell.is_second for cell in cells) else ""
        yield f"In parentheses: difference to {table.reference}, from unrounded means; best in bold{second}"
    if any(cell.delta is not None and not cell.is_reference for cell in table.cells.values() if cell):
        several = any((cell.seeds or 0) > 1 for cell in table.cells.values() if cell)
        basis = "paired over seeds" if several else "from the number of test images, as there is one seed"
        yield f"A difference is coloured where its 95 % interval, {basis}, excludes 0 (not corrected for several rows)"


def _published(table: Table) -> Iterable[str]:
    if table.published and table.profile not in (None, "paper"):
        yield "The published numbers come from another protocol and are not comparable with the measured ones"
    if table.published and table.synthetic and any(table.cells.values()):
        names = ", ".join(DATASETS[name].label for name in table.synthetic)
        yield f"No published number is subtracted from a number on synthetic images ({names})"
    wrong = [
        f"{row_name(table, row)} on {DATASETS[name].label} {signed(cell.printed_delta or 0)}"
        for row in table.rows
        for name in table.datasets
        if (cell := table.published.get((row.name, name))) and cell.misprinted
    ]
    if wrong:
        yield (
            "\N{PILCROW SIGN}: the difference printed in the paper disagrees with the accuracies printed there; it is "
            f"{', '.join(wrong)}"
        )


def _marks(table: Table) -> Iterable[str]:
    cells = [cell for cell in table.cells.values() if cell]
    if any(cell.suspicious for cell in cells):
        yield "\N{DAGGER}: suspicious, at chance level or collapsed"
    if any(cell.oracle for cell in cells):
        yield "\N{DOUBLE DAGGER}: trained with saliency from annotations, an oracle"
    if any(cell.stale for cell in cells):
        yield "\N{SECTION SIGN}: run with settings that differ from the current grid or profile"
    if table.partial:
        yield "*: a subset of the official photographs, or synthetic images"


def _missing(table: Table) -> Iterable[str]:
    if not any(table.cells.values()):
        yield "No results yet"
    elif parts := _cells_without(table, failed=False):
        yield f"No result yet: {', '.join(parts)}"
    if parts := _cells_without(table, failed=True):
        yield f"Failed: {', '.join(parts)}"


def _cells_without(table: Table, failed: bool) -> list[str]:
    """Rows without a result, each with the datasets that lack one unless all do."""
    parts = []
    for row in table.rows:
        keys = [(row.name, name) for name in table.datasets if table.cells[row.name, name] is None]
        missing = [DATASETS[key[1]].label for key in keys if (" failed (" in table.remarks.get(key, "")) == failed]
        if missing:
            where = "" if len(missing) == len(table.datasets) else f" ({', '.join(missing)})"
            parts.append(row_name(table, row) + where)
    return parts


def significance_notes(table: Table) -> Iterable[str]:
    """Sentences on the tests against the reference row: method, families and outcome. None without a test."""
    pooled = [one for one in table.comparisons if one.pooled]
    single = [one for one in table.comparisons if not one.pooled]
    if pooled and out_of_reach(pooled):
        most = max(one.blocks for one in pooled)
        yield (
            f"Not tested against {table.reference}: {most} independent differences are too few for a test of "
            f"{len(pooled)} rows at {100 * LEVEL:.0f} %"
        )
    elif pooled:
        counts = "/".join(str(count) for count in sorted({one.blocks for one in pooled}))
        yield (
            f"Against {table.reference}, pooled over datasets (sign-flip test of {counts} independent differences, "
            f"two-sided, Holm-corrected for {len(pooled)} rows, {100 * LEVEL:.0f} %): {_verdict(table, pooled)}. The "
            "test describes repeated training on these datasets, not other datasets or other test images"
        )
    if single:
        better, worse = _decided(single)
        where, what = " on single datasets", "cells"
        verdict = (
            f"{len(better)} better, {len(worse)} worse, {len(single) - len(better) - len(worse)} undecided, "
            f"as listed in {table.name}_tests.csv"
        )
        if len(table.datasets) == 1:  # few enough to name
            where, what, verdict = "", "rows", _verdict(table, single)
        yield (
            f"Against {table.reference}{where} (paired t test over seeds, two-sided, Holm-corrected for {len(single)} "
            f"{what}, {100 * LEVEL:.0f} %): {verdict}"
        )


def _decided(comparisons: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """The comparisons significantly better than the reference row, and those significantly worse."""
    significant = [one for one in comparisons if one.significant]
    return [one for one in significant if one.difference > 0], [one for one in significant if one.difference < 0]


def _verdict(table: Table, comparisons: Sequence[Comparison]) -> str:
    labels = {row.name: row_name(table, row) for row in table.rows}

    def named(one: Comparison) -> str:
        where = [] if len(one.datasets) == len(table.datasets) else [DATASETS[name].label for name in one.datasets]
        on = f"on {' and '.join(where)} " if where else ""
        return f"{labels[one.row]} {on}({signed(one.difference)}, p {_rounded(one.p_holm)})"

    better, worse = _decided(comparisons)
    undecided = len(comparisons) - len(better) - len(worse)
    parts = [f"better {', '.join(map(named, better))}"] if better else []
    parts += [f"worse {', '.join(map(named, worse))}"] if worse else []
    parts += [f"undecided {'the other' if parts else 'all'} {undecided}"] if undecided else []
    return "; ".join(parts)


def signed(points: float) -> str:
    """Signed difference, two decimals, with U+2212 as minus."""
    return f"{points:+.2f}".replace("-", "\N{MINUS SIGN}")


def _rounded(p: float) -> str:
    return f"= {p:.3f}".replace("0.", ".") if p >= 0.001 else "< .001"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
