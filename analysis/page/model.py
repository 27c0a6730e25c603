"""What the report page shows, as plain data without any HTML, and the one file that it becomes.

A further table or figure on the page is one more `PageTable` or `PageFigure` in a `Section`.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from suite.atomic import write_text
from suite.text import duration

TEMPLATES = Path(__file__).parent / "templates"
State = Literal["done", "failed", "running", "interrupted", "new"]


@dataclass(frozen=True, slots=True)
class PageCell:
    """One number of a table. Every part is text as printed, but `sort`."""

    text: str
    sort: float | None = None  # what the column is sorted by; None: a hole, last in either order
    spread: str = ""  # without the sign
    delta: str = ""  # signed; the sign decides the colour
    delta_mark: str = ""
    is_best: bool = False
    is_second: bool = False
    mark: str = ""  # such as a dagger
    link: str = ""  # id of the place on the page that has the details


@dataclass(frozen=True, slots=True)
class PageRow:
    """A line of a table."""

    label: str
    cells: Sequence[PageCell]


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table in blocks of rows, such as measured and published; rows are sorted within their block."""

    id: str  # unique on the page
    title: str
    notes: Sequence[str]  # sentences of the caption
    columns: Sequence[str]  # all but the first, whose heading is `head`
    blocks: Sequence[tuple[str, Sequence[PageRow]]]  # heading and rows; an empty heading is not printed
    latex: str = ""  # what the buttons copy; empty: no button
    csv: str = ""
    head: str = "Method"

    def has(self, part: str) -> bool:
        """Whether any cell has this part, such as `delta`; the others then keep its place free."""
        return any(getattr(cell, part) for _, rows in self.blocks for row in rows for cell in row.cells)


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A picture, embedded into the page."""

    id: str
    title: str
    notes: Sequence[str]
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as a data: address, as WebP: a sixth of the PNG, which lies beside the page unchanged."""
        from PIL import Image

        small = io.BytesIO()
        with Image.open(io.BytesIO(self.png)) as image:
            image.convert("RGB").save(small, "WEBP", quality=90, method=4)
        return f"data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, two of the picture's to one, so that the place is kept while it decodes."""
        from PIL import Image

        with Image.open(io.BytesIO(self.png)) as image:
            return image.width // 2, image.height // 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a recipe and where it comes from."""

    path: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class SeedLine:
    """One seed of a cell: its numbers by protocol, and its jobs as (role, key, state)."""

    seed: int
    numbers: dict[str, str]
    seconds: float  # of training, of all its jobs, those it shares with other cells included
    jobs: Sequence[tuple[str, str, State]]


@dataclass(frozen=True, slots=True)
class CellDetail:
    """What lies behind one number: its seeds and its recipes, each with the heading it needs."""

    id: str
    row: str
    dataset: str
    headline: str  # the number as the table prints it, or the state that keeps it from being there
    protocols: Sequence[str]
    seeds: Sequence[SeedLine]
    recipes: Sequence[tuple[str, Sequence[Setting]]]


@dataclass(frozen=True, slots=True)
class JobDetail:
    """One stage of training: when, where and with what it ran, what it made, and its last words."""

    key: str
    name: str
    state: State
    seconds: float | None  # of training, over all attempts
    images_per_second: float | None
    commit: str
    environment: int | None  # number of the environment in the provenance
    files: dict[str, str]  # name -> SHA-256
    suspicious: Sequence[str]
    error: str
    log: str  # the last lines


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a reader must know before the numbers: a failure, a doubt, a hole."""

    kind: Literal["failed", "suspicious", "unfinished"]
    what: str
    why: str
    cells: Sequence[str]
    link: str = ""


@dataclass(frozen=True, slots=True)
class CurveRow:
    """The training curves of one row of a grid: (title, SVG) per panel."""

    label: str
    panels: Sequence[tuple[str, Markup]]


@dataclass(frozen=True, slots=True)
class Section:
    """One grid."""

    id: str
    title: str
    profile: str
    summary: str
    tables: Sequence[PageTable] = ()
    figures: Sequence[PageFigure] = ()
    curves: Sequence[CurveRow] = ()
    legend: Sequence[str] = ()  # of the curves: what each colour stands for
    cells: Sequence[CellDetail] = ()
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    summary: Sequence[str]
    sections: Sequence[Section]
    jobs: Sequence[JobDetail] = ()
    environments: Sequence[dict[str, str]] = ()
    provenance: Sequence[tuple[str, str]] = field(default=())

    @property
    def problems(self) -> list[tuple[Section, Problem]]:
        """Those of all sections, the worst first."""
        order = ("failed", "suspicious", "unfinished")
        found = [(section, problem) for section in self.sections for problem in section.problems]
        return sorted(found, key=lambda pair: order.index(pair[1].kind))


def render(page: Page) -> str:
    """The page as one HTML document that loads nothing: style, script and pictures are inside.

    Whatever stands in `page` is text and escaped; only `Markup`, which `analysis.page.curves` makes, is not. The
    document's own policy lets nothing run but its one script, known by hash, so that even a hole in the escaping
    would stay inert.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    style, script = ((TEMPLATES / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
    )


def write_page(page: Page, out: Path) -> Path:
    """Write `index.html` into the folder `out`."""
    path = out / "index.html"
    write_text(path, render(page))
    return path


def _hash(text: str) -> str:
    """A source in the form of a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
