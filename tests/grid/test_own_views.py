"""What an objective lays over a view: its own colours and crops, and only for the kind of view it names."""

from __future__ import annotations

from typing import Any

import pytest

from methods.args import RandomResizedCropArgs, SaliencySwapArgs, SharedAugmentationArgs
from suite.errors import UsageError
from suite.grid.profile import Profile, load_profile
from suite.grid.recipe import Recipe, resolve
from suite.grid.spec import Row


def row(objective: str, views: str = "random_resized_crop", **changes: Any) -> Row:
    return Row(name="r", label="R", method="r", objective=objective, views=views, **changes)


def recipe(profile: str, *args: Any, **changes: Any) -> Recipe:
    return resolve(load_profile(profile), row(*args, **changes), {}).recipe


@pytest.mark.parametrize("profile", ["demo", "small", "paper"])
def test_every_objective_has_its_own_colours(profile: str) -> None:
    brightness = {}
    for objective in ("byol", "simclr", "moco_v2"):
        views = recipe(profile, objective).views
        assert isinstance(views, RandomResizedCropArgs)
        assert len(views.photometry) == 2
        brightness[objective] = (views.photometry[0].brightness, views.photometry[0].saturation)
    assert brightness == {"byol": (0.4, 0.2), "simclr": (0.8, 0.8), "moco_v2": (0.4, 0.4)}


def test_own_views_win_over_the_view_and_lose_against_the_row() -> None:
    resolved = resolve(load_profile("paper"), row("moco_v2"), {})
    assert isinstance(resolved.recipe.views, RandomResizedCropArgs)
    assert resolved.recipe.views.scale == 0.2
    assert resolved.origins["views.scale"] == "profile paper, objective moco_v2"
    changed = recipe("paper", "moco_v2", set={"views.scale": 0.5}).views
    assert isinstance(changed, RandomResizedCropArgs)
    assert changed.scale == 0.5


def test_crop_scale_of_one_kind_does_not_reach_another() -> None:
    """MoCo's smallest crop, a share of the image, is not Saliency Swap's, a share of the salient box."""
    swapped = recipe("paper", "moco_v2", "saliency_swap").views
    assert isinstance(swapped, SaliencySwapArgs)
    assert swapped.scale == 0.4
    assert swapped.photometry[0].saturation == 0.4


@pytest.mark.parametrize("profile", ["demo", "small", "paper"])
def test_looc_has_as_many_spaces_as_its_views_share(profile: str) -> None:
    both = recipe(profile, "looc", "shared_augmentation")
    assert isinstance(both.views, SharedAugmentationArgs)
    assert both.objective is not None
    assert both.objective.model_dump()["augmentations"] == len(both.views.shared)


def test_mistyped_view_under_an_objective_is_named() -> None:
    data = load_profile("demo").model_dump()
    data["objectives"]["simclr"]["views"] = {"random_resized_corp": {}}
    with pytest.raises(UsageError, match=r"random_resized_corp(.|\n)*random_resized_crop"):
        resolve(Profile(**data), row("simclr"), {})
