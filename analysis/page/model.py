"""Data of the report page, free of HTML, and its rendering into one file.

To add a table or figure to the page, add a `PageTable` or `PageFigure` to a `Section`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from suite.atomic import write_text
from suite.text import duration

TEMPLATES = Path(__file__).parent / "templates"
MOST_EMBEDDED = 256 * 1024  # bytes of a file that is part of the page
State = Literal["done", "failed", "running", "interrupted", "new"]


@dataclass(frozen=True, slots=True)
class PageCell:
    """One number of a table. All parts are text as printed, except `sort`."""

    text: str
    sort: float | None = None  # sort key of the column; None: no number, last in both orders
    spread: str = ""  # without the sign
    delta: str = ""  # signed, or a dash
    change: Literal["gain", "loss", ""] = ""  # colour of the difference
    delta_mark: str = ""
    is_best: bool = False
    is_second: bool = False
    mark: str = ""  # such as a dagger
    hint: str = ""  # tooltip, such as an interval
    link: str = ""  # id of the cell's details on the page


@dataclass(frozen=True, slots=True)
class PageRow:
    """One row of a table."""

    label: str
    cells: Sequence[PageCell]


@dataclass(frozen=True, slots=True)
class PageBlock:
    """Rows below one heading."""

    heading: str  # empty: not printed
    rows: Sequence[PageRow]
    is_secondary: bool = False  # printed in grey: published numbers, baselines


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table in blocks of rows, such as measured and published; rows are sorted within their block."""

    id: str  # unique on the page
    title: str
    caption: Sequence[str]  # sentences below the title
    notes: Sequence[str]  # further sentences, folded
    columns: Sequence[str]  # all but the first, whose heading is `head`
    blocks: Sequence[PageBlock]
    latex: str = ""  # copied by the button; empty: no button
    csv: str = ""
    head: str = "Method"

    def has(self, part: str) -> bool:
        """Whether any cell has this part, such as `delta`; the other cells then leave room for it."""
        return any(getattr(cell, part) for block in self.blocks for row in block.rows for cell in row.cells)


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A picture embedded in the page."""

    id: str
    title: str
    notes: Sequence[str]
    png: bytes
    name: str = "figure"  # of its files, without the ending
    pdf: bytes = b""

    @property
    def downloads(self) -> list[tuple[str, str, str]]:
        """(kind, file name, address) per file. A file above `MOST_EMBEDDED` is a link to the one beside the page."""
        files = (("PDF", "application/pdf", self.pdf), ("PNG", "image/png", self.png))
        return [
            (kind, name := f"{self.name}.{kind.lower()}", _data(media, data) if len(data) <= MOST_EMBEDDED else name)
            for kind, media, data in files
            if data
        ]

    @property
    def panels(self) -> list[tuple[float, float, float, float]]:
        """(left, top, width, height) in CSS pixels of photographs and maps, whose colours a dark page leaves alone."""
        from PIL import Image

        from analysis.figures.style import PANELS

        with Image.open(io.BytesIO(self.png)) as image:
            panels = json.loads(image.info.get(PANELS, "[]"))
        width, height = self.size
        scale = (width, height, width, height)
        return [tuple(round(part * side, 1) for part, side in zip(panel, scale, strict=True)) for panel in panels]

    @property
    def uri(self) -> str:
        """The picture as a data: address, as WebP: a sixth of the PNG, which lies beside the page unchanged."""
        from PIL import Image

        small = io.BytesIO()
        with Image.open(io.BytesIO(self.png)) as image:
            image.convert("RGB").save(small, "WEBP", quality=90, method=4)
        return _data("image/webp", small.getvalue())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, half of the picture's. Reserves the space before the picture is decoded."""
        from PIL import Image

        with Image.open(io.BytesIO(self.png)) as image:
            return image.width // 2, image.height // 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a recipe and its origin."""

    path: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class SeedLine:
    """One seed of a cell: its numbers by protocol, and its jobs as (role, key, state)."""

    seed: int
    numbers: dict[str, str]
    seconds: float  # training time of all its jobs, shared ones included
    jobs: Sequence[tuple[str, str, State]]


