"""A look at the counterfactual test images that networks are measured on."""

from __future__ import annotations

from pathlib import Path

import torch

from methods.measures.counterfactuals import COUNTERFACTUAL_KINDS, Counterfactuals
from suite.data.datasets.load import load_dataset
from suite.data.decoded.saliency import build_maps
from suite.data.decoded.split import SplitSource
from suite.data.decoded.stores import prepare_images
from suite.data.saliency.detectors import DETECTOR_IDENTITIES
from suite.data.saliency.maps import saliency_maps
from suite.data.spec import DataSpec
from suite.errors import DataError, UsageError
from suite.grid.cell_jobs import saliency_spec
from suite.grid.cells import parse_overrides
from suite.grid.profile import load_profile
from suite.grid.recipe import recipe_without_pretraining
from suite.planning.plan import fingerprints
from suite.workspace import Workspace


def counterfactual_sheet(
    workspace: Workspace, dataset: str, profile: str, overrides: list[str], images: int, seed: int, out: Path
) -> Path:
    """Write a contact sheet of `images` test images, those that cells with this seed are measured on: what is object
    is outlined in the original, every kind of counterfactual beside it.

    Raises:
        UsageError: the profile measures no background reliance.
        DataError: no test image has both an object and a background.
    """
    from analysis.figures.style import contact_sheet

    used = load_profile(profile)
    recipe = recipe_without_pretraining(used, parse_overrides(overrides))
    if recipe.background is None or recipe.saliency is None:
        raise UsageError(f"profile '{profile}' has no section background; add one: background: {{fill: tile}}")
    root = workspace.data_root(used, render=True)
    found = load_dataset(dataset, root)
    print_of = fingerprints({dataset: found}, workspace.cache)[dataset]
    data = DataSpec(name=dataset, fingerprint=print_of, store_size=recipe.store_size)
    store = prepare_images(found, data, workspace.cache)
    spec = saliency_spec(recipe.saliency, DETECTOR_IDENTITIES)
    maps = saliency_maps(found, spec, root, workspace.cache, split="test")
    test = SplitSource(store, "test", build_maps(store, found, spec, maps, split="test"))
    made = Counterfactuals(test, test.labels, spec.threshold, recipe.background.fill, seed)
    if not len(made):
        raise DataError(
            f"{found.info.label}: the maps of {spec.detector} give no test image a box smaller than the image. Use "
            "another detector: --set saliency.detector=u2netp"
        )
    pictures, masks, titles = [], [], []
    for index in torch.randperm(len(made), generator=torch.Generator().manual_seed(seed))[:images].tolist():
        for kind in COUNTERFACTUAL_KINDS:
            pictures.append(made.make(index, kind).permute(1, 2, 0).numpy())
            masks.append(made.mask(index)[0].numpy() if kind == "original" else None)
            name = found.classes[int(made.labels[index])]
            titles.append(name if kind == "original" else kind.replace("_", " "))
    contact_sheet(pictures, masks=masks, titles=titles, columns=len(COUNTERFACTUAL_KINDS)).save(out)
    return out
