"""A look at what a view makes of a dataset's images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from methods.registry import VIEWS
from methods.views.batch import to_unit
from methods.views.photometry import photometry
from suite.data.images import build_store
from suite.data.maps import build_maps
from suite.data.prepare import DETECTOR_IDENTITIES, fingerprints, load_all, saliency_maps
from suite.data.source import SplitSource
from suite.errors import UsageError, unknown
from suite.grid.cells import parse_overrides
from suite.grid.jobs import SaliencySpec
from suite.grid.recipe import Profile, Recipe, load_profile, resolve
from suite.grid.spec import Row
from suite.workspace import Workspace

if TYPE_CHECKING:
    from methods.views.base import ViewMaker


def preview_sheet(
    workspace: Workspace, dataset: str, view: str, profile: str, overrides: list[str], images: int, seed: int, out: Path
) -> Path:
    """Write a contact sheet of `images` training images: the image, then each view before and after colour changes."""
    from analysis.figures import contact_sheet

    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    used = load_profile(profile)
    recipe = _recipe(used, view, overrides)
    maker = _views(workspace, used, dataset, view, recipe)
    rng = torch.Generator().manual_seed(seed)
    indices = torch.randperm(len(maker.source), generator=rng)[:images]
    crops = maker.crops(indices, rng)
    pictures, masks, titles = [], [], []
    for row, index in enumerate(indices.tolist()):
        pictures.append(maker.source.image(index).permute(1, 2, 0).numpy())
        masks.append(maker.source.saliency(index)[0].numpy() if VIEWS[view].needs_saliency else None)
        titles.append(f"image {index}")
        for number, (crop, change) in enumerate(zip(crops.images, maker.view_args.photometry, strict=True), 1):
            coloured = photometry(to_unit(crop[row : row + 1]), change, rng)[0]
            for label, picture in (("", crop[row]), (" coloured", (coloured * 255).round().to(torch.uint8))):
                pictures.append(picture.permute(1, 2, 0).numpy())
                masks.append(None if crops.masks is None else crops.masks[number - 1][row, 0].numpy())
                titles.append(f"view {number}{label}")
    columns = 1 + 2 * len(crops.images)
    contact_sheet(pictures, masks=masks, titles=titles, columns=columns).save(out)
    return out


def _recipe(profile: Profile, view: str, overrides: list[str]) -> Recipe:
    row = Row(name="preview", label="preview", method="preview", objective=next(iter(profile.objectives)), views=view)
    return resolve(profile, row, parse_overrides(overrides)).recipe


def _views(workspace: Workspace, profile: Profile, dataset: str, view: str, recipe: Recipe) -> ViewMaker:
    root = workspace.data_root(profile, draw=True)
    found = load_all([dataset], root)[dataset]
    print_of = fingerprints({dataset: found}, workspace.cache)[dataset]
    store = build_store(found, print_of, recipe.store_size, workspace.cache)
    maps = None
    if VIEWS[view].needs_saliency:
        if recipe.saliency is None:
            raise UsageError(f"view '{view}' needs saliency maps, but profile '{profile.name}' names no detector.")
        version, weights = DETECTOR_IDENTITIES[recipe.saliency.detector]
        spec = SaliencySpec(**recipe.saliency.model_dump(), version=version, weights_sha256=weights)
        maps = build_maps(store, found, spec, saliency_maps(found, spec, root, workspace.cache))
    maker: ViewMaker = VIEWS[view].load()(recipe.views, SplitSource(store, "train", maps), recipe.image_size)
    return maker