@dataclass(frozen=True, slots=True)
class CellDetail:
    """Details of one number: its seeds and its recipes with their headings."""

    id: str
    row: str
    dataset: str
    headline: str  # the number as printed in the table, or the state of the cell
    protocols: Sequence[str]
    seeds: Sequence[SeedLine]
    recipes: Sequence[tuple[str, Sequence[Setting]]]

    @property
    def seconds(self) -> float:
        """Training time of all seeds, shared stages included."""
        return sum(seed.seconds for seed in self.seeds)


@dataclass(frozen=True, slots=True)
class JobDetail:
    """One job: state, speed, environment, files and the end of its log."""

    key: str
    name: str
    state: State
    seconds: float | None  # of training, over all attempts
    images_per_second: float | None
    commit: str
    environment: int | None  # number of its environment in the provenance section
    files: dict[str, str]  # name -> SHA-256
    suspicious: Sequence[str]
    error: str
    log: str  # the last lines


@dataclass(frozen=True, slots=True)
class Problem:
    """A failed job, a suspicious result, or unfinished cells."""

    kind: Literal["failed", "suspicious", "unfinished"]
    title: str
    reason: str
    cells: Sequence[str]
    link: str = ""


@dataclass(frozen=True, slots=True)
class CurveRow:
    """The training curves of one row of a grid: (title, SVG) per panel."""

    label: str
    panels: Sequence[tuple[str, Markup]]


@dataclass(frozen=True, slots=True)
class RowComparison:
    """Two rows beside each other, as `suite compare` shows them."""

    id: str
    rows: tuple[str, str]  # names, as the command takes them
    labels: tuple[str, str]
    protocol: str
    sentences: Sequence[str]
    numbers: Sequence[Sequence[str]]  # per dataset: heading, seeds, first, second, difference, interval
    forest: Markup
    curves: Sequence[tuple[str, Markup]]  # (title, SVG) per measure and dataset
    command: str  # that prints the same


@dataclass(frozen=True, slots=True)
class Section:
    """One grid."""

    id: str
    title: str
    profile: str
    summary: str
    setup: Sequence[str] = ()  # sentences on all of its tables, folded
    tables: Sequence[PageTable] = ()
    figures: Sequence[PageFigure] = ()
    curves: Sequence[CurveRow] = ()
    legend: Sequence[str] = ()  # of the curves: name of each colour
    cells: Sequence[CellDetail] = ()
    comparisons: Sequence[RowComparison] = ()
    ranking_note: str = ""  # the reason why there is no critical-difference figure
    reference: str = ""  # name of the row that is compared at first
    problems: Sequence[Problem] = ()

    @property
    def initial_rows(self) -> tuple[str, str]:
        """The two rows that are compared at first: the reference and the last other one."""
        names = list(self.choices)
        first = self.reference if self.reference in names else names[0]
        return first, next(name for name in reversed(names) if name != first)

    @property
    def choices(self) -> dict[str, str]:
        """Name and label of the rows that can be compared, in the order of the grid."""
        return dict(item for pair in self.comparisons for item in zip(pair.rows, pair.labels, strict=True))


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    summary: Sequence[str]
    sections: Sequence[Section]
    jobs: Sequence[JobDetail] = ()
    environments: Sequence[dict[str, str]] = ()
    provenance: Sequence[tuple[str, str]] = field(default=())
    creation: str = ""  # date and command; empty: not said

    @property
    def problems(self) -> list[tuple[Section, Problem]]:
        """Problems of all sections, most severe first."""
        order = ("failed", "suspicious", "unfinished")
        pairs = [(section, problem) for section in self.sections for problem in section.problems]
        return sorted(pairs, key=lambda pair: order.index(pair[1].kind))


def render(page: Page) -> str:
    """The page as one HTML document that loads nothing: style, script and pictures are inside.

    All text in `page` is escaped, except `Markup`, made by `analysis.page`. The content security policy allows
    only the one script, by hash, so that text which escaped the escaping could not run.
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
    environment.filters["number"] = _number
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


def _number(text: str) -> float | None:
    """The sort key of a printed number; None for a word."""
    try:
        return float(text)
    except ValueError:
        return None


def _data(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def _hash(text: str) -> str:
    """A source in the form of a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
