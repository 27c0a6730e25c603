"""Birds: one perched body plan; species differ by beak, crest, face, breast, wing bars and tail."""

from __future__ import annotations

import colorsys

import numpy as np

from suite.data.synthetic.canvas import Canvas, Colour, Point, tint
from suite.data.synthetic.parts import Parts

PARTS: dict[str, tuple[str, ...]] = {
    "beak": ("cone", "needle", "hook"),
    "beak_colour": ("slate", "orange"),
    "crest": ("flat", "horned", "fan"),
    "face": ("plain", "capped", "masked", "browed"),
    "breast": ("plain", "bibbed", "banded", "spotted"),
    "wing": ("plain", "single-barred", "double-barred"),
    "tail": ("square", "forked", "fan", "needle"),
}
EXTENT = (-1.1, -0.8, 1.0, 0.76)  # body units that nearly every pose of every species fits

_DARK: Colour = (28, 26, 32)
_PALE: Colour = (250, 246, 232)
_BEAKS: dict[str, Colour] = {"slate": (52, 54, 64), "orange": (248, 150, 24)}
_BODY: list[Point] = [
    (0.80, -0.42), (0.74, -0.62), (0.54, -0.73), (0.31, -0.66), (0.14, -0.42), (-0.20, -0.22), (-0.55, 0.00),
    (-0.74, 0.16), (-0.70, 0.28), (-0.48, 0.40), (-0.12, 0.52), (0.28, 0.48), (0.58, 0.24), (0.72, -0.06),
    (0.74, -0.26),
]  # fmt: skip
_WING: list[Point] = [
    (0.38, 0.02), (0.20, -0.20), (-0.18, -0.17), (-0.55, 0.03), (-0.94, 0.24), (-0.92, 0.30), (-0.58, 0.30),
    (-0.15, 0.35), (0.22, 0.28),
]  # fmt: skip


def draw_bird(canvas: Canvas, parts: Parts, rng: np.random.Generator) -> None:
    """Draw one bird of the species `parts`; `rng` chooses plumage colours, which say nothing of the species."""
    hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.15, 0.75), rng.uniform(0.45, 0.8)
    body = _rgb(hue, saturation, value)
    belly = _rgb(hue + rng.uniform(-0.08, 0.08), saturation * 0.6, min(1.0, value * 1.22))
    wing = tint(_rgb(hue + rng.uniform(-0.1, 0.1), saturation, value), rng.uniform(0.5, 0.62))
    beak = _BEAKS[parts["beak_colour"]]

    _tail(canvas, parts["tail"], wing)
    for foot in (0.02, 0.22):
        canvas.stroke([(foot, 0.42), (foot + 0.03, 0.72)], 0.065, (70, 56, 50))
        canvas.stroke([(foot - 0.06, 0.74), (foot + 0.14, 0.72)], 0.065, (70, 56, 50))
    _crest(canvas, parts["crest"], tint(body, 0.72))
    _beak(canvas, parts["beak"], beak)
    canvas.blob(_BODY, body)
    canvas.blob(
        [(0.62, 0.14), (0.28, 0.14), (-0.2, 0.3), (-0.6, 0.3), (-0.46, 0.5), (-0.1, 0.6), (0.34, 0.56), (0.7, 0.3)],
        belly,
        inside=True,
    )
    _breast(canvas, parts["breast"])
    _face(canvas, parts["face"])
    canvas.blob(_WING, wing)
    for k in range(3):
        y = 0.04 + 0.085 * k
        canvas.stroke([(0.1 - 0.1 * k, y), (-0.4, y + 0.08), (-0.84, 0.24)], 0.022, tint(wing, 0.72), inside=True)
    bars = {"plain": (), "single-barred": (0.08,), "double-barred": (0.16, -0.18)}[parts["wing"]]
    for x in bars:
        canvas.stroke([(x + 0.08, -0.2), (x - 0.03, 0.06), (x - 0.04, 0.33)], 0.13, _PALE, inside=True)
    canvas.ellipse((0.57, -0.47), 0.072, 0.078, (12, 10, 12), inside=True)
    canvas.ellipse((0.595, -0.495), 0.024, 0.024, (255, 255, 255), inside=True)


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * r), round(255 * g), round(255 * b)


