"""Two layouts for many class activation maps: networks below each other, and the poster's stages side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.style import CELL, COLOUR_MAP, GAP, STYLE, WIDTH, CamColumn, density, outline, overlay, wrapped
from suite.data.record import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT, LABEL, MARGIN = 9.2, 0.95, 0.06  # inches: a page's text at most, the column of names, at the edges
BAR, LINE = 0.1, 0.125  # inches: thickness of a colour scale, a line of notes
ROOM = 0.4  # inches: narrower scales have no place for a label at either end


@dataclass(eq=False)
class _Sheet:
    """A figure whose parts are placed in inches from its top left corner."""

    width: float
    height: float
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(self.width, self.height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, text, **style)

    def scale(self, shade: Any, axes: Axes, highest: float, orientation: str) -> None:
        """The colour scale of `shade`, in multiples of a map's mean."""
        most = 6.0 if orientation == "horizontal" else math.inf  # above it the labels 0 and 1 would meet
        ticks = [0.0, 1.0, highest] if 1.5 < highest < most else [0.0, highest]
        if orientation == "horizontal" and axes.get_position().width * self.width < ROOM:
            ticks = [highest]
        self.figure.colorbar(shade, cax=axes, ticks=ticks, orientation=orientation)
        axes.tick_params(labelsize=5.5, length=2, width=0.5, pad=1.5)
        axis = axes.xaxis if orientation == "horizontal" else axes.yaxis
        axis.set_major_formatter(lambda value, _position: f"{value:.3g}")
        if orientation == "horizontal":  # the ends stay inside, where the neighbour's labels are not
            axes.get_xticklabels()[0].set_horizontalalignment("left")
            axes.get_xticklabels()[-1].set_horizontalalignment("right")


def networks_figure(
    columns: Sequence[CamColumn],
    images: NDArray[np.uint8],
    image_labels: Sequence[str],
    *,
    boxes: Sequence[Box | None],
    notes: Sequence[str] = (),
    colours: str = COLOUR_MAP,
) -> Figure:
    """Images in columns, networks in rows, the photographs above; one colour scale per image, below its column.

    Same arguments as `analysis.figures.style.cam_figure`; for more networks than fit side by side.
    """
    import matplotlib as mpl

    maps = [density(column.maps) for column in columns]
    rough = min(CELL, (WIDTH - LABEL) / len(images), (HEIGHT - 1.3) / (1 + len(maps)))  # inches; a letter takes .05
    titles = [wrapped(label, int(rough / 0.05)) for label in image_labels]
    head = 0.08 + 0.085 * max(len(title.splitlines()) for title in titles)
    cell = min(CELL, (WIDTH - LABEL) / len(images), (HEIGHT - head - 0.8) / (1 + len(maps)) - GAP)
    width = max(LABEL + len(images) * (cell + GAP), 3.3)
    text = _note(notes, width)
    foot = 0.42 + LINE * len(text.splitlines())
    with mpl.rc_context(STYLE):
        sheet = _Sheet(width, head + foot + (1 + len(maps)) * (cell + GAP))
        for column, (image, box) in enumerate(zip(images, boxes, strict=True)):
            left = LABEL + column * (cell + GAP)
            highest = max(float(m[column].max()) for m in maps) or 1.0
            axes = _bare(sheet.axes(left, head, cell, cell))
            axes.imshow(image)
            outline(axes, box)
            axes.set_title(titles[column], size=5, pad=2)
            for row, shades in enumerate(maps, 1):
                axes = _bare(sheet.axes(left, head + row * (cell + GAP), cell, cell))
                shade = overlay(axes, image, shades[column], highest, colours)
                outline(axes, box)
            bottom = head + (1 + len(maps)) * (cell + GAP) + 0.03
            sheet.scale(shade, sheet.axes(left + 0.06 * cell, bottom, 0.88 * cell, BAR), highest, "horizontal")
        for row, name in enumerate(["Image", *(column.label for column in columns)]):
            middle = head + row * (cell + GAP) + cell / 2
            sheet.text(LABEL - 0.07, middle, _name(name), ha="right", va="center", size=7)
        sheet.text(LABEL - 0.07, bottom + BAR / 2, "× mean", ha="right", va="center", size=6)
        sheet.text(MARGIN, sheet.height - 0.04, text, ha="left", va="bottom", size=6, linespacing=1.35)
    return sheet.figure


Maps = tuple[NDArray[Any] | str, NDArray[Any] | str]  # of the two methods


