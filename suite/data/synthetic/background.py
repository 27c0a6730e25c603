"""Backgrounds, from a random stream of their own: nothing in them depends on the class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from suite.data.synthetic.canvas import Colour, Floats

Size = tuple[int, int]


def draw_background(kind: str, size: Size, rng: np.random.Generator) -> Floats:
    """[H, W, 3] in 0..255: one of the scenes that suit birds, aircraft or cars, with fine grain."""
    scenes = _SCENES[kind]
    scene = scenes[int(rng.integers(len(scenes)))](size, rng)
    scene *= 1 + 0.18 * octaves(size, rng)[..., None]
    scene += 4 * rng.standard_normal(scene.shape, dtype=np.float32)
    return scene


def octaves(size: Size, rng: np.random.Generator) -> Floats:
    """[H, W] smooth noise of three octaves, about -1..1."""
    total = np.zeros((size[1], size[0]), dtype=np.float32)
    for octave, weight in ((3, 0.5), (6, 0.3), (12, 0.2)):
        coarse = rng.uniform(-1.4, 1.4, (octave, octave + 1)).astype(np.float32)
        total += weight * np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return total


def _near(colour: Colour, rng: np.random.Generator, spread: int = 30) -> Colour:
    lighter = int(rng.integers(-spread, spread + 1))  # mostly brightness: independent channels look like confetti
    shifts = rng.integers(-spread, spread + 1, 3)
    r, g, b = (min(max(c + lighter + int(d) // 3, 0), 255) for c, d in zip(colour, shifts, strict=True))
    return r, g, b


def _gradient(size: Size, top: Colour, bottom: Colour) -> Floats:
    t = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None]
    mixed = (1 - t) * np.array(top, dtype=np.float32) + t * np.array(bottom, dtype=np.float32)
    return np.repeat(mixed, size[0], axis=1)


def _sky(size: Size, rng: np.random.Generator) -> Floats:
    top, bottom = [((88, 140, 205), (190, 215, 235)), ((150, 160, 175), (205, 208, 212)),
                   ((92, 100, 150), (240, 190, 150))][int(rng.integers(3))]  # fmt: skip
    sky = _gradient(size, _near(top, rng), _near(bottom, rng))
    clouds = np.clip(octaves(size, rng) * 1.6 - rng.uniform(-0.3, 0.4), 0, 1)[..., None]
    clouded: Floats = sky * (1 - 0.7 * clouds) + 0.7 * 245 * clouds
    return clouded


def _foliage(size: Size, rng: np.random.Generator) -> Floats:
    base = _near([(60, 92, 48), (96, 104, 58), (120, 96, 60), (44, 70, 66)][int(rng.integers(4))], rng)
    image = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(image)
    for _ in range(46):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        length, turn = rng.uniform(3, 14), rng.uniform(0, 2 * np.pi)
        end = (x + length * np.cos(turn), y + length * np.sin(turn))
        draw.line([(x, y), end], fill=_near(base, rng, 44), width=int(rng.integers(1, 5)))
    return _array(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.8)))))


def _bokeh(size: Size, rng: np.random.Generator) -> Floats:
    base = _near([(92, 116, 80), (128, 120, 104), (84, 96, 112), (140, 112, 120)][int(rng.integers(4))], rng)
    image = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(image)
    for _ in range(16):
        x, y, r = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(3, 12)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_near(base, rng, 48))
    return _array(image.filter(ImageFilter.GaussianBlur(2.4)))


def _water(size: Size, rng: np.random.Generator) -> Floats:
    top, bottom = _near((120, 156, 178), rng), _near((58, 92, 112), rng)
    image = Image.fromarray(_gradient(size, top, bottom).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(34):
        x, y = rng.uniform(-6, size[0]), rng.uniform(0, size[1])
        draw.line([(x, y), (x + rng.uniform(4, 20), y)], fill=_near((110, 146, 164), rng, 46))
    return _array(image.filter(ImageFilter.GaussianBlur(0.6)))


def _ground(size: Size, rng: np.random.Generator, ground: Colour, line: Colour) -> Floats:
    """A lane below a horizon of hills or blocks, under a sky."""
    w, h = size
    image = Image.fromarray(np.clip(_sky(size, rng), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    horizon = h * rng.uniform(0.36, 0.62)
    if rng.random() < 0.5:
        for _ in range(7):
            x, tall = rng.uniform(-10, w), rng.uniform(6, 26)
            draw.rectangle((x, horizon - tall, x + rng.uniform(8, 24), horizon), fill=_near((132, 122, 118), rng, 40))
    else:
        for _ in range(9):
            x, r = rng.uniform(0, w), rng.uniform(6, 16)
            draw.ellipse((x - r, horizon - r, x + r, horizon + r), fill=_near((70, 100, 60), rng, 34))
    tone = _near(ground, rng, 24)
    draw.rectangle((0, horizon, w, h), fill=tone)
    for _ in range(5):
        y = rng.uniform(horizon, h)
        draw.line([(0, y), (w, y + rng.uniform(-3, 3))], fill=_near(tone, rng, 20), width=2)
    if rng.random() < 0.6:
        y = rng.uniform(0.82, 0.97) * h
        for x in np.arange(rng.uniform(-14, 0), w, 18):
            draw.line([(x, y), (x + 10, y)], fill=line, width=2)
    return _array(image.filter(ImageFilter.GaussianBlur(0.7)))


def _runway(size: Size, rng: np.random.Generator) -> Floats:
    return _ground(size, rng, (124, 124, 122), (226, 222, 206))


def _road(size: Size, rng: np.random.Generator) -> Floats:
    return _ground(size, rng, (92, 92, 96), (216, 206, 170))


def _field(size: Size, rng: np.random.Generator) -> Floats:
    return _ground(size, rng, (116, 128, 78), (150, 140, 100))


def _array(image: Image.Image) -> Floats:
    return np.array(image, dtype=np.float32)


_SCENES: dict[str, tuple[Callable[[Size, np.random.Generator], Floats], ...]] = {
    "bird": (_sky, _foliage, _foliage, _bokeh, _water, _field),
    "aircraft": (_sky, _sky, _sky, _runway, _field),
    "car": (_road, _road, _field, _runway, _bokeh),
}
