"""A table as LaTeX: one file that compiles on its own and can be \\input into a paper, in the form of the poster's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis.tables import PUBLISHED, Cell, Key, Table
from suite.grid.spec import Row

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''",
    "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "×": r"$\times$", "−": "$-$", "–": "--", "—": "---",
    "‘": "`", "’": "'", "“": "``", "”": "''", "²": "$^2$", "³": "$^3$", "°": r"$^\circ$", "µ": r"$\mu$",
    "≥": r"$\geq$", "≤": r"$\leq$", "…": r"\dots{}", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip


class Latex(str):
    """Text that is LaTeX already. Whatever else the template prints is escaped."""

    __slots__ = ()


_Lines = tuple[tuple[Row, tuple[Latex, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Block:
    heading: str
    lines: _Lines


def escape(text: object) -> Latex:
    """Plain text as LaTeX that prints it, on one line, with any font encoding.

    Letters outside ASCII lose their accent or become "?": the default fonts lack many of them.

    >>> escape("R&D_50 %")
    'R\\\\&D\\\\_50 \\\\%'
    """
    if isinstance(text, Latex):
        return text
    line = " ".join(str(text).split())
    return Latex("".join(_escaped(char, before) for char, before in zip(line, " " + line, strict=False)))


def _escaped(char: str, before: str) -> str:
    if char in "-'`" and before in "-'`?!":
        return "{}" + char  # else TeX would join them, as -- becomes a dash
    if char in _SPECIAL:
        return _SPECIAL[char]
    if char.isascii():
        return char if char.isprintable() else " "
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return "".join(_SPECIAL.get(c, c) for c in plain) or "?"


def to_latex(table: Table) -> str:
    """The LaTeX source. The same table gives the same bytes.

    The published numbers stand below the measured ones under a heading of their own, with their own deltas and their
    own best. An \\input into a two-column document spans both columns; the type shrinks until the table fits.
    """
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
    source = environment.get_template("table.tex.j2").render(
        table=table,
        title=table.title.rstrip(".") + ".",
        label=Latex(re.sub(r"[^A-Za-z0-9:-]", "_", table.name)),
        width=1 + table.shows_stage2 + 3 * len(table.datasets),
        blocks=tuple(_blocks(table)),
        stage2=_stage2,
    )
    return re.sub(r"\n(?:[ \t]*\n)+", "\n", source)  # an empty line would be a paragraph


def _blocks(table: Table) -> Iterable[_Block]:
    profile = f" (profile {table.profile})" if table.profile else ""
    yield _Block(f"Measured{profile}", _lines(table, table.rows, table.cells))
    if table.published:
        yield _Block(PUBLISHED, _lines(table, table.published_rows, table.published))


def _lines(table: Table, rows: Iterable[Row], cells: Mapping[Key, Cell | None]) -> _Lines:
    return tuple((row, tuple(_cell(cells.get((row.name, name))) for name in table.datasets)) for row in rows)


def _cell(cell: Cell | None) -> Latex:
    """Three columns: mean, spread, difference to the reference."""
    if cell is None:
        return Latex(r"\multicolumn{3}{c}{--}")
    mean = rf"\textbf{{{cell.mean:.2f}}}" if cell.is_best else f"{cell.mean:.2f}"
    # left of the number, where it moves no digit of the column
    dagger = r"\llap{$^{\dagger}$}" if cell.suspicious else ""
    spread = "" if cell.std is None else rf"\spread{{{cell.std:.2f}}}"
    delta = ""
    if cell.delta is not None:  # sign and colour are those of the unrounded difference
        delta = rf"\{'loss' if cell.delta < 0 else 'gain'}{{{cell.delta:+.2f}}}"
    return Latex(f"{dagger}{mean} & {spread} & {delta}")


def _stage2(row: Row) -> Latex:
    return Latex("--" if row.objective is None else "yes" if row.stage2 else "no")
