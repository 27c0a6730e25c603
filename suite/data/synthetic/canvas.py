"""Drawing in a body's own units, through one projective map, with an exact silhouette.

A body is drawn facing right, about two units long, centred on (0, 0), y downwards. The canvas is finer than the
image, so that averaging down gives soft edges and a mask that is the covered share of every pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

Colour: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float32]


class Canvas:
    """One object's layer: colours and silhouette. `to_pixels` [3, 3] maps body units to pixels of the image.

    `fine`: samples per pixel and axis; at 3 even parts of two pixels keep smooth edges.
    """

    def __init__(self, size: tuple[int, int], to_pixels: NDArray[np.float64], fine: int = 3) -> None:
        self._fine = fine
        self._map = np.diag([fine, fine, 1.0]) @ to_pixels
        samples = (size[0] * fine, size[1] * fine)
        self._colour = Image.new("RGB", samples)
        self._cover = Image.new("L", samples)
        self._draw = ImageDraw.Draw(self._colour)
        self._draw_cover = ImageDraw.Draw(self._cover)

    def polygon(self, points: Sequence[Point] | NDArray[np.float64], colour: Colour, inside: bool = False) -> None:
        """A filled polygon. With `inside` it colours only what is drawn before or after: the silhouette stays."""
        p = np.asarray(points, dtype=np.float64) @ self._map[:, :2].T + self._map[:, 2]
        flat = (p[:, :2] / p[:, 2:]).ravel().tolist()
        self._draw.polygon(flat, fill=colour)
        if not inside:
            self._draw_cover.polygon(flat, fill=255)

    def blob(self, points: Sequence[Point], colour: Colour, inside: bool = False) -> None:
        """A filled closed Catmull-Rom curve through `points`."""
        self.polygon(spline(points), colour, inside)

    def ellipse(
        self, centre: Point, rx: float, ry: float, colour: Colour, *, angle: float = 0.0, inside: bool = False
    ) -> None:
        """A filled ellipse; `angle` in degrees, clockwise as seen (y points down)."""
        t = np.linspace(0.0, 2 * math.pi, 28, endpoint=False)
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        x, y = rx * np.cos(t), ry * np.sin(t)
        self.polygon(np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], axis=1), colour, inside)

    def stroke(self, points: Sequence[Point], width: float, colour: Colour, inside: bool = False) -> None:
        """A line of constant width (body units) with butt ends."""
        p = np.asarray(points, dtype=np.float64)
        step = np.diff(p, axis=0)
        step = np.concatenate([step[:1], (step[1:] + step[:-1]) / 2, step[-1:]])
        normal = step[:, ::-1] * (-1, 1) / np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
        self.polygon(np.concatenate([p + normal * width / 2, (p - normal * width / 2)[::-1]]), colour, inside)

    def finish(self) -> tuple[Floats, Floats]:
        """Colour times cover [H, W, 3] in 0..255 and cover [H, W] in 0..1, at the image's resolution."""
        # Colour laid down with `inside` may lie beyond the silhouette; there it must not count.
        self._colour.paste((0, 0, 0), mask=ImageChops.invert(self._cover))
        colour, cover = self._colour.reduce(self._fine), self._cover.reduce(self._fine)
        share: Floats = np.asarray(cover, dtype=np.float32) / np.float32(255)
        return np.asarray(colour, dtype=np.float32), share


def spline(points: Sequence[Point], steps: int = 6) -> NDArray[np.float64]:
    """A closed Catmull-Rom curve through `points`, `steps` segments between neighbours."""
    p = np.asarray(points, dtype=np.float64)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (q[:, None, :] for q in (before, p, after, beyond))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    outline: NDArray[np.float64] = curve.reshape(-1, 2)
    return outline


def tint(colour: Colour, factor: float) -> Colour:
    """The colour darker (factor below 1) or lighter (above 1, towards white)."""
    if factor <= 1:
        r, g, b = (round(c * factor) for c in colour)
    else:
        r, g, b = (round(255 - (255 - c) / factor) for c in colour)
    return r, g, b