def _tail(canvas: Canvas, kind: str, colour: Colour) -> None:
    root: list[Point] = [(-0.5, 0.0), (-0.52, 0.32)]
    tips: dict[str, list[Point]] = {
        "square": [(-1.08, 0.46), (-1.14, 0.22)],
        "forked": [(-1.11, 0.66), (-1.16, 0.60), (-0.80, 0.33), (-1.18, 0.22), (-1.17, 0.14)],
        "fan": [(-0.88, 0.66), (-1.06, 0.56), (-1.14, 0.36), (-1.12, 0.14), (-0.98, 0.0)],
        "needle": [(-0.78, 0.35), (-1.17, 0.43), (-1.17, 0.36), (-0.8, 0.19)],
    }
    canvas.polygon([*root, *tips[kind]], colour)
    for x, y in tips[kind]:
        canvas.stroke([(-0.5, 0.17), (x, y)], 0.02, tint(colour, 0.7), inside=True)


def _crest(canvas: Canvas, kind: str, colour: Colour) -> None:
    if kind == "horned":
        canvas.polygon([(0.62, -0.66), (0.26, -0.5), (-0.02, -0.74), (0.0, -0.80)], colour)
    elif kind == "fan":
        tips: list[Point] = [(0.72, -0.6), (0.74, -0.84), (0.60, -0.78), (0.50, -0.92), (0.40, -0.8), (0.24, -0.86)]
        canvas.polygon([*tips, (0.24, -0.6)], colour)


def _beak(canvas: Canvas, kind: str, colour: Colour) -> None:
    if kind == "cone":
        canvas.polygon([(0.70, -0.58), (0.99, -0.40), (0.98, -0.35), (0.70, -0.26)], colour)
        canvas.stroke([(0.72, -0.41), (0.97, -0.38)], 0.025, tint(colour, 0.55), inside=True)
    elif kind == "needle":
        canvas.polygon([(0.70, -0.50), (1.10, -0.44), (1.10, -0.38), (0.70, -0.34)], colour)
    else:
        canvas.polygon(
            [
                (0.70, -0.56),
                (0.90, -0.52),
                (1.04, -0.38),
                (1.03, -0.13),
                (0.97, -0.13),
                (0.94, -0.28),
                (0.84, -0.34),
                (0.7, -0.3),
            ],
            colour,
        )


def _face(canvas: Canvas, kind: str) -> None:
    if kind == "capped":
        cap: list[Point] = [(0.84, -0.52), (0.6, -0.56), (0.34, -0.5), (0.12, -0.4), (0.2, -0.8), (0.54, -0.84)]
        canvas.polygon([*cap, (0.8, -0.7)], _DARK, inside=True)
    elif kind == "masked":
        canvas.stroke([(0.86, -0.43), (0.56, -0.47), (0.26, -0.40)], 0.2, _DARK, inside=True)
    elif kind == "browed":
        canvas.stroke([(0.80, -0.56), (0.56, -0.62), (0.3, -0.55), (0.16, -0.42)], 0.1, _PALE, inside=True)
        canvas.ellipse((0.57, -0.47), 0.13, 0.13, _PALE, inside=True)


def _breast(canvas: Canvas, kind: str) -> None:
    if kind == "bibbed":
        canvas.blob([(0.84, -0.32), (0.6, -0.30), (0.5, -0.12), (0.56, 0.06), (0.72, 0.04)], _DARK, inside=True)
    elif kind == "banded":
        canvas.stroke([(0.8, 0.04), (0.56, 0.1), (0.36, 0.0), (0.26, -0.2)], 0.13, _DARK, inside=True)
    elif kind == "spotted":
        for x, y in [(0.6, 0.06), (0.46, 0.2), (0.3, 0.38), (0.56, 0.3), (0.12, 0.44), (0.64, -0.12)]:
            canvas.ellipse((x, y), 0.055, 0.065, _DARK, inside=True)
