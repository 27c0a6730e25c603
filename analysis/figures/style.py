"""Figures for papers: Grad-CAM maps over photographs, and contact sheets. No pyplot, so no global state."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from suite.data.record import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

# Fonts are embedded as TrueType (42): journals refuse type 3. The family ships with matplotlib, so it is everywhere.
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "pdf.fonttype": 42,
    "axes.linewidth": 0.5,
    "text.parse_math": False,
}
PANELS = "Panels"  # text chunk of the PNG: JSON of `panels`
COLOUR_MAP, ALPHA, DARKEST = "viridis", 0.6, -130  # map over photograph; grey value that would be drawn black
WIDTH, LABEL, BAR, GAP, CELL = 6.9, 1.0, 0.5, 0.05, 1.25  # inches: a page's text, label and scale columns, gap, panel


@dataclass(frozen=True, slots=True, eq=False)
class CamColumn:
    """One network of a Grad-CAM figure."""

    label: str
    maps: ArrayLike  # [N, H, W], not negative, un-normalised: what `methods.measures.grad_cam.grad_cam` returns


def density(maps: ArrayLike) -> NDArray[np.float64]:
    """Each map divided by its own mean: [N, H, W] -> [N, H, W], where 1 is what a uniform map has everywhere.

    Raw Grad-CAM is in units of the logit, which differ from network to network: multiplying the classifier by two
    doubles the map and moves no prediction. The mean takes out just that factor. What is left says how many times its
    even share a place gets, and means the same for every network; a common scale over raw maps would show which logits
    are large, and one scale per map would make a flat map look like a peaked one. An all-zero map stays zero.
    """
    array = np.asarray(maps, dtype=np.float64)
    if array.ndim != 3 or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"expected finite maps [N, H, W] that are not negative, got shape {array.shape}")
    mean = array.mean(axis=(1, 2), keepdims=True)
    return array / np.where(mean > 0, mean, 1.0)


def cam_figure(
    columns: Sequence[CamColumn],
    images: NDArray[np.uint8],
    row_labels: Sequence[str],
    *,
    boxes: Sequence[Box | None] | None = None,
    title: str = "",
    notes: Sequence[str] = (),
    colours: str = COLOUR_MAP,
) -> Figure:
    """Images in rows; the photograph and then every network's map over it in columns; one colour scale per row.

    images [N, H, W, 3] as the networks saw them; boxes in pixels of these. row_labels may hold line breaks (class name,
    file name). The scale of a row runs from 0 to the highest `density` in it. Raises ValueError where shapes differ.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    maps = [density(column.maps) for column in columns]
    boxes = [None] * len(images) if boxes is None else boxes
    lengths = {len(images), len(row_labels), len(boxes)}
    if not maps or len(lengths) != 1 or any(m.shape != images.shape[:3] for m in maps):
        shapes = [m.shape for m in maps]
        raise ValueError(
            f"images {images.shape}, maps {shapes}, {len(row_labels)} labels, {len(boxes)} boxes: no match"
        )
    cell = min(CELL, (WIDTH - LABEL - BAR) / (1 + len(columns)) - GAP)
    tall = cell * images.shape[1] / images.shape[2]
    width = LABEL + BAR + (1 + len(columns)) * (cell + GAP)
    text = textwrap.fill(" ".join(notes), int(width * 19), break_long_words=False)
    top, bottom = (0.4 if title else 0.25), 0.1 + 0.12 * len(text.splitlines())
    height = top + bottom + len(images) * (tall + GAP)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))

        def panel(row: int, column: int) -> Axes:
            left, up = LABEL + column * (cell + GAP), top + row * (tall + GAP)
            axes = figure.add_axes((left / width, 1 - (up + tall) / height, cell / width, tall / height))
            axes.set_axis_off()
            return axes

        for row, (image, label) in enumerate(zip(images, row_labels, strict=True)):
            highest = max(float(m[row].max()) for m in maps) or 1.0
            for column in range(1 + len(columns)):
                axes = panel(row, column)
                if column == 0:
                    axes.imshow(image)
                    axes.text(-0.06, 0.5, wrapped(label), transform=axes.transAxes, ha="right", va="center", size=6)
                else:
                    shade = overlay(axes, image, maps[column - 1][row], highest, colours)
                outline(axes, boxes[row])
                if row == 0:
                    name = "Image" if column == 0 else columns[column - 1].label
                    axes.set_title(name, size=7.5, pad=3)
            place = (width - BAR, height - top - row * (tall + GAP) - 0.92 * tall, 0.09, 0.84 * tall)
            scale = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
            figure.colorbar(shade, cax=scale, ticks=[0.0, 1.0, highest] if highest > 1.5 else [0.0, highest])
            scale.tick_params(labelsize=6, length=2, width=0.5, pad=1.5)
            if row == 0:
                scale.text(0, 1 + 0.11 / (0.84 * tall), "× mean", transform=scale.transAxes, size=6, va="center")
            scale.yaxis.set_major_formatter(lambda value, _position: f"{value:.3g}")
        figure.text(LABEL / width, 1 - 0.06 / height, title, ha="left", va="top", size=8.5)
        figure.text(LABEL / width, 0.04 / height, text, ha="left", va="bottom", size=6, linespacing=1.35)
    return figure