@dataclass(frozen=True, slots=True, eq=False)
class StageMaps:
    """The maps [N, H, W] of the poster's panel. A str in place of maps says why they are missing."""

    methods: tuple[str, str]  # names of the two rows
    first: NDArray[Any] | str | Maps  # after the first stage: of the network that the two methods share, or of each
    second: Maps  # the second stage only
    dual: Maps


def stages_figure(
    stages: StageMaps,
    images: NDArray[np.uint8],
    image_labels: Sequence[str],
    *,
    boxes: Sequence[Box | None],
    notes: Sequence[str] = (),
    colours: str = COLOUR_MAP,
) -> Figure:
    """The poster's panel: image | (a) stage 1 only | (b) stage 2 only | (c) dual stage, two methods below each other.

    The image, and the network after the first stage where the methods share it, are drawn once, between their rows. All
    maps of an image have one colour scale.
    """
    import matplotlib as mpl

    first = list(stages.first) if isinstance(stages.first, tuple) else [stages.first]
    columns: list[list[NDArray[Any] | str]] = [first, list(stages.second), list(stages.dual)]
    shades = [[part if isinstance(part, str) else density(part) for part in column] for column in columns]
    named = 2 if len(first) == 1 else 1  # the methods' names stand left of the first column with a map of each
    head, between, name = 0.36, 0.12, 0.75
    cell = min(1.15, ((HEIGHT - head - 0.5) / len(images) - between) / 2 - GAP)
    width = LABEL + name + 4 * (cell + GAP) + 0.45
    text = _note(notes, width)
    foot = 0.08 + LINE * len(text.splitlines())
    block = 2 * (cell + GAP) + between
    with mpl.rc_context(STYLE):
        sheet = _Sheet(width, head + foot + len(images) * block)
        for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
            top = head + index * block
            half = (cell + GAP) / 2
            maps = [part[index] for column in shades for part in column if not isinstance(part, str)]
            highest = max((float(part.max()) for part in maps), default=1.0) or 1.0
            axes = _bare(sheet.axes(LABEL, top + half, cell, cell))
            axes.imshow(image)
            outline(axes, box)
            sheet.text(
                LABEL - 0.07, top + half + cell / 2, wrapped(image_labels[index]), ha="right", va="center", size=6
            )
            bar = None
            for position, column in enumerate(shades):
                left = LABEL + (cell + GAP) * (1 + position) + (name if 1 + position >= named else 0.0)
                for row, part in enumerate(column):
                    down = half if len(column) == 1 else row * (cell + GAP)
                    axes = _bare(sheet.axes(left, top + down, cell, cell))
                    if isinstance(part, str):
                        _missing_map(axes, part)
                    else:
                        bar = overlay(axes, image, part[index], highest, colours)
                        outline(axes, box)
            for row, method in enumerate(stages.methods):
                middle = top + row * (cell + GAP) + cell / 2
                right = LABEL + named * (cell + GAP) + name
                sheet.text(right - 0.07, middle, _name(method), ha="right", va="center", size=7)
            if bar is not None:
                bar_axes = sheet.axes(width - 0.4, top + 0.2, BAR, 2 * cell + GAP - 0.25)
                sheet.scale(bar, bar_axes, highest, "vertical")
                sheet.text(width - 0.4, top + 0.1, "× mean", ha="left", va="center", size=6)
        for position, title in enumerate(("Image", "(a)\nstage 1 only", "(b)\nstage 2 only", "(c)\ndual stage")):
            middle = LABEL + position * (cell + GAP) + cell / 2 + (name if position >= named else 0.0)
            sheet.text(middle, head - 0.05, title, ha="center", va="bottom", size=7)
        sheet.text(MARGIN, sheet.height - 0.04, text, ha="left", va="bottom", size=6, linespacing=1.35)
    return sheet.figure


def _note(notes: Sequence[str], width: float) -> str:
    """The notes in lines that fit a figure `width` inches wide."""
    return textwrap.fill(" ".join(notes), int((width - 2 * MARGIN) * 21), break_long_words=False)


def _name(label: str) -> str:
    """A network's label in lines that fit their column, its remark in one of its own."""
    return "\n".join(textwrap.fill(line, 15) for line in label.replace(" (", "\n(").split("\n"))


def _bare(axes: Axes) -> Axes:
    axes.set_axis_off()
    return axes


def _missing_map(axes: Axes, reason: str) -> None:
    """A frame with the reason why no map is here."""
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle(
            (0, 0), 1, 1, fill=False, edgecolor="#999999", linewidth=0.6, linestyle="--", transform=axes.transAxes
        )
    )
    axes.text(0.5, 0.5, textwrap.fill(reason, 16), transform=axes.transAxes, ha="center", va="center", size=5.5)
