"""The six sets as lists of pictures to render: kind, class, split and file names in the official layout."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np

from suite.data.synthetic.names import aircraft_names, bird_names, car_names
from suite.data.synthetic.parts import Parts, classes
from suite.data.synthetic.scene import OBJECT_KINDS, RenderedImage, SceneObject, render_object, render_objects
from suite.data.synthetic.spec import SET_NAMES, Counts, SetName, SyntheticSpec

BANNER = 20  # rows below every Aircraft picture that the official release fills with a copyright notice


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One picture to render. `image` and `mask` are paths below the set's folder."""

    id: str
    label: int | None  # 0 .. classes-1
    train: bool
    image: str
    mask: str
    objects: tuple[SceneObject, ...]
    seed: tuple[int, int, int]  # spec seed, set, index
    short_side: int
    banner: int = 0

    def render(self) -> RenderedImage:
        """The picture, without its banner."""
        if len(self.objects) > 1:
            return render_objects(self.objects, self.short_side, self.seed)
        return render_object(self.objects[0].kind, self.objects[0].parts, self.short_side, self.seed)


@dataclass(frozen=True, slots=True)
class SetPlan:
    """One set: its folder below the data root, class names in the order of the labels, pictures in official order."""

    name: SetName
    folder: str
    classes: tuple[str, ...]
    items: tuple[ImagePlan, ...]


def plan(name: SetName, spec: SyntheticSpec) -> SetPlan:
    """The part of `spec` for the set `name`."""
    return _PLANS[name](spec)


def nabirds_class_id(label: int) -> int:
    """An id with gaps, as in the official set, whose lower ids are the nodes of the hierarchy."""
    return 295 + 7 * label + label % 3


def _labels_splits_seeds(
    name: SetName, counts: Counts, spec: SyntheticSpec
) -> list[tuple[int, bool, tuple[int, int, int]]]:
    """Label, split and seed of every picture, class by class; which ones are for training is shuffled in the class."""
    set_index = SET_NAMES.index(name)
    per_class = counts.train + counts.test
    rows: list[tuple[int, bool, tuple[int, int, int]]] = []
    for label in range(counts.classes):
        order = np.random.default_rng([spec.seed, set_index, label]).permutation(per_class)
        for k in range(per_class):
            rows.append((label, bool(order[k] < counts.train), (spec.seed, set_index, label * per_class + k)))
    return rows


def _cub(spec: SyntheticSpec) -> SetPlan:
    class_parts = classes(OBJECT_KINDS["bird"].parts, spec.cub.classes)
    names = [f"{k:03d}.{name.replace(' ', '_')}" for k, name in enumerate(bird_names(class_parts), 1)]
    items: list[ImagePlan] = []
    for n, (label, train, seed) in enumerate(_labels_splits_seeds("cub", spec.cub, spec), 1):
        stem = f"{names[label]}/{names[label][4:]}_{seed[2]:04d}"
        items.append(
            ImagePlan(str(n), label, train, f"images/{stem}.jpg", f"segmentations/{stem}.png",
                      (SceneObject("bird", class_parts[label]),), seed, spec.short_side)
        )  # fmt: skip
    return SetPlan("cub", "CUB_200_2011", tuple(names), tuple(items))


def _nabirds(spec: SyntheticSpec) -> SetPlan:
    # The next stretch of species after CUB's: shared parts, no shared class, as a transfer set should be.
    class_parts = classes(OBJECT_KINDS["bird"].parts, spec.nabirds.classes, skip=spec.cub.classes)
    items: list[ImagePlan] = []
    for label, train, seed in _labels_splits_seeds("nabirds", spec.nabirds, spec):
        key = uuid.UUID(bytes=np.random.default_rng([*seed, 1]).bytes(16), version=4)
        stem = f"{nabirds_class_id(label):04d}/{key.hex}"
        items.append(
            ImagePlan(str(key), label, train, f"images/{stem}.jpg", f"segmentations/{stem}.png",
                      (SceneObject("bird", class_parts[label]),), seed, spec.short_side)
        )  # fmt: skip
    items.sort(key=lambda item: item.id)
    return SetPlan("nabirds", "nabirds", tuple(bird_names(class_parts, skip=spec.cub.classes)), tuple(items))


