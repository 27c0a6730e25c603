"""Aircraft: one airliner body plan; variants differ by engines, tail, stripe, wing tips, nose and windows."""

from __future__ import annotations

import colorsys

import numpy as np

from suite.data.synthetic.canvas import Canvas, Colour, Point, tint
from suite.data.synthetic.parts import Parts

PARTS: dict[str, tuple[str, ...]] = {
    "engines": ("pod", "two-pods", "rear", "propeller"),
    "tail": ("swept", "t-tail", "twin", "rounded"),
    "stripe": ("plain", "line", "belly", "band"),
    "tips": ("plain", "blade", "tank"),
    "nose": ("round", "pointed", "radome"),
    "windows": ("row", "sparse", "two-deck"),
}
EXTENT = (-1.18, -0.8, 1.14, 0.68)  # body units that nearly every pose of every variant fits

_DARK: Colour = (26, 34, 62)
_GLASS: Colour = (40, 46, 58)
_RED: Colour = (206, 44, 36)
_METAL: Colour = (150, 154, 162)


def draw_aircraft(canvas: Canvas, parts: Parts, rng: np.random.Generator) -> None:
    """Draw one aircraft of the variant `parts`; `rng` chooses its paint, which says nothing of the variant."""
    hue, saturation = rng.uniform(0, 1), rng.choice([0.04, rng.uniform(0.1, 0.6)])
    r, g, b = colorsys.hsv_to_rgb(hue, float(saturation), rng.uniform(0.74, 0.97))
    paint: Colour = (round(255 * r), round(255 * g), round(255 * b))
    wing = tint(paint, rng.uniform(0.62, 0.74))

    canvas.polygon([(0.22, -0.16), (-0.12, -0.16), (-0.46, -0.5), (-0.32, -0.5)], tint(wing, 0.82))
    _tail(canvas, parts["tail"], tint(paint, 0.85), wing)
    hull: list[Point] = [
        (0.90, -0.15), (0.62, -0.25), (0.0, -0.27), (-0.6, -0.24), (-1.0, -0.15), (-1.14, -0.09), (-0.92, 0.08),
        (-0.5, 0.24), (0.1, 0.29), (0.66, 0.26), (0.94, 0.17),
    ]  # fmt: skip
    canvas.blob([(1.22, 0.13) if parts["nose"] == "pointed" else (1.04, 0.02), *hull], paint)
    if parts["nose"] == "radome":
        canvas.ellipse((1.04, 0.03), 0.2, 0.3, _DARK, inside=True)
    canvas.polygon([(0.66, -0.18), (0.84, -0.15), (0.9, -0.05), (0.68, -0.07)], _GLASS, inside=True)
    _stripe(canvas, parts["stripe"])
    _windows(canvas, parts["windows"])
    if parts["engines"] == "rear":
        canvas.ellipse((-0.62, -0.1), 0.25, 0.115, _METAL)
        canvas.ellipse((-0.42, -0.1), 0.055, 0.1, _GLASS)
    canvas.polygon([(0.3, 0.12), (-0.16, 0.12), (-0.66, 0.62), (-0.44, 0.62)], wing)
    canvas.stroke([(-0.12, 0.14), (-0.6, 0.6)], 0.03, tint(wing, 0.75), inside=True)
    _tips(canvas, parts["tips"])
    _engines(canvas, parts["engines"])


def _tail(canvas: Canvas, kind: str, colour: Colour, wing: Colour) -> None:
    if kind == "rounded":
        canvas.blob([(-0.5, -0.16), (-0.74, -0.5), (-0.96, -0.62), (-1.12, -0.5), (-1.1, -0.1)], colour)
    elif kind == "twin":
        canvas.polygon([(-0.44, -0.2), (-0.64, -0.62), (-0.78, -0.62), (-0.74, -0.2)], tint(colour, 0.7))
        canvas.polygon([(-0.8, -0.14), (-1.04, -0.58), (-1.18, -0.58), (-1.12, -0.06)], colour)
    else:
        canvas.polygon([(-0.58, -0.2), (-0.96, -0.74), (-1.18, -0.74), (-1.08, -0.08)], colour)
    if kind == "t-tail":
        canvas.polygon([(-0.66, -0.72), (-0.82, -0.84), (-1.2, -0.82), (-1.22, -0.7)], wing)
    else:
        canvas.polygon([(-0.76, -0.04), (-1.0, -0.04), (-1.22, 0.14), (-1.1, 0.14)], wing)


def _stripe(canvas: Canvas, kind: str) -> None:
    if kind == "line":
        canvas.stroke([(1.1, 0.1), (0.4, 0.11), (-0.5, 0.06), (-1.2, -0.1)], 0.085, _DARK, inside=True)
    elif kind == "belly":
        canvas.polygon([(1.2, 0.16), (0.4, 0.14), (-0.6, 0.09), (-1.2, -0.02), (-0.8, 0.4), (1.0, 0.4)], _DARK, True)
    elif kind == "band":
        canvas.polygon([(-0.26, -0.4), (-0.5, -0.4), (-0.62, 0.4), (-0.38, 0.4)], _DARK, inside=True)


def _windows(canvas: Canvas, kind: str) -> None:
    row = np.linspace(-0.66, 0.56, 5 if kind == "sparse" else 12)
    size = (0.075, 0.06) if kind == "sparse" else (0.028, 0.032)
    for x in row:
        canvas.ellipse((float(x), -0.03), *size, _GLASS, inside=True)
    if kind == "two-deck":
        canvas.stroke([(0.52, -0.165), (0.1, -0.175), (-0.2, -0.172)], 0.075, _GLASS, inside=True)


def _tips(canvas: Canvas, kind: str) -> None:
    if kind == "blade":
        canvas.polygon([(-0.42, 0.62), (-0.66, 0.62), (-0.82, 0.3), (-0.68, 0.3)], _RED)
    elif kind == "tank":
        canvas.ellipse((-0.54, 0.63), 0.23, 0.08, _RED)


def _engines(canvas: Canvas, kind: str) -> None:
    if kind == "pod":
        _pod(canvas, (-0.02, 0.42), 1.25)
    elif kind == "two-pods":
        _pod(canvas, (0.12, 0.33), 0.9)
        _pod(canvas, (-0.2, 0.57), 0.9)
    elif kind == "propeller":
        canvas.ellipse((0.04, 0.32), 0.24, 0.075, tint(_METAL, 0.7))
        canvas.ellipse((0.27, 0.32), 0.035, 0.27, (236, 214, 120))
        canvas.ellipse((0.3, 0.32), 0.06, 0.05, _GLASS)


def _pod(canvas: Canvas, centre: Point, size: float) -> None:
    x, y = centre
    canvas.ellipse(centre, 0.21 * size, 0.105 * size, _METAL)
    canvas.ellipse((x + 0.165 * size, y), 0.05 * size, 0.095 * size, _GLASS)
