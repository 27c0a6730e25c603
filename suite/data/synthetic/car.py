"""Cars: one body plan seen from the front corner; models differ by roof, grille, lights, spoiler, wheels and trim."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from suite.data.synthetic.canvas import Canvas, Colour, Point, tint
from suite.data.synthetic.parts import Parts

PARTS: dict[str, tuple[str, ...]] = {
    "roof": ("sedan", "coupe", "wagon", "pickup"),
    "grille": ("bars", "kidney", "oval", "slot"),
    "lights": ("round", "slit", "square"),
    "spoiler": ("plain", "lip", "wing"),
    "wheels": ("disc", "spoked", "ringed"),
    "trim": ("plain", "clad", "striped"),
}
EXTENT = (-1.18, -0.62, 1.06, 0.66)  # body units that nearly every pose of every model fits

_BLACK: Colour = (24, 24, 28)
_GLASS: Colour = (62, 76, 92)
_CHROME: Colour = (222, 224, 228)
_LAMP: Colour = (255, 244, 190)


def draw_car(canvas: Canvas, parts: Parts, rng: np.random.Generator) -> None:
    """Draw one car of the model `parts`; `rng` chooses its paint, which says nothing of the model."""
    hue, saturation = rng.uniform(0, 1), rng.choice([0.06, rng.uniform(0.4, 0.85)])
    r, g, b = colorsys.hsv_to_rgb(hue, float(saturation), rng.uniform(0.45, 0.85))
    paint: Colour = (round(255 * r), round(255 * g), round(255 * b))

    canvas.ellipse((0.9, 0.34), 0.1, 0.2, _BLACK)
    _spoiler(canvas, parts["spoiler"])
    _cabin(canvas, parts["roof"], paint)
    side: list[Point] = [
        (-1.06, -0.02), (-0.96, -0.1), (-0.3, -0.12), (0.42, -0.06), (0.47, 0.44), (0.0, 0.46), (-0.98, 0.38),
        (-1.08, 0.24),
    ]  # fmt: skip
    canvas.polygon(side, paint)
    canvas.polygon([(0.1, -0.1), (0.42, -0.05), (0.99, -0.1), (0.7, -0.18), (0.4, -0.18)], tint(paint, 1.35))
    canvas.polygon([(0.42, -0.06), (0.99, -0.11), (1.02, 0.3), (0.97, 0.36), (0.47, 0.46)], tint(paint, 0.82))
    canvas.polygon([(0.46, 0.34), (1.02, 0.25), (1.0, 0.37), (0.48, 0.47)], tint(paint, 0.5), inside=True)
    canvas.stroke([(-0.28, -0.1), (-0.28, 0.36)], 0.018, tint(paint, 0.55), inside=True)
    canvas.stroke([(-0.2, 0.03), (-0.08, 0.035)], 0.035, tint(paint, 0.5), inside=True)
    _trim(canvas, parts["trim"])
    for centre in ((-0.66, 0.38), (0.2, 0.43)):
        _wheel(canvas, centre, parts["wheels"])
    _grille(canvas, parts["grille"])
    _lights(canvas, parts["lights"])


def _cabin(canvas: Canvas, kind: str, paint: Colour) -> None:
    """Roof, side glass and windscreen; the last is common to all models."""
    rear: dict[str, tuple[Point, Point]] = {
        "sedan": ((-0.86, -0.08), (-0.52, -0.54)),
        "coupe": ((-1.02, -0.08), (-0.16, -0.54)),
        "wagon": ((-1.04, -0.08), (-0.94, -0.54)),
        "pickup": ((-0.36, -0.1), (-0.3, -0.54)),
    }
    foot, top = rear[kind]
    canvas.polygon([foot, top, (-0.02, -0.55), (0.3, -0.08)], paint)
    canvas.polygon([top, (top[0] + 0.34, -0.6), (0.36, -0.6), (-0.02, -0.53)], tint(paint, 1.3))
    canvas.polygon([(-0.02, -0.54), (0.36, -0.6), (0.72, -0.16), (0.3, -0.08)], tint(paint, 0.8))
    canvas.polygon([(0.03, -0.5), (0.34, -0.55), (0.63, -0.17), (0.32, -0.11)], _GLASS)
    inner = [(foot[0] * 0.88 - 0.03, -0.13), (top[0] * 0.94 + 0.02, -0.48), (-0.06, -0.49), (0.18, -0.13)]
    canvas.polygon(inner, _GLASS)
    canvas.stroke([(-0.24, -0.5), (-0.24, -0.12)], 0.05, paint, inside=True)
    canvas.polygon([(0.12, -0.5), (0.2, -0.52), (0.46, -0.16), (0.38, -0.15)], tint(_GLASS, 1.7), inside=True)
    if kind == "pickup":
        canvas.polygon([(-0.98, -0.12), (-0.9, -0.2), (-0.4, -0.22), (-0.34, -0.12)], tint(paint, 0.35))


def _spoiler(canvas: Canvas, kind: str) -> None:
    if kind == "lip":
        canvas.polygon([(-0.86, -0.06), (-1.16, -0.24), (-1.12, -0.08), (-1.0, 0.02)], _BLACK)
    elif kind == "wing":
        canvas.stroke([(-0.96, -0.04), (-1.02, -0.34)], 0.06, _BLACK)
        canvas.polygon([(-1.18, -0.42), (-0.78, -0.36), (-0.78, -0.27), (-1.18, -0.31)], _BLACK)


def _trim(canvas: Canvas, kind: str) -> None:
    if kind == "clad":
        canvas.polygon([(-1.1, 0.22), (0.46, 0.27), (0.47, 0.5), (-1.1, 0.45)], _BLACK, inside=True)
    elif kind == "striped":
        canvas.stroke([(-1.1, 0.09), (-0.3, 0.1), (0.45, 0.13)], 0.1, (244, 244, 238), inside=True)


def _wheel(canvas: Canvas, centre: Point, kind: str) -> None:
    x, y = centre
    canvas.ellipse(centre, 0.215, 0.225, _BLACK)
    if kind == "disc":
        canvas.ellipse(centre, 0.145, 0.155, _CHROME)
        canvas.ellipse(centre, 0.04, 0.04, (120, 124, 130))
    elif kind == "spoked":
        for k in range(5):
            a = 2 * math.pi * k / 5 + 0.3
            canvas.stroke([centre, (x + 0.16 * math.cos(a), y + 0.165 * math.sin(a))], 0.06, _CHROME)
    else:
        canvas.ellipse(centre, 0.175, 0.185, _CHROME)
        canvas.ellipse(centre, 0.125, 0.135, _BLACK)


def _face(u: float, v: float) -> Point:
    """A point of the front face: `u` 0..1 from near to far side, `v` 0..1 from top to bottom."""
    return 0.42 + 0.57 * u + 0.05 * v, -0.06 - 0.05 * u + (0.5 - 0.08 * u) * v


def _grille(canvas: Canvas, kind: str) -> None:
    if kind == "bars":
        canvas.polygon([_face(0.3, 0.2), _face(0.8, 0.2), _face(0.8, 0.68), _face(0.3, 0.68)], _BLACK)
        for u in (0.38, 0.5, 0.62, 0.74):
            canvas.stroke([_face(u, 0.22), _face(u, 0.66)], 0.03, _CHROME)
    elif kind == "kidney":
        for u in (0.43, 0.68):
            canvas.ellipse(_face(u, 0.42), 0.075, 0.12, _CHROME)
            canvas.ellipse(_face(u, 0.42), 0.05, 0.095, _BLACK)
    elif kind == "oval":
        canvas.ellipse(_face(0.55, 0.48), 0.19, 0.125, _CHROME, angle=-6)
        canvas.ellipse(_face(0.55, 0.48), 0.155, 0.09, _BLACK, angle=-6)
    else:
        canvas.polygon([_face(0.1, 0.52), _face(0.95, 0.52), _face(0.95, 0.66), _face(0.1, 0.66)], _BLACK)


def _lights(canvas: Canvas, kind: str) -> None:
    for u in (0.14, 0.93):
        x, y = _face(u, 0.26)
        wide = 1.0 if u < 0.5 else 0.6  # the far lamp is turned away
        if kind == "round":
            canvas.ellipse((x, y), 0.085 * wide, 0.09, _BLACK)
            canvas.ellipse((x, y), 0.065 * wide, 0.07, _LAMP)
        elif kind == "slit":
            canvas.polygon([(x - 0.1 * wide, y - 0.05), (x + 0.12 * wide, y), (x + 0.11 * wide, y + 0.045),
                            (x - 0.1 * wide, y + 0.02)], _LAMP)  # fmt: skip
        else:
            a, b = 0.085 * wide, 0.09
            canvas.polygon([(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)], _BLACK)
            a, b = a * 0.75, b * 0.75
            canvas.polygon([(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)], (150, 190, 255))
