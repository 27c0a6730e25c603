"""Crops that carry masks: those of plain crops, and CAST's constrained ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from methods.args import PhotometryArgs, RandomResizedCropArgs
from methods.attention_guided_args import CastCropArgs, CropWithMaskArgs
from methods.views.cast_crop import CastCrop, _start, covering_boxes
from methods.views.crop_with_mask import CropWithMask
from methods.views.random_resized_crop import RandomResizedCrop

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Blobs:
    """Image n shows its own saliency map: a bright rectangle, at another place in every image."""

    def __init__(self, count: int = 8, empty: tuple[int, ...] = ()) -> None:
        self.count, self.empty = count, empty

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        return self.saliency(index).expand(3, -1, -1)

    def saliency(self, index: int) -> Tensor:
        picture = torch.randint(0, 100, (1, 40, 56), generator=rng(index), dtype=torch.uint8)
        if index not in self.empty:
            picture[:, 4 + index : 16 + index, 6 + 4 * index : 20 + 4 * index] = 180
        return picture

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("not read")


def test_images_are_those_of_plain_crops() -> None:
    settings = {"photometry": (PLAIN, PLAIN), "scale": 0.1}
    plain = RandomResizedCrop(RandomResizedCropArgs(**settings), Blobs(), 16)
    masked = CropWithMask(CropWithMaskArgs(**settings), Blobs(), 16)
    one, other = (maker.crops(torch.arange(8), rng()) for maker in (plain, masked))
    assert one.masks is None
    assert other.masks is not None
    for a, b in zip(one.images, other.images, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_mask_is_under_the_same_crop_and_flip(flip: float) -> None:
    args = CropWithMaskArgs(photometry=(PLAIN, PLAIN), scale=0.1, flip_p=flip, interpolation="bilinear")
    crops = CropWithMask(args, Blobs(), 16).crops(torch.arange(8), rng())
    assert crops.masks is not None
    for image, mask in zip(crops.images, crops.masks, strict=True):
        assert torch.equal(image[:, :1], mask)


def test_bicubic_images_do_not_make_masks_overshoot() -> None:
    args = CropWithMaskArgs(photometry=(PLAIN,), scale=0.1, interpolation="bicubic")
    crops = CropWithMask(args, Blobs(), 40).crops(torch.arange(8), rng())
    assert crops.masks is not None
    assert int(crops.masks[0].max()) <= 180 < int(crops.images[0].max())


def cast(**changes: object) -> CastCropArgs:
    return CastCropArgs(**{"photometry": (PLAIN, PLAIN), "scale": 0.2, **changes})


def masks(count: int) -> list[Tensor]:
    """Rectangles of 8 x 10 px at random places of 40 x 56."""
    made = []
    for x, y in zip(np.linspace(0, 46, count).astype(int), np.linspace(32, 0, count).astype(int), strict=True):
        mask = torch.zeros(40, 56, dtype=torch.bool)
        mask[y : y + 8, x : x + 10] = True
        made.append(mask)
    return made


@pytest.mark.parametrize("centre", ["gaussian", "uniform"])
@pytest.mark.parametrize("coverage", [0.2, 0.9])
def test_every_crop_covers_the_share_and_stays_inside(centre: str, coverage: float) -> None:
    salient = masks(300)
    boxes = covering_boxes(salient, cast(centre=centre, coverage=coverage), rng())
    areas = []
    for mask, (x0, y0, x1, y1) in zip(salient, boxes, strict=True):
        assert 0 <= x0 < x1 <= 56
        assert 0 <= y0 < y1 <= 40
        assert int(mask[y0:y1, x0:x1].sum()) >= coverage * 80
        areas.append((x1 - x0) * (y1 - y0) / (40 * 56))
    # Of objects in corners ten crops may all fail; the crop around the object may then be smaller than 0.2.
    assert sum(area < 0.19 for area in areas) < (30 if coverage < 0.5 else 120)
    assert max(areas) > 0.9


def test_without_a_constraint_some_crops_miss_the_object() -> None:
    salient = masks(300)
    boxes = covering_boxes(salient, cast(coverage=0.0), rng())
    inside = [int(mask[y0:y1, x0:x1].sum()) for mask, (x0, y0, x1, y1) in zip(salient, boxes, strict=True)]
    assert sum(pixels < 16 for pixels in inside) > 10


def test_uniform_crops_are_random_resized_crops_that_passed() -> None:
    """Places of crops of one size are uniform where the constraint does not bind."""
    mask = torch.ones(40, 56, dtype=torch.bool)
    boxes = covering_boxes([mask] * 2000, cast(centre="uniform"), rng())
    shares = [x0 / (56 - (x1 - x0)) for x0, _, x1, _ in boxes if x1 - x0 < 40]
    assert stats.kstest(shares, "uniform", args=(-0.02, 1.04)).statistic < 0.06


def test_centres_are_a_truncated_normal() -> None:
    side, length, centroid = 400, 100, 120.0
    quantiles = np.random.default_rng(0).random(4000)
    centres = [_start(q, centroid, side, length) + length / 2 for q in quantiles]
    low, high = ((bound - centroid) / side for bound in (length / 2, side - length / 2))
    assert stats.kstest(centres, stats.truncnorm(low, high, centroid, side).cdf).statistic < 0.02
    assert _start(0.3, centroid, 100, 100) == 0


def test_the_last_resort_contains_the_object() -> None:
    """An object in two opposite corners: a coverage of 1 needs nearly the whole image, which ten draws do not give."""
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[2:6, 3:7] = mask[33:37, 42:46] = True
    for x0, y0, x1, y1 in covering_boxes([mask] * 50, cast(coverage=1.0), rng()):
        assert x0 <= 3
        assert y0 <= 2
        assert x1 >= 46
        assert y1 >= 37
        assert 3 / 4 - 0.03 <= (x1 - x0) / (y1 - y0) <= 4 / 3 + 0.03


def test_a_long_object_is_cut_to_the_permitted_ratio() -> None:
    mask = torch.zeros(40, 56, dtype=torch.bool)
    mask[20:22, 2:54] = True
    for x0, y0, x1, y1 in covering_boxes([mask] * 20, cast(coverage=1.0), rng()):
        assert (x1 - x0) <= 4 / 3 * (y1 - y0)
        assert mask[y0:y1, x0:x1].any()


def test_masks_are_the_salient_area_and_nothing_between() -> None:
    crops = CastCrop(cast(flip_p=0.5, interpolation="bilinear"), Blobs(), 24).crops(torch.arange(8), rng())
    assert crops.masks is not None
    for image, mask in zip(crops.images, crops.masks, strict=True):
        assert set(mask.flatten().tolist()) == {0, 255}
        assert image[:, :1][mask == 255].float().mean() > 165
        assert image[:, :1][mask == 0].float().mean() < 75


def test_an_image_without_an_object_is_replaced() -> None:
    source = Blobs(empty=(0, 3, 5))
    crops = CastCrop(cast(), source, 24).crops(torch.tensor([3, 1]), rng())
    assert crops.masks is not None
    assert all(mask[row].any() for mask in crops.masks for row in (0, 1))
    kept = CastCrop(cast(), Blobs(), 24).crops(torch.tensor([3, 1]), rng())
    assert torch.equal(crops.images[0][1], kept.images[0][1])  # the other image's crop is what it was


def test_where_no_image_has_an_object_the_whole_image_counts() -> None:
    crops = CastCrop(cast(), Blobs(empty=tuple(range(8))), 24).crops(torch.arange(2), rng())
    assert crops.masks is not None
    assert all(bool((mask == 255).all()) for mask in crops.masks)
