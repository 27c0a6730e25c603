"""Which test images a figure shows, cut as evaluation cuts them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.cam.options import CamOptions
from methods.views.batch import normalise, to_unit
from methods.views.geometry import central_square
from methods.views.resampling import resample
from suite.data.decoded.images import ImageStore
from suite.data.decoded.stores import open_images
from suite.data.record import Box
from suite.errors import StoreError, UsageError
from suite.kinds.finetune import FinetuneSpec
from suite.store.store import Store
from suite.workspace import Workspace

DISPLAY = 224  # px, side of the images in the figure, however small the network's input is


@dataclass(frozen=True, slots=True, eq=False)
class FigureImages:
    """Test images of one dataset, for the network and for the eye."""

    store: ImageStore
    paths: tuple[str, ...]  # below the dataset's image folder
    names: tuple[str, ...]  # class and file name, in two lines
    inputs: Tensor  # [N, 3, S, S], normalised
    display: NDArray[np.uint8]  # [N, DISPLAY, DISPLAY, 3]
    labels: Tensor  # [N]
    boxes: tuple[Box | None, ...]  # in pixels of `display`
    sampled: bool  # by the seed; else chosen by name


def figure_images(workspace: Workspace, spec: FinetuneSpec, options: CamOptions) -> FigureImages:
    """The named test images that the dataset of `spec` has, else `options.count` sampled by `options.seed`."""
    store = _open(workspace, spec)
    named = named_positions(store, options.files)
    chosen = list(named.values()) or sampled_positions(store, options.count, options.seed)
    squares = [central_square(store.shapes[index].tolist(), spec.train.eval_resize) for index in chosen]
    pairs = list(zip(chosen, squares, strict=True))
    inputs = torch.stack([_cut(store, index, square, spec.image_size) for index, square in pairs])
    shown = torch.stack([_cut(store, index, square, DISPLAY) for index, square in pairs])
    return FigureImages(
        store,
        tuple(store.paths[index] for index in chosen),
        tuple(f"{store.facts.classes[store.labels[i]]}\n{PurePosixPath(store.paths[i]).name}" for i in chosen),
        normalise(to_unit(inputs)),
        shown.permute(0, 2, 3, 1).numpy(),
        torch.from_numpy(store.labels[chosen]),
        tuple(_box_in(store, index, square) for index, square in pairs),
        not named,
    )


def sampled_positions(store: ImageStore, count: int, seed: int = 0) -> list[int]:
    """Positions of `count` test images of different classes where possible, sampled by `seed` alone."""
    rng = np.random.default_rng(seed)
    test = np.array(store.indices("test"))
    shuffled = rng.permutation(test)
    _, first = np.unique(store.labels[shuffled], return_index=True)
    different = shuffled[np.sort(first)]
    rest = shuffled[~np.isin(shuffled, different)]
    return [int(index) for index in np.concatenate([different, rest])[:count]]


def named_positions(store: ImageStore, names: Sequence[str]) -> dict[str, int]:
    """{name: position} of those `names` that are test images of the dataset, by file name or by path."""
    places: dict[str, int] = {}
    for index in store.indices("test"):
        path = PurePosixPath(store.paths[index])
        places |= {str(path): int(index), path.name: int(index), path.stem: int(index)}
    return {name: places[name] for name in names if name in places}


def refuse_unknown(workspace: Workspace, keys: Iterable[str], names: Sequence[str]) -> None:
    """Raise UsageError, with the nearest match, where a name is no test image of any dataset that these jobs read.

    keys: of finished fine-tunings.
    """
    specs = {spec.data: spec for key in keys for spec in [finetune_spec(workspace.store, key)]} if names else {}
    stores = [_open(workspace, spec) for spec in specs.values()]
    found = {name for store in stores for name in named_positions(store, names)}
    for name in names:
        if name not in found:
            where = ", ".join(store.facts.describe.partition(":")[0] for store in stores) or "any finished cell"
            training = any(
                name in {path, PurePosixPath(path).name} for s in stores for path in s.paths[: s.train_count]
            )
            files = [PurePosixPath(store.paths[index]).name for store in stores for index in store.indices("test")]
            near = difflib.get_close_matches(name, files, n=1, cutoff=0.5)
            why = "it is a training image, and figures show test images only" if training else "there is none"
            hint = f" Did you mean '{near[0]}'?" if near and not training else ""
            raise UsageError(f"expected the name of a test image of {where}, got '{name}': {why}.{hint}")


def finetune_spec(store: Store, key: str) -> FinetuneSpec:
    """The spec of a fine-tuning. Raises StoreError where the job is something else."""
    spec = store.spec(key)
    if not isinstance(spec, FinetuneSpec):
        raise StoreError(f"job {key} is no fine-tuning, so it has no class activation map.")
    return spec


def _open(workspace: Workspace, spec: FinetuneSpec) -> ImageStore:
    return open_images(workspace.cache, spec.data)


def _cut(store: ImageStore, index: int, square: tuple[int, int, int, int], size: int) -> Tensor:
    image = torch.from_numpy(store.image(index)).permute(2, 0, 1)
    return resample(image, square, (size, size), "bilinear")


def _box_in(store: ImageStore, index: int, square: tuple[int, int, int, int]) -> Box | None:
    """The official box in the figure's pixels, cut at the square's edges; None where unknown or outside."""
    x0, y0, x1, y1 = store.boxes[index].tolist()
    if math.isnan(x0):
        return None
    left, top, right, _ = square
    scale = DISPLAY / (right - left)
    edges = [(x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale]
    box = Box(*(min(max(edge, 0.0), float(DISPLAY)) for edge in edges))
    return box if box.x1 > box.x0 and box.y1 > box.y0 else None
