"""DiLo's views against Pillow's compositing, SciPy's Gaussian, and counted shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import Tensor

from methods.args import DiloArgs, PhotometryArgs, RandomResizedCropArgs
from methods.registry import VIEWS
from methods.views.dilo import Dilo, blurred, composite, composites, cut, opacity
from methods.views.geometry import uniform
from methods.views.random_resized_crop import random_crops

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)
SIDE = 24


class Photos:
    """Orange images, square so that a crop of scale 1 is the whole of them; one saliency map for all."""

    def __init__(self, saliency: Tensor) -> None:
        self.map = saliency

    def __len__(self) -> int:
        return 10

    def image(self, index: int) -> Tensor:
        return torch.tensor([200, 120, 40], dtype=torch.uint8).view(3, 1, 1).expand(3, SIDE, SIDE)

    def saliency(self, index: int) -> Tensor:
        return self.map

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("DiLo reads no boxes")


class Noise(Photos):
    def image(self, index: int) -> Tensor:
        return torch.randint(256, (3, 30, 50), generator=rng(index), dtype=torch.uint8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(value: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    return torch.full((1, height, width), value, dtype=torch.uint8)


def step() -> Tensor:
    """Salient on the left half, not at all on the right."""
    saliency = flat(0)
    saliency[:, :, : SIDE // 2] = 255
    return saliency


def maker(source: Photos, **changes: object) -> Dilo:
    base = {
        "scale": 1.0,
        "photometry": (PLAIN, PLAIN),
        "flip_p": 0.0,
        "composite_p": 0.3,
        "blur_p": 0.5,
        "blur_sigma": 0.05,
    }
    return Dilo(DiloArgs(**{**base, **changes}), source, SIDE)  # type: ignore[arg-type]


def test_shares_are_stated_and_views_independent() -> None:
    crops = maker(Photos(flat(0))).crops(torch.zeros(4000, dtype=torch.long), rng())
    assert crops.masks is None
    grey = []
    for view in crops.images:
        corner = view[:, :, 0, 0]
        alike = (corner == corner[:, :1]).all(dim=1)
        assert (corner[~alike] == torch.tensor([200, 120, 40], dtype=torch.uint8)).all()
        assert (view.flatten(2) == corner[:, :, None]).all()  # one level all over
        grey.append(alike)
    for alike in grey:
        assert alike.float().mean().item() == pytest.approx(0.3, abs=0.025)
    table = [[int((a & b).sum()) for b in (grey[1], ~grey[1])] for a in (grey[0], ~grey[0])]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    first, second = (view[grey[0] & grey[1], 0, 0, 0] for view in crops.images)
    assert (first != second).float().mean() > 0.9  # a level of its own for each view


def test_level_is_uniform_over_all_greys() -> None:
    crops = maker(Photos(flat(0)), composite_p=1.0).crops(torch.zeros(8000, dtype=torch.long), rng())
    counts = np.bincount(crops.images[0][:, 0, 0, 0].numpy(), minlength=256)
    assert counts.min() > 0
    assert stats.chisquare(counts).pvalue > 1e-3


def test_half_of_the_composites_have_a_blurred_map() -> None:
    crops = maker(Photos(step()), blur_sigma=0.1).crops(torch.zeros(3000, dtype=torch.long), rng())
    left, right, edge = (crops.images[0][:, :, 5, at].int() for at in (0, -1, SIDE // 2 - 1))
    assert (left == torch.tensor([200, 120, 40])).all()  # the object stays as it was
    composed = (right == right[:, :1]).all(dim=1)
    far = (right - torch.tensor([200, 120, 40])).abs().amax(dim=1) > 40  # where a blur shows
    soft = (edge != left).any(dim=1)
    assert not soft[~composed].any()
    assert soft[composed & far].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_alpha_is_soft_as_in_pillow() -> None:
    picture = torch.randint(256, (3, 30, 40), generator=rng(1), dtype=torch.uint8)
    saliency = torch.randint(256, (1, 30, 40), generator=rng(2), dtype=torch.uint8)
    for level in (0, 77, 255):
        ours = composite(picture, saliency.float() / 255, level)
        theirs = Image.composite(
            Image.fromarray(picture.permute(1, 2, 0).numpy()),
            Image.new("RGB", (40, 30), (level, level, level)),
            Image.fromarray(saliency[0].numpy()),
        )
        difference = ours.permute(1, 2, 0).int() - torch.from_numpy(np.array(theirs)).int()
        assert difference.abs().max() <= 1  # Pillow rounds in integers
        exact = saliency / 255 * picture + (1 - saliency / 255) * level
        assert (ours - exact).abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize("sigma", [0.2, 1.7, 5.0])
def test_blur_equals_scipys(sigma: float) -> None:
    alpha = torch.rand(1, 20, 33, generator=rng(), dtype=torch.float64)
    expected = gaussian_filter(alpha[0].numpy(), sigma, mode="nearest", radius=max(1, int(np.ceil(4 * sigma))))
    assert np.abs(blurred(alpha, sigma)[0].numpy() - expected).max() < 1e-12


def test_blur_is_close_to_pillows_of_the_same_radius() -> None:
    disc = ((torch.arange(80)[None] - 40) ** 2 + (torch.arange(60)[:, None] - 30) ** 2 < 400) * 255
    theirs = Image.fromarray(disc.to(torch.uint8).numpy()).filter(ImageFilter.GaussianBlur(5))
    ours = 255 * blurred(disc[None].float() / 255, 5.0)[0]
    assert np.abs(ours.numpy() - np.array(theirs)).max() < 4


def test_blurs_width_follows_the_short_side() -> None:
    image = torch.randint(0, 256, (3, 30, 50), generator=rng(), dtype=torch.uint8)
    alpha = torch.randint(0, 256, (1, 30, 50), generator=rng(), dtype=torch.uint8)
    box = (4, 2, 44, 29)
    (picture,) = composites(
        [image], [alpha], torch.tensor([box]), torch.tensor([True]), torch.tensor([0.1]).double(), torch.tensor([77])
    )
    assert torch.equal(picture, composite(cut(image, box), opacity(alpha, box, 3.0), 77))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_all_ones_map_leaves_every_pixel_and_no_map_none(interpolation: str) -> None:
    indices = torch.arange(10)
    common = {"scale": 0.2, "interpolation": interpolation, "flip_p": 0.5}
    ones = maker(Noise(flat(255, 30, 50)), composite_p=1.0, **common).crops(indices, rng())
    never = maker(Noise(flat(0, 30, 50)), composite_p=0.0, **common).crops(indices, rng())
    always = maker(Noise(flat(0, 30, 50)), composite_p=1.0, **common).crops(indices, rng())
    for untouched, full, empty in zip(never.images, ones.images, always.images, strict=True):
        assert torch.equal(untouched, full)
        assert (empty == empty[:, :1, :1, :1]).all()


def test_composition_comes_before_the_crop() -> None:
    """A crop of the composite, not a composite of the crop: the whole image is composed, then cut and resampled."""
    indices = torch.arange(10)
    saliency = torch.randint(256, (1, 30, 50), generator=rng(7), dtype=torch.uint8)
    source = Noise(saliency)
    view = maker(source, photometry=(PLAIN,), composite_p=1.0, blur_p=0.0, scale=0.2)
    (ours,) = view.crops(indices, rng()).images

    generator = rng()
    uniform(generator, (10, 2))  # whether to compose and to blur
    levels = (uniform(generator, (10,)) * 256).long().tolist()
    composed = [composite(source.image(i), saliency.float() / 255, levels[i]) for i in range(10)]
    args = RandomResizedCropArgs(scale=0.2, flip_p=0.0, photometry=(PLAIN,))
    assert torch.equal(ours, random_crops(composed, args, SIDE, generator))


def test_registered_as_reading_saliency_and_giving_no_masks() -> None:
    assert VIEWS["dilo"].needs_saliency
    assert not VIEWS["dilo"].gives_masks
