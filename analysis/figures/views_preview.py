"""A contact sheet of images and their views. Only the images that it uses are decoded and get saliency maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from methods.backbones.registry import build_backbone
from methods.registry import VIEWS
from methods.views.adaptive import AdaptiveViews
from methods.views.batch import Crops, denormalised
from methods.views.contrastive_crop import ContrastiveCrop
from suite.data.datasets.load import load_dataset
from suite.data.decoded.images import build_store
from suite.data.decoded.saliency import build_maps
from suite.data.decoded.split import SplitSource
from suite.data.record import Dataset
from suite.data.saliency.detectors import DETECTOR_IDENTITIES
from suite.data.saliency.maps import saliency_maps
from suite.data.spec import SaliencySpec
from suite.errors import UsageError, unknown
from suite.grid.cells import parse_overrides
from suite.grid.profile import Profile, load_profile
from suite.grid.recipe import Recipe, resolve
from suite.grid.spec import Row
from suite.progress import preparation
from suite.weights import load_backbone_state, load_weights
from suite.workspace import Workspace

if TYPE_CHECKING:
    from methods.backbone import Backbone
    from methods.views.base import ViewMaker

BACKGROUNDS = 8  # further images, for views that paste an object onto another image


def preview_sheet(
    workspace: Workspace,
    dataset: str,
    view: str,
    profile: str,
    overrides: list[str],
    images: int,
    seed: int,
    out: Path,
    weights: Path | None = None,
) -> Path:
    """Write a contact sheet of `images` training images: the image, then each view before and after colour changes.

    Views that depend on the network are those after an update by the backbone in the file `weights`, or by an untrained
    one of the same seed.
    """
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    used = load_profile(profile)
    recipe = _recipe(used, view, overrides)
    rng = torch.Generator().manual_seed(seed)
    root = workspace.data_root(used, render=True)
    whole = load_dataset(dataset, root)
    chosen = torch.randperm(len(whole.train), generator=rng)[: images + BACKGROUNDS].tolist()
    part = replace(whole, train=tuple(whole.train[index] for index in chosen), test=())
    indices = torch.arange(min(images, len(chosen)))
    with _views(workspace, used, whole, part, view, recipe) as maker:
        if isinstance(maker, AdaptiveViews):
            maker.update(_backbone(recipe, weights, seed), torch.device("cpu"))
        elif weights is not None:
            raise UsageError(f"view '{view}' does not depend on a network. Leave --weights out.")
        return _sheet(maker, view, indices, chosen, rng, out)


def _sheet(maker: ViewMaker, view: str, indices: Tensor, numbers: list[int], rng: torch.Generator, out: Path) -> Path:
    """Write the sheet of the first images of `maker.source`. `numbers`: their places in the training split."""
    from analysis.figures.style import contact_sheet

    crops = maker.crops(indices, rng)
    coloured = [denormalised(batch) for batch in maker.colours(crops, rng, torch.device("cpu")).images]
    views, total = list(zip(_joined(crops.images), _joined(coloured), strict=True)), len(coloured)
    pictures, masks, titles = [], [], []
    for row, index in enumerate(indices.tolist()):
        pictures.append(maker.source.image(index).permute(1, 2, 0).numpy())
        masks.append(_reference_outline(maker, view, index))
        titles.append(f"image {numbers[index]}")
        for number, pair in enumerate(views):
            joined = number + 1 == len(views) < total
            name = f"views {number + 1} to {total}" if joined else f"view {number + 1}"
            for label, batch in zip(("", " coloured"), pair, strict=True):
                each = len(batch) // len(indices)  # a view may have several pictures per image
                pictures.append(_mosaic(batch[row * each : (row + 1) * each]))
                masks.append(_outline(crops, number, row))
                titles.append(name + label)
    columns = 1 + 2 * len(views)
    contact_sheet(pictures, masks=masks, titles=titles, columns=columns).save(out)
    return out


def _joined(views: list[Tensor]) -> list[Tensor]:
    """Views [B, 3, S, S]; those smaller than the first, local crops, form one batch [n B, 3, s, s], image by image."""
    large = [view for view in views if view.shape[-1] >= views[0].shape[-1]]
    small = views[len(large) :]
    return [*large, torch.stack(small, dim=1).flatten(0, 1)] if small else views


def _mosaic(pictures: Tensor) -> NDArray[np.uint8]:
    """uint8 [n, 3, S, S] -> [H, W, 3]: the pictures row by row, as near to a square as they go, white between them."""
    if len(pictures) == 1:
        return pictures[0].permute(1, 2, 0).numpy()
    grid = make_grid(pictures, nrow=math.ceil(math.sqrt(len(pictures))), padding=2, pad_value=255)
    return cast("NDArray[np.uint8]", grid.permute(1, 2, 0).numpy())


def _reference_outline(maker: ViewMaker, view: str, index: int) -> NDArray[np.uint8] | None:
    """What the views know of an image, uint8 [H, W]: its saliency map, or the box that a network gave it."""
    if VIEWS[view].needs_saliency:
        return cast("NDArray[np.uint8]", maker.source.saliency(index)[0].numpy())
    if not isinstance(maker, ContrastiveCrop) or maker.learnt is None:
        return None
    height, width = maker.source.image(index).shape[1:]
    left, top, right, bottom = (
        (maker.learnt[index] * torch.tensor([width, height, width, height])).round().int().tolist()
    )
    inside = np.zeros((height, width), np.uint8)
    inside[top:bottom, left:right] = 255
    return inside


def _backbone(recipe: Recipe, weights: Path | None, seed: int) -> Backbone:
    torch.manual_seed(seed)
    backbone = build_backbone(recipe.backbone)
    if weights is not None:
        load_backbone_state(backbone, load_weights(weights), str(weights))
    return backbone


def _outline(crops: Crops, view: int, row: int) -> NDArray[np.uint8] | None:
    """What to outline in a view: its mask or its box, uint8 [S, S]; None where it has neither."""
    if crops.masks is not None:
        return cast("NDArray[np.uint8]", crops.masks[view][row, 0].numpy())
    if crops.boxes is None:
        return None
    left, top, right, bottom = (max(0, round(v)) for v in crops.boxes[view][row].tolist())
    inside = np.zeros(crops.images[view].shape[-2:], np.uint8)
    inside[top:bottom, left:right] = 255
    return inside


def _recipe(profile: Profile, view: str, overrides: list[str]) -> Recipe:
    objective = next(name for part in profile.chain for name in part.objectives)  # any: views are what is looked at
    row = Row(name="preview", label="preview", method="preview", objective=objective, views=view)
    return resolve(profile, row, parse_overrides(overrides)).recipe


@contextmanager
def _views(
    workspace: Workspace, profile: Profile, whole: Dataset, part: Dataset, view: str, recipe: Recipe
) -> Iterator[ViewMaker]:
    """The view over the images of `part`. Their maps stay in the cache, their decoded images are temporary."""
    root = workspace.data_root(profile, render=True)
    with TemporaryDirectory() as temporary, preparation() as progress:
        store = build_store(
            part, "preview", recipe.store_size, Path(temporary), lambda done, total: progress("decode", done, total)
        )
        maps = None
        if VIEWS[view].needs_saliency:
            if recipe.saliency is None:
                raise UsageError(f"view '{view}' needs saliency maps, but profile '{profile.name}' names no detector.")
            version, weights = DETECTOR_IDENTITIES[recipe.saliency.detector]
            spec = SaliencySpec(**recipe.saliency.model_dump(), version=version, weights_sha256=weights)
            pictures = saliency_maps(whole, spec, root, workspace.cache, progress, records=part.train)
            maps = build_maps(store, part, spec, pictures)
        maker: ViewMaker = VIEWS[view].load()(recipe.views, SplitSource(store, "train", maps), recipe.image_size)
        yield maker
