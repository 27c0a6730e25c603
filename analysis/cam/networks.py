"""The figure of a grid's class activation maps: one dataset's test images, the fine-tuned networks of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from analysis.cam.images import DISPLAY, FigureImages, figure_images, finetune_spec
from analysis.cam.layout import networks_figure
from analysis.cam.options import CamOptions
from analysis.figures.style import CamColumn, cam_figure, save
from analysis.tables.notes import row_label
from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from methods.measures.cam_kinds import CAM_KINDS
from methods.measures.grad_cam import grad_cam
from suite.grid.spec import GridSpec
from suite.kinds.finetune import FinetuneSpec
from suite.store.cells import CellRecord
from suite.weights import load_backbone_state, load_weights
from suite.workspace import Workspace

MOST_COLUMNS = 5  # networks side by side; more of them are drawn below each other


def gradcam_figure(
    workspace: Workspace,
    grid: GridSpec,
    entries: Sequence[CellRecord],
    stem: Path,
    options: CamOptions,
    kind: str = "gradcam",
) -> list[Path]:
    """Write stem.pdf, stem.png and stem.json (which images) for the finished cells of one dataset and one seed.

    The class explained is the true one. Photographs are shown larger than a small network saw them; the maps are
    enlarged with them. Raises StoreError where a cell's weights are missing or damaged.
    """
    keys = [(grid.row(entry.row), entry.measured["finetune"]) for entry in entries]
    spec = finetune_spec(workspace.store, keys[0][1])
    images = figure_images(workspace, spec, options)
    columns = [CamColumn(row_label(row), network_maps(workspace, key, images, kind)) for row, key in keys]
    draw = cam_figure if len(columns) <= MOST_COLUMNS else networks_figure
    figure = draw(
        columns, images.display, images.names, boxes=images.boxes, notes=notes(images, spec, options, kind),
        colours=options.colours,
    )  # fmt: skip
    networks = {row.name: key for row, key in keys}
    return save(figure, stem, record(images, spec, options, kind) | {"grid": grid.name, "networks": networks})


def network_maps(workspace: Workspace, key: str, images: FigureImages, kind: str) -> NDArray[np.float32]:
    """Maps [N, DISPLAY, DISPLAY] of the fine-tuned network of job `key` for the true classes."""
    spec = finetune_spec(workspace.store, key)
    model = load_classifier(workspace, key, spec, len(images.store.facts.classes))
    maps = grad_cam(model, images.inputs, images.labels, kind=kind)  # [N, S, S]
    large = interpolate(maps[:, None], (DISPLAY, DISPLAY), mode="bilinear", align_corners=False)[:, 0]
    array: NDArray[np.float32] = large.numpy()
    return array


def load_classifier(workspace: Workspace, key: str, spec: FinetuneSpec, classes: int) -> Classifier:
    """The fine-tuned network of a finished job, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced at once
        model = Classifier(build_backbone(spec.backbone), classes)
    load_backbone_state(model, load_weights(workspace.store.weights(key, "model.safetensors")), key)
    return model.eval()


def notes(images: FigureImages, spec: FinetuneSpec, options: CamOptions, kind: str) -> list[str]:
    """Sentences below a figure: what is shown, and of what."""
    facts = images.store.facts
    sentences = [f"{facts.describe}."] if facts.subset or facts.synthetic else []
    sentences.append("" if kind == "gradcam" else f"{CAM_KINDS[kind][1]}.")
    sentences.append(
        f"Test images sampled with seed {options.seed}." if images.sampled else "Test images chosen by name."
    )
    sentences.append(f"Networks of training seed {spec.seed}, input {spec.image_size} px.")
    if any(box is not None for box in images.boxes):
        sentences.append("Thin frame: box from the annotations.")
    return [note for note in sentences if note]


def record(images: FigureImages, spec: FinetuneSpec, options: CamOptions, kind: str) -> dict[str, object]:
    """What is needed to make the figure again."""
    return {
        "cam": kind,
        "dataset": images.store.facts.describe,
        "seed": spec.seed,
        "images": list(images.paths),
        "image_seed": options.seed if images.sampled else None,
        "colormap": options.colours,
    }