def contact_sheet(
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[Any] | None] | None = None,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Image:
    """Images [H, W, 3] of any sizes side by side, with the outline of their masks [H, W] and a title over each.

    A mask is drawn where it passes half of its range: 0..255 for integers, 0..1 for floats and booleans.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from PIL import Image

    masks = [None] * len(images) if masks is None else masks
    titles = [""] * len(images) if titles is None else titles
    if not len(images) == len(masks) == len(titles) or not images or columns < 1:
        raise ValueError(f"{len(images)} images, {len(masks)} masks, {len(titles)} titles, {columns} columns: no match")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    with mpl.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02)
        figure = Figure(figsize=(1.5 * columns, 1.65 * rows), layout=layout)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, image, mask, name in zip(grid, images, masks, titles, strict=False):
            axes.imshow(image)
            axes.set_title(name, size=7, pad=2)
            if mask is not None:
                _outline_mask(axes, mask)
        png = io.BytesIO()
        figure.savefig(png, dpi=150)
    return Image.open(png).convert("RGB")


def _outline_mask(axes: Axes, mask: NDArray[Any]) -> None:
    half = 127.5 if np.issubdtype(mask.dtype, np.integer) else 0.5
    padded = np.pad(mask.astype(np.float64), 1)  # so that a mask touching the edge still closes
    place = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
    axes.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))
    if padded.max() > half:
        for colour, width in (("black", 1.8), ("#ffd92f", 0.9)):
            axes.contour(*place, padded, levels=[half], colors=colour, linewidths=width)


def save(figure: Figure, stem: Path, record: Mapping[str, object] | None = None) -> list[Path]:
    """Write stem.pdf and stem.png (200 dpi), and `record`, such as the files of the images shown, as stem.json.

    Returns the paths written. Holds neither dates nor versions: the same figure gives the same bytes. The PNG of a
    figure with photographs or maps says where they are (`PANELS`).
    """
    import matplotlib as mpl

    # Not with_suffix: the stem may hold a dot.
    written = [stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png")]
    with mpl.rc_context(STYLE):
        figure.savefig(written[0], dpi=200, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        places = panels(figure)  # after the first file, which has fixed the layout
        about = {PANELS: json.dumps(places)} if places else {}
        figure.savefig(written[1], dpi=200, metadata={"Software": None, **about})
    if record is not None:
        written.append(stem.with_name(f"{stem.name}.json"))
        written[-1].write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return written


def panels(figure: Figure) -> list[list[float]]:
    """[left, top, width, height] of every photograph, map and colour scale, in shares of the figure's size.

    On a dark page everything else is shown with light and dark exchanged (`analysis/page`).
    """
    from matplotlib.collections import QuadMesh

    shown = [axes for axes in figure.axes if axes.images or any(isinstance(c, QuadMesh) for c in axes.collections)]
    boxes = [axes.get_position() for axes in shown]
    return [[round(part, 4) for part in (box.x0, 1 - box.y1, box.width, box.height)] for box in boxes]


def wrapped(label: str, width: int = 15) -> str:
    """A label in lines of at most `width` letters; names with underscores may break after them."""
    broken = (textwrap.wrap(line.replace("_", "_ "), width) for line in label.split("\n"))
    return "\n".join(line.replace("_ ", "_") for lines in broken for line in lines)


def overlay(
    axes: Axes, image: NDArray[np.uint8], shade: NDArray[np.float64], highest: float, colours: str = COLOUR_MAP
) -> Any:
    """The map over the photograph without its colours and its darkness, which would mix with the map's."""
    axes.imshow(image @ np.array([0.299, 0.587, 0.114]), cmap="gray", vmin=DARKEST, vmax=255)
    if not shade.any():
        axes.text(0.5, 0.03, "zero map", transform=axes.transAxes, ha="center", va="bottom", size=6, color="white")
    return axes.imshow(shade, cmap=colours, vmin=0, vmax=highest, alpha=ALPHA)


def outline(axes: Axes, box: Box | None) -> None:
    """The box as a thin line that shows on light and dark ground. Pixel i covers i - 0.5 .. i + 0.5 in the axes."""
    from matplotlib.patches import Rectangle

    if box is not None:
        for colour, width in (("black", 1.4), ("white", 0.6)):
            corner, size = (box.x0 - 0.5, box.y0 - 0.5), (box.x1 - box.x0, box.y1 - box.y0)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width))
