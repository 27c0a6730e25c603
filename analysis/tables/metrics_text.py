"""A table of several metrics as LaTeX, as CSV in full precision, and as text for the terminal."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cells.published import COMPARATORS, Comparator
from analysis.cells.references import BASELINE, COMPARATOR, MEASURED
from analysis.tables.latex import render
from analysis.tables.latex_text import Latex
from analysis.tables.metrics import Column, MetricTable, Number
from suite.atomic import write_text

if TYPE_CHECKING:
    from rich.table import Table as RichTable

COLUMNS = ("row", "label", "dataset", "metric", "mean", "std", "seeds", "n", "profile", "protocol", "data")


def write_metric_table(table: MetricTable, out: Path) -> list[Path]:
    """Write `<name>.tex` and `<name>.csv` into `out`; returns the two."""
    files = [out / f"{table.name}.tex", out / f"{table.name}.csv"]
    for path, text in zip(files, (to_latex(table), to_csv(table)), strict=True):
        write_text(path, text)
    return files


def to_latex(table: MetricTable) -> str:
    """The LaTeX source; compiles alone and can be \\input, like that of the accuracy table."""
    return render(
        "metrics.tex.j2",
        table=table,
        title=table.title.rstrip(".") + ".",
        label=Latex(re.sub(r"[^A-Za-z0-9:-]", "_", table.name)),
        datasets={block.dataset: table.heading(block.dataset) for block in table.blocks},
        cell=_cell,
        published=_published,
        comparators=COMPARATORS,
        baseline=_baseline,
    )


def _cell(number: Number | None) -> Latex:
    """Two columns: mean and spread."""
    if number is None:
        return Latex(r"\multicolumn{2}{c}{--}")
    mean = f"{number.mean:.1f}".replace("-", "$-$")
    if number.is_best:
        mean = rf"\textbf{{{mean}}}"
    spread = "" if number.std is None else rf"\spread{{{number.std:.1f}}}"
    return Latex(f"{mean} & {spread}")


def _published(row: Comparator, dataset: str, column: Column) -> Latex:
    """Two columns: another work's number, where it is of this protocol."""
    return Latex(f"{row.numbers[dataset]:.1f} & " if column.metric == row.protocol else r"\multicolumn{2}{c}{}")


def _baseline(number: Number | None, columns: int) -> Latex:
    """All columns of a group."""
    text = "--" if number is None else f"{number.mean:.1f}"
    return Latex(rf"\multicolumn{{{2 * columns}}}{{c}}{{{text}}}")


def to_csv(table: MetricTable) -> str:
    """One line per dataset, row or baseline, and metric, cells without a number left out, in full precision.

    With comparators or reference rows there is a further column, `kind`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    has_kinds = bool(table.comparators) or any(row.kind != MEASURED for block in table.blocks for row in block.rows)
    writer.writerow([*COLUMNS, *["kind"] * has_kinds])
    groups = [name.lower().replace(" ", "_") for name, _ in table.groups]
    for block in table.blocks:
        named = [(line, [column.metric for column in table.columns]) for line in block.rows]
        named += [(replace(line, kind=BASELINE), groups) for line in block.baselines]
        for line, metrics in named:
            for metric, number in zip(metrics, line.numbers, strict=True):
                if number is not None:
                    values = (number.mean, "" if number.std is None else number.std, number.seeds, number.n)
                    origin = (table.profile, table.protocol, table.data.get(block.dataset, ""))
                    writer.writerow(
                        [line.name, line.label, block.dataset, metric, *values, *origin, *[line.kind] * has_kinds]
                    )
        for row in table.compared(block.dataset):
            published = (row.numbers[block.dataset], "", "", "")
            writer.writerow(
                ["", row.label, block.dataset, row.protocol, *published, "", row.setting, row.source, COMPARATOR]
            )
    return text.getvalue()


def to_text(table: MetricTable) -> RichTable:
    """Table for the terminal; a group of columns becomes one column."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    caption = " ".join((*table.caption, *table.footnotes))
    view = RichTable(title=escape(table.title), caption=escape(caption), caption_justify="left")
    view.add_column("Method", no_wrap=True)
    labels = iter(table.columns)
    for heading, columns in table.groups:
        below = "/".join(next(labels).label for _ in range(columns))
        view.add_column(f"{heading}\n{below}" if columns > 1 else heading, justify="right")
    for block in table.blocks:
        view.add_section()
        view.add_row(f"[italic]{escape(table.heading(block.dataset))}[/]")
        for line in block.rows:
            numbers = map(_terminal, line.numbers)
            joined = ["/".join(next(numbers) for _ in range(columns)) for _, columns in table.groups]
            view.add_row(escape(line.label), *joined)
        for line in block.baselines:
            view.add_row(f"[dim]{escape(line.label)}[/]", *map(_terminal, line.numbers))
        if table.compared(block.dataset):
            view.add_row(f"[italic]{COMPARATORS}[/]")
        for row in table.compared(block.dataset):
            shown = (f"{row.numbers[block.dataset]:.1f}" if c.metric == row.protocol else "" for c in table.columns)
            view.add_row(f"[dim]{escape(row.label)}[/]", *shown)
    return view


def _terminal(number: Number | None) -> str:
    if number is None:
        return "-"
    spread = "" if number.std is None else f" ±{number.std:.1f}"
    return (f"[bold]{number.mean:.1f}[/]" if number.is_best else f"{number.mean:.1f}") + spread
