"""The Grad-CAM figure of a grid: one dataset's test images in rows, the fine-tuned networks of its rows in columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from analysis.cam import grad_cam
from analysis.figures import CamColumn, cam_figure, save
from methods.backbone import Backbone, Classifier
from methods.views.batch import normalise, to_unit
from methods.views.geometry import resample
from suite.data.images import ImageStore, open_store, store_folder
from suite.data.record import Box
from suite.errors import StoreError
from suite.grid.jobs import FinetuneSpec
from suite.grid.spec import GridSpec
from suite.training.checkpoint import hand_over, load_weights
from suite.workspace import Workspace

DISPLAY = 224  # px, side of the photographs in the figure, however small the network's input is


def load_classifier(workspace: Workspace, key: str, spec: FinetuneSpec, classes: int) -> Classifier:
    """The fine-tuned network of a finished job, in evaluation mode."""
    model = Classifier(Backbone(spec.backbone), classes)
    hand_over(model, load_weights(workspace.store.weights(key, "model.safetensors")), key)
    return model.eval()


def pick(store: ImageStore, count: int, seed: int = 0) -> list[int]:
    """Positions of `count` test images of different classes where possible, drawn by `seed` alone."""
    rng = np.random.default_rng(seed)
    test = np.array(store.indices("test"))
    shuffled = rng.permutation(test)
    _, first = np.unique(store.labels[shuffled], return_index=True)
    different = shuffled[np.sort(first)]
    rest = shuffled[~np.isin(shuffled, different)]
    return [int(index) for index in np.concatenate([different, rest])[:count]]


def gradcam_figure(
    workspace: Workspace, grid: GridSpec, entries: Sequence[dict[str, Any]], stem: Path, count: int
) -> list[Path]:
    """Write stem.pdf, stem.png and stem.json (which images) for the finished cells of one dataset and one seed.

    The class explained is the true one. Photographs are shown larger than a small network saw them; the maps are
    enlarged with them. Raises StoreError where a cell's weights are missing or damaged.
    """
    keys = [(grid.row(entry["row"]), entry["measured"]["finetune"]) for entry in entries]
    spec = workspace.store.spec(keys[0][1])
    if not isinstance(spec, FinetuneSpec):
        raise StoreError(f"job {keys[0][1]} is no fine-tuning, so it has no Grad-CAM.")
    store = open_store(store_folder(workspace.cache, spec.data.name, spec.data.fingerprint, spec.data.store_size))
    chosen = pick(store, count)
    squares = [_square(store, index, spec.train.eval_resize) for index in chosen]
    inputs = torch.stack([_cut(store, i, s, spec.image_size) for i, s in zip(chosen, squares, strict=True)])
    shown = torch.stack([_cut(store, i, s, DISPLAY) for i, s in zip(chosen, squares, strict=True)])
    labels = torch.from_numpy(store.labels[chosen])
    columns = []
    for row, key in keys:
        model = load_classifier(workspace, key, spec, len(store.facts.classes))
        maps = grad_cam(model, normalise(to_unit(inputs)), labels)  # [N, S, S]
        large = interpolate(maps[:, None], (DISPLAY, DISPLAY), mode="bilinear", align_corners=False)[:, 0]
        columns.append(CamColumn(row.label, large.numpy()))
    names = [f"{store.facts.classes[store.labels[i]]}\n{Path(store.paths[i]).name}" for i in chosen]
    boxes = [_box_in(store, i, s) for i, s in zip(chosen, squares, strict=True)]
    photographs: NDArray[np.uint8] = shown.permute(0, 2, 3, 1).numpy()
    notes = [f"{store.facts.describe}."] if store.facts.subset or store.facts.synthetic else []
    notes += [f"Test images drawn by seed 0. Network input {spec.image_size} px. Thin frame: box from the annotations."]
    figure = cam_figure(columns, photographs, names, boxes=boxes, notes=notes)
    record = {
        "grid": grid.name,
        "dataset": store.facts.describe,
        "seed": spec.seed,
        "images": [store.paths[i] for i in chosen],
        "networks": {row.name: key for row, key in keys},
    }
    return save(figure, stem, record)


def _square(store: ImageStore, index: int, eval_resize: float) -> tuple[int, int, int, int]:
    """The central square that evaluation looks at: left, top, right, bottom in the store's pixels."""
    height, width = store.shapes[index].tolist()
    side = max(1, round(min(height, width) / eval_resize))
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _cut(store: ImageStore, index: int, square: tuple[int, int, int, int], size: int) -> torch.Tensor:
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
