"""One picture: background, pose, body, light. Everything but the parts comes from streams that ignore the class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from suite.data.synthetic import aircraft, bird, car
from suite.data.synthetic.background import draw_background, octaves
from suite.data.synthetic.canvas import Canvas, Colour, Floats
from suite.data.synthetic.parts import Parts

Size = tuple[int, int]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """A body plan: its part table, the units it fills, how it is drawn and how far it may tilt."""

    parts: dict[str, tuple[str, ...]]
    extent: tuple[float, float, float, float]
    draw: Callable[[Canvas, Parts, Rng], None]
    tilt: float  # degrees either way
    aspect: tuple[float, float]  # width / height of the images


OBJECT_KINDS: dict[str, ObjectKind] = {
    "bird": ObjectKind(bird.PARTS, bird.EXTENT, bird.draw_bird, 20, (1.0, 1.3)),
    "aircraft": ObjectKind(aircraft.PARTS, aircraft.EXTENT, aircraft.draw_aircraft, 20, (1.1, 1.4)),
    "car": ObjectKind(car.PARTS, car.EXTENT, car.draw_car, 8, (1.1, 1.4)),
}


class RenderedImage(NamedTuple):
    """An image, its exact silhouette and the silhouette's tight box (left, top, right, bottom; last two exclusive)."""

    image: NDArray[np.uint8]  # [H, W, 3]
    mask: NDArray[np.uint8]  # [H, W], 0 or 255
    box: tuple[int, int, int, int]


class SceneObject(NamedTuple):
    """One body in a scene: what it is and the part of the image, as fractions, that it may fill."""

    kind: str
    parts: Parts
    frame: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


def render_object(kind: str, parts: Parts, short_side: int, seed: Sequence[int]) -> RenderedImage:
    """One body of `kind` in front of a scene that suits it."""
    return _render([SceneObject(kind, parts)], OBJECT_KINDS[kind].aspect, short_side, seed)


def render_objects(objects: Sequence[SceneObject], short_side: int, seed: Sequence[int]) -> RenderedImage:
    """Several bodies, the later in front; mask and box are those of all together."""
    return _render(objects, (1.15, 1.5), short_side, seed)


def _render(
    objects: Sequence[SceneObject], aspect: tuple[float, float], short_side: int, seed: Sequence[int]
) -> RenderedImage:
    # Separate streams: a class that draws one number more must not shift pose or background.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2 + 2 * len(objects))]
    setting, light = streams[:2]
    size = (round(short_side * setting.uniform(*aspect)), short_side)
    scene = draw_background(objects[0].kind, size, setting)
    cover = np.zeros((size[1], size[0]), dtype=np.float32)
    azimuth = light.uniform(-math.pi, 0)  # from above, left to right
    poses: list[NDArray[np.float64]] = []
    for k, item in enumerate(objects):  # first what stands in the scene: a branch must not cross another body
        pose = streams[2 + 2 * k]
        poses.append(_pose(OBJECT_KINDS[item.kind], item.frame, size, pose))
        _props(scene, item.kind, poses[k], size, pose)
    for k, item in enumerate(objects):
        pose, paint = streams[2 + 2 * k : 4 + 2 * k]
        canvas = Canvas(size, poses[k])
        OBJECT_KINDS[item.kind].draw(canvas, item.parts, paint)
        colour, alpha = canvas.finish()
        relief = _relief(alpha, azimuth, size) * (1 + 0.1 * octaves(size, pose))
        scene = scene * (1 - alpha[..., None]) + colour * relief[..., None]
        cover = np.maximum(cover, alpha)
    cast = light.uniform(0.78, 1.12) * light.uniform(0.93, 1.07, 3).astype(np.float32)
    image = np.clip(scene * cast + 2.5 * light.standard_normal(scene.shape, dtype=np.float32), 0, 255).astype(np.uint8)
    mask = np.where(cover > 0.5, 255, 0).astype(np.uint8)
    return RenderedImage(image, mask, tight_box(mask))


def tight_box(mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top (inclusive), right, bottom (exclusive) of the non-zero pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _pose(kind: ObjectKind, frame: tuple[float, float, float, float], size: Size, rng: Rng) -> NDArray[np.float64]:
    """Body units to pixels [3, 3]: flip, tilt, shear, mild perspective, then scale and place inside `frame`."""
    turn = math.radians(rng.uniform(-kind.tilt, kind.tilt))
    c, s = math.cos(turn), math.sin(turn)
    flip = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0])
    shear = np.array(
        [[1, rng.uniform(-0.14, 0.14), 0], [rng.uniform(-0.08, 0.08), rng.uniform(0.9, 1.1), 0], [0, 0, 1]]
    )
    tilt = np.array([[c, -s, 0], [s, c, 0], [rng.uniform(-0.07, 0.07), rng.uniform(-0.07, 0.07), 1]])
    bent = tilt @ shear @ flip
    x0, y0, x1, y1 = kind.extent
    corners = np.array([(x0, y0, 1), (x1, y0, 1), (x1, y1, 1), (x0, y1, 1)]) @ bent.T
    corners = corners[:, :2] / corners[:, 2:]
    low, span = corners.min(axis=0), np.ptp(corners, axis=0)
    room = np.array([(frame[2] - frame[0]) * size[0], (frame[3] - frame[1]) * size[1]])
    # Hardly any class fills the corners of its plan's extent, so a fit slightly above 1 still stays in the picture.
    scale = float(np.min(room / span)) * rng.uniform(0.86, 1.04)
    slack = room - scale * span
    at = np.array([frame[0] * size[0], frame[1] * size[1]]) + slack * rng.uniform(0.2, 0.8, 2)
    place = np.array([[scale, 0, at[0] - scale * low[0]], [0, scale, at[1] - scale * low[1]], [0, 0, 1]])
    placed: NDArray[np.float64] = place @ bent
    return placed


def _props(scene: Floats, kind: str, to_pixels: NDArray[np.float64], size: Size, rng: Rng) -> None:
    """The branch or the shadow below the body. It follows the pose, never the parts."""
    canvas = Canvas(size, to_pixels, fine=2)
    if kind == "bird":
        bark: Colour = (int(rng.integers(70, 120)), int(rng.integers(56, 90)), int(rng.integers(44, 70)))
        bend = rng.uniform(-0.15, 0.15, 4)
        line = [(x, 0.79 + float(b)) for x, b in zip((-2.6, -1.0, 1.2, 2.6), (bend[0], 0, 0, bend[1]), strict=True)]
        canvas.stroke(line, float(rng.uniform(0.1, 0.17)), bark)
        strength = 1.0
    elif kind == "car":
        canvas.ellipse((0.0, 0.52), 1.2, 0.16, (16, 16, 18))
        strength = 0.6
    else:
        return
    colour, alpha = canvas.finish()
    scene *= 1 - strength * alpha[..., None]
    scene += strength * colour


def _relief(alpha: Floats, azimuth: float, size: Size) -> Floats:
    """[H, W] brightness of a body swelling from its silhouette, lit from `azimuth` (radians)."""
    swell = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(size[1] / 18))
    dy, dx = np.gradient(np.asarray(swell, dtype=np.float32) / 255)
    slope = -(dx * math.cos(azimuth) + dy * math.sin(azimuth)) * (size[1] / 18)
    lit: Floats = np.clip(1 + 0.75 * slope, 0.55, 1.35).astype(np.float32)
    return lit
