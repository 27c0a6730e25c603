"""A table as LaTeX: one file that compiles on its own and can be \\input into a paper, in the form of the poster's."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.cells.published import COMPARATORS, Comparator
from analysis.cells.references import marked
from analysis.tables.accuracy import MINUS_PUBLISHED, AccuracyCell, Key, Table
from analysis.tables.latex_text import Latex, escape, named, unprintable
from suite.grid.spec import Row

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of the table."""

    label: str
    stage2: Latex
    cells: tuple[Latex, ...]


_Lines = tuple[_Line, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows below a heading; without one where the columns' headings say it all."""

    heading: str
    lines: _Lines


@dataclass(frozen=True, slots=True)
class _Layout:
    """Groups of three columns (mean, spread, difference) and the blocks of rows below them."""

    groups: tuple[Latex, ...]
    blocks: tuple[_Block, ...]


def to_latex(table: Table) -> str:
    """The LaTeX source. The same table gives the same bytes.

    The published numbers stand below the measured ones under a heading of their own, with their own deltas and their
    own best, and below them the differences of the two; with one dataset, all three side by side. An \\input into a
    two-column document spans both columns; the type shrinks until the table fits.
    """
    return render(
        "table.tex.j2",
        table=table,
        title=table.title.rstrip(".") + ".",
        label=Latex(re.sub(r"[^A-Za-z0-9:-]", "_", table.name)),
        layout=_beside(table) if len(table.datasets) == 1 and table.published else _stacked(table),
        whole=3 if any(cell.mean >= 99.995 for cell in _all_cells(table)) else 2,
    )


def render(template: str, **values: object) -> str:
    """A template of analysis/tables/templates with `values`; all but `Latex` is escaped, empty lines are left out."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=False,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # that would be HTML's; `finalize` escapes for LaTeX
        finalize=escape,
    )
    source = environment.get_template(template).render(**values)
    source = re.sub(r"\n(?:[ \t]*\n)+", "\n", source).lstrip("\n")  # an empty line would be a paragraph
    missing = [named(character) for character in unprintable(source)]
    if missing:
        log.warning("the LaTeX table prints as code points, which LaTeX's default fonts lack: %s", ", ".join(missing))
    return source + "".join(
        f"% Printed as a code point, for LaTeX's default fonts lack it: {name}\n" for name in missing
    )


def _stacked(table: Table) -> _Layout:
    """A group of columns per dataset; measured, published and their difference one below the other."""
    profile = f" (profile {table.profile})" if table.profile else ""
    blocks = [_Block(f"Measured{profile}", _lines(table, table.rows, table.cells))]
    if table.published:
        blocks.append(_Block(table.published_heading, _lines(table, table.published_rows, table.published)))
    if minus := table.minus_published:
        rows = table.published_rows
        lines = tuple(_line(row, (_signed(minus.get((row.name, name))) for name in table.datasets)) for row in rows)
        blocks.append(_Block(MINUS_PUBLISHED, lines))
    if table.comparators:
        blocks.append(_Block(COMPARATORS, tuple(_comparator(row, table.datasets) for row in table.comparators)))
    headings = zip(table.datasets, table.labels, strict=True)
    return _Layout(tuple(_heading(label, _star(table, name)) for name, label in headings), tuple(blocks))


def _heading(label: str, mark: str) -> Latex:
    """A dataset above its columns; a long label's part in parentheses goes into a second line."""
    first, separator, second = label.partition(" (")
    if not separator:
        return Latex(escape(label) + mark)
    return Latex(rf"\begin{{tabular}}[b]{{@{{}}c@{{}}}}{escape(first)}\\({escape(second)}{mark}\end{{tabular}}")


def _beside(table: Table) -> _Layout:
    """A group of columns each for measured, published and their difference, of the one dataset there is."""
    (dataset,), minus = table.datasets, table.minus_published
    lines = []
    for row in table.rows:
        key = row.name, dataset
        both = _cell(table.cells[key]), _cell(table.published.get(key))
        lines.append(_line(row, (*both, _signed(minus.get(key))) if minus else both))
    measured = Latex(escape(f"Measured, {table.labels[0]}") + _star(table, dataset))
    groups = (measured, Latex("Published"), Latex("Difference"))[: 3 if minus else 2]
    blocks = [_Block("", tuple(lines))]
    if table.comparators:
        others = [_comparator(row, [dataset]) for row in table.comparators]
        gap = Latex(r"\multicolumn{3}{c}{}")
        blocks.append(_Block(COMPARATORS, tuple(replace(o, cells=(gap, *o.cells, gap)[: len(groups)]) for o in others)))
    return _Layout(groups, tuple(blocks))


def _star(table: Table, dataset: str) -> str:
    return r"\rlap{*}" if dataset in table.partial else ""


def _all_cells(table: Table) -> Iterable[AccuracyCell]:
    return (cell for cell in (*table.cells.values(), *table.published.values()) if cell is not None)


def _lines(table: Table, rows: Iterable[Row], cells: Mapping[Key, AccuracyCell | None]) -> _Lines:
    return tuple(_line(row, (_cell(cells.get((row.name, name))) for name in table.datasets)) for row in rows)


def _line(row: Row, cells: Iterable[Latex]) -> _Line:
    return _Line(marked(row), Latex("--" if row.objective is None else "yes" if row.stage2 else "no"), tuple(cells))


def _comparator(row: Comparator, datasets: Iterable[str]) -> _Line:
    means = (f"{row.numbers[name]:.2f} &  & " if name in row.numbers else None for name in datasets)
    return _Line(row.label, Latex(""), tuple(_cell(None) if mean is None else Latex(mean) for mean in means))


def _cell(cell: AccuracyCell | None) -> Latex:
    """Three columns: mean, spread, difference to the reference. For siunitx, what is no plain number is in braces."""
    if cell is None:
        return Latex(r"\multicolumn{3}{c}{--}")
    mean = f"{cell.mean:.2f}"
    if cell.is_best or cell.is_second:
        mean = rf"\{'textbf' if cell.is_best else 'underline'}{{{mean}}}"
    if cell.marks:  # left of the number, where it moves no digit of the column
        mean = rf"\llap{{$^{{{''.join(escape(sign).strip('$') for sign in cell.marks)}}}$}}{mean}"
    if not mean[0].isdigit():
        mean = f"{{{mean}}}"
    spread = "" if cell.std is None else rf"\spread{{{cell.std:.2f}}}"
    delta = ""
    if cell.is_reference:
        delta = "--"
    elif cell.delta is not None:  # the sign is that of the unrounded difference
        delta = rf"\{cell.change or 'undecided'}{{{cell.delta:+.2f}}}"
    if cell.misprinted:
        delta += r"\rlap{$^{\mathparagraph}$}"
    return Latex(f"{mean} & {spread} & {delta}")


def _signed(difference: float | None) -> Latex:
    """Three columns, the difference under the means."""
    if difference is None:
        return Latex(r"\multicolumn{3}{c}{--}")
    return Latex(rf"{{\signed{difference:+.2f}\relax}} &  & ")