def _aircraft(spec: SyntheticSpec) -> SetPlan:
    class_parts = classes(OBJECT_KINDS["aircraft"].parts, spec.aircraft.classes)
    items: list[ImagePlan] = []
    rows = _labels_splits_seeds("aircraft", spec.aircraft, spec)
    ids = np.random.default_rng([spec.seed, SET_NAMES.index("aircraft")]).choice(9_999_999, len(rows), replace=False)
    for number, (label, train, seed) in zip(ids, rows, strict=True):
        key = f"{int(number):07d}"
        items.append(
            ImagePlan(key, label, train, f"data/images/{key}.jpg", f"data/segmentations/{key}.png",
                      (SceneObject("aircraft", class_parts[label]),), seed, spec.short_side, BANNER)
        )  # fmt: skip
    return SetPlan("aircraft", "fgvc_aircraft", tuple(aircraft_names(class_parts)), tuple(items))


def _cars(spec: SyntheticSpec) -> SetPlan:
    class_parts = classes(OBJECT_KINDS["car"].parts, spec.cars.classes)
    rows = _labels_splits_seeds("cars", spec.cars, spec)
    order = np.random.default_rng([spec.seed, SET_NAMES.index("cars")]).permutation(len(rows))
    seen = {True: 0, False: 0}
    items: list[ImagePlan] = []
    for label, train, seed in (rows[int(k)] for k in order):  # the official lists are not sorted by class
        seen[train] += 1
        split, key = ("train" if train else "test"), f"{seen[train]:05d}"
        items.append(
            ImagePlan(f"{key}.jpg", label, train, f"cars_{split}/{key}.jpg", f"segmentations_{split}/{key}.png",
                      (SceneObject("car", class_parts[label]),), seed, spec.short_side)
        )  # fmt: skip
    return SetPlan("cars", "stanford_cars", tuple(car_names(class_parts)), tuple(items))


def _coco(spec: SyntheticSpec) -> SetPlan:
    set_index = SET_NAMES.index("coco")
    class_parts: dict[str, list[dict[str, str]]] = {
        kind: classes(OBJECT_KINDS[kind].parts, 24) for kind in OBJECT_KINDS
    }
    items: list[ImagePlan] = []
    for n in range(spec.coco):
        rng = np.random.default_rng([spec.seed, set_index, n, 1])
        number = int(rng.integers(2, 5))
        objects: list[SceneObject] = []
        for cell in rng.permutation(4)[:number]:
            kind = ("bird", "aircraft", "car")[int(rng.integers(3))]
            # Quarters that overlap a little, so that bodies may hide one another.
            x, y = 0.44 * (cell % 2), 0.44 * (cell // 2)
            frame = (float(x), float(y), float(x) + 0.56, float(y) + 0.56)
            objects.append(SceneObject(kind, _pick(class_parts[kind], rng), frame))
        key = f"{9 * n + int(rng.integers(1, 9)):012d}"
        items.append(
            ImagePlan(key, None, True, f"train2017/{key}.jpg", f"segmentations/{key}.png", tuple(objects),
                      (spec.seed, set_index, n), round(1.4 * spec.short_side))
        )  # fmt: skip
    return SetPlan("coco", "coco", (), tuple(items))


def _imagenet(spec: SyntheticSpec) -> SetPlan:
    """One body to a picture, of any kind and look; one folder per kind, numbered as no real one is."""
    set_index = SET_NAMES.index("imagenet")
    items: list[ImagePlan] = []
    for n in range(spec.imagenet):
        rng = np.random.default_rng([spec.seed, set_index, n, 1])
        number, kind = n % 3, ("bird", "aircraft", "car")[n % 3]
        folder = f"n{99_999_997 + number}"
        key = f"{folder}_{n}"
        parts = _pick(classes(OBJECT_KINDS[kind].parts, 24), rng)
        items.append(
            ImagePlan(key, None, True, f"train/{folder}/{key}.JPEG", f"segmentations/{folder}/{key}.png",
                      (SceneObject(kind, parts),), (spec.seed, set_index, n), spec.short_side)
        )  # fmt: skip
    return SetPlan("imagenet", "imagenet", (), tuple(items))


def _pick(class_parts: list[dict[str, str]], rng: np.random.Generator) -> Parts:
    return class_parts[int(rng.integers(len(class_parts)))]


_PLANS = {"cub": _cub, "nabirds": _nabirds, "aircraft": _aircraft, "cars": _cars, "coco": _coco, "imagenet": _imagenet}
