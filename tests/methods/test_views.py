"""Views: the same distribution and the same colours as torchvision's, and the traps of Saliency Swap."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms.v2 import functional as F

from methods.args import PhotometryArgs, RandomResizedCropArgs, SaliencySwapArgs
from methods.views import color_jitter as colour
from methods.views.geometry import random_boxes
from methods.views.random_resized_crop import RandomResizedCrop
from methods.views.saliency_swap import SaliencySwap, other_indices

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Photos:
    """Images of one flat grey level each (10 x index), saliency a box with a level of its own."""

    def __init__(self, count: int = 6, height: int = 40, width: int = 60) -> None:
        self.count, self.height, self.width = count, height, width
        self.boxes = [(5 + i, 4 + i, 35 + i, 30 + i) for i in range(count)]

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        return torch.full((3, self.height, self.width), 10 * index, dtype=torch.uint8)

    def saliency(self, index: int) -> Tensor:
        x0, y0, x1, y1 = self.boxes[index]
        mask = torch.zeros(1, self.height, self.width, dtype=torch.uint8)
        mask[:, y0:y1, x0:x1] = 200
        return mask

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        return self.boxes[index]


def jittered(images: Tensor, args: PhotometryArgs, generator: torch.Generator) -> Tensor:
    """All colour changes of one view."""
    drawn = colour.parameters([colour.draw(len(images), args, generator)], [args])
    return colour.apply(images, drawn.of_views()[0], args.blur_kernel)


def test_boxes_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    image = torch.zeros(3, 60, 100)
    theirs = np.array(
        [
            [d["left"], d["top"], d["width"], d["height"]]
            for d in (TorchvisionCrop(8, scale=(0.2, 1.0)).make_params([image]) for _ in range(3000))
        ]
    )
    regions = torch.tensor([[0, 0, 100, 60]]).repeat(3000, 1)
    boxes = random_boxes(regions, 0.2, (3 / 4, 4 / 3), rng()).numpy()
    ours = np.stack([boxes[:, 0], boxes[:, 1], boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)
    for column, name in enumerate(("left", "top", "width", "height")):
        assert stats.ks_2samp(theirs[:, column], ours[:, column]).pvalue > 1e-3, name


@pytest.mark.parametrize("region", [[3, 5, 4, 6], [0, 0, 200, 2], [0, 0, 3, 90], [10, 10, 60, 40]])
def test_boxes_stay_inside_and_are_never_empty(region: list[int]) -> None:
    boxes = random_boxes(torch.tensor([region]).repeat(500, 1), 0.08, (3 / 4, 4 / 3), rng())
    assert (boxes[:, 0] >= region[0]).all()
    assert (boxes[:, 1] >= region[1]).all()
    assert (boxes[:, 2] <= region[2]).all()
    assert (boxes[:, 3] <= region[3]).all()
    assert (boxes[:, 2] > boxes[:, 0]).all()
    assert (boxes[:, 3] > boxes[:, 1]).all()


def test_colour_changes_equal_torchvisions() -> None:
    images = torch.rand(5, 3, 16, 16, generator=rng())
    factor = torch.tensor([0.3, 0.8, 1.0, 1.4, 1.9])
    shift = torch.tensor([-0.5, -0.1, 0.0, 0.2, 0.45])
    for ours, theirs, amounts in (
        (colour.brightness, F.adjust_brightness, factor),
        (colour.contrast, F.adjust_contrast, factor),
        (colour.saturation, F.adjust_saturation, factor),
        (colour.shift_hue, F.adjust_hue, shift),
    ):
        got = ours(images, amounts)
        expected = torch.stack([theirs(image, float(a)) for image, a in zip(images, amounts, strict=True)])
        assert torch.allclose(got, expected, atol=2e-6), theirs.__name__


def test_hue_of_grey_pixels_stays() -> None:
    grey = torch.full((1, 3, 4, 4), 0.3)
    assert torch.allclose(colour.shift_hue(grey, torch.tensor([0.3])), grey)


def test_blur_equals_torchvisions() -> None:
    images = torch.rand(3, 3, 32, 32, generator=rng())
    sigma = torch.tensor([0.3, 1.0, 2.0])
    got = colour.blur(images, sigma, kernel_share=0.22)
    expected = torch.stack([F.gaussian_blur(i, [7, 7], [float(s)]) for i, s in zip(images, sigma, strict=True)])
    assert torch.allclose(got, expected, atol=1e-5)


def test_solarize_inverts_the_bright_half() -> None:
    got = colour.solarize(torch.tensor([0.2, 0.5, 0.9]))
    assert torch.allclose(got, torch.tensor([0.2, 0.5, 0.1]))


def test_jitter_draws_per_image_and_leaves_its_input() -> None:
    args = PhotometryArgs(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, jitter_p=0.8, gray_p=0.2, blur_p=0.5)
    one = torch.rand(1, 3, 16, 16, generator=rng())
    images = one.repeat(64, 1, 1, 1)
    got = jittered(images, args, rng())
    assert torch.equal(images, one.repeat(64, 1, 1, 1))
    assert len({tuple(row.tolist()) for row in got.flatten(1)[:, :4]}) > 32
    assert got.min() >= 0
    assert got.max() <= 1
    assert torch.equal(got, jittered(images, args, rng()))


def test_share_of_changed_images_is_the_stated_probability() -> None:
    args = PLAIN.model_copy(update={"solarize_p": 0.2})
    images = torch.full((4000, 3, 2, 2), 0.9)
    changed = (jittered(images, args, rng())[:, 0, 0, 0] < 0.5).float().mean()
    assert changed.item() == pytest.approx(0.2, abs=0.02)


def test_flip_moves_image_and_mask_together() -> None:
    plain, mixed = (swap(flip_p=p).crops(torch.arange(6).repeat(4), rng()) for p in (0.0, 0.5))
    assert plain.masks is not None
    assert mixed.masks is not None
    turned = 0
    for view in range(2):
        for index in range(24):
            pair = [(plain.images[view][index], mixed.images[view][index])]
            pair.append((plain.masks[view][index], mixed.masks[view][index]))
            as_was = all(torch.equal(a, b) for a, b in pair)
            mirrored = all(torch.equal(a.flip(-1), b) for a, b in pair)
            assert as_was or mirrored
            turned += mirrored and not as_was
    assert 12 <= turned <= 36


def test_random_resized_crop_gives_as_many_views_as_colour_settings() -> None:
    args = RandomResizedCropArgs(scale=0.2, photometry=(PLAIN, PLAIN, PLAIN))
    views = RandomResizedCrop(args, Photos(), 16)(torch.tensor([1, 2]), rng(), torch.device("cpu"))
    assert [tuple(image.shape) for image in views.images] == [(2, 3, 16, 16)] * 3
    assert views.masks is None


@pytest.mark.parametrize(("total", "how_many"), [(3, 2), (10, 2), (50, 3)])
def test_backgrounds_are_others_and_differ_and_are_uniform(total: int, how_many: int) -> None:
    indices = torch.randint(total, (6000,), generator=rng())
    others = other_indices(indices, total, how_many, rng(1))
    everything = torch.cat([indices[None], others])
    assert all(len(set(column)) == how_many + 1 for column in everything.T.tolist())
    assert others.min() >= 0
    assert others.max() < total
    for row in others:  # relative position is uniform over the other images
        counts = torch.bincount((row - indices) % total, minlength=total)[1:].numpy()
        assert stats.chisquare(counts).pvalue > 1e-4


def swap(**changes: object) -> SaliencySwap:
    base = {"scale": 0.4, "photometry": (PLAIN, PLAIN), "flip_p": 0.0, "interpolation": "bilinear"}
    return SaliencySwap(SaliencySwapArgs(**{**base, **changes}), Photos(), 20)  # type: ignore[arg-type]


def test_views_show_the_reference_on_two_different_backgrounds() -> None:
    crops = swap().crops(torch.arange(6), rng())
    assert crops.masks is not None
    for index in range(6):
        seen = []
        for image, mask in zip(crops.images, crops.masks, strict=True):
            inside = mask[index, 0] > 0
            assert inside.any()
            assert (image[index, 0][inside] == 10 * index).all()
            outside = image[index, 0][image[index, 0] != 10 * index]
            assert len(outside.unique()) == 1  # one background
            seen.append(int(outside[0]))
        assert seen[0] != seen[1]


def test_paste_fills_the_backgrounds_box_scaled_with_the_image() -> None:
    maker = swap(canvas="squash", mask="rectangle")
    crops = maker.crops(torch.tensor([0]), rng())
    assert crops.masks is not None
    background = int(crops.images[0][0, 0].max()) // 10
    x0, y0, x1, y1 = Photos().boxes[background]
    rows, columns = torch.nonzero(crops.masks[0][0, 0] > 0, as_tuple=True)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = [x0 * 20 / 60, y0 * 20 / 40, x1 * 20 / 60, y1 * 20 / 40]
    assert np.abs(np.array([int(v) for v in box]) - np.array(expected)).max() <= 0.5


def test_crop_comes_from_inside_the_salient_box() -> None:
    class Marked(Photos):
        def image(self, index: int) -> Tensor:
            image = torch.full((3, self.height, self.width), 255, dtype=torch.uint8)
            x0, y0, x1, y1 = self.boxes[index]
            image[:, y0:y1, x0:x1] = 10 * index
            return image

    args = SaliencySwapArgs(scale=0.3, photometry=(PLAIN,), mask="rectangle", flip_p=0, interpolation="bilinear")
    crops = SaliencySwap(args, Marked(), 30).crops(torch.arange(6), rng())
    assert crops.masks is not None
    for index in range(6):
        assert (crops.images[0][index, 0][crops.masks[0][index, 0] > 0] == 10 * index).all()


def test_mask_is_saliency_not_the_rectangle() -> None:
    class Half(Photos):
        def saliency(self, index: int) -> Tensor:
            mask = super().saliency(index)
            mask[:, :, : self.boxes[index][0] + 15] = 0
            return mask

    args = SaliencySwapArgs(scale=1.0, photometry=(PLAIN,), flip_p=0, interpolation="bilinear")
    soft = SaliencySwap(args, Half(), 20).crops(torch.arange(6), rng()).masks
    full = SaliencySwap(args.model_copy(update={"mask": "rectangle"}), Half(), 20).crops(torch.arange(6), rng()).masks
    assert soft is not None
    assert full is not None
    assert 0 < soft[0].float().sum() < 0.6 * full[0].float().sum()
    assert soft[0].max() <= 200  # no overshoot


def test_square_canvas_keeps_the_whole_box_where_it_fits() -> None:
    maker = swap(mask="rectangle")
    whole, salient = torch.tensor([[0, 0, 60, 40]] * 4), torch.tensor([[5, 4, 35, 30]] * 3 + [[0, 0, 60, 40]])
    canvases, places = maker._canvases(whole, salient, torch.tensor([0.0, 0.5, 0.999, 0.5], dtype=torch.float64))
    assert (canvases[:, 2:] - canvases[:, :2]).tolist() == [[40, 40]] * 4
    assert (canvases[:3, 0] <= 5).all()
    assert (canvases[:3, 2] >= 35).all()
    for left, _, right, _ in places[:3].tolist():
        assert right - left == pytest.approx(30 * 20 / 40, abs=1)
    assert places[3].tolist() == [0, 0, 20, 20]


def test_canvases_of_a_batch_are_those_of_its_images_one_by_one() -> None:
    """The definition in plain Python, image by image, for boxes of any size and place."""
    maker, draw = swap(), random.Random(0)

    def axis(length: int, side: int, low: int, high: int, shift: float) -> tuple[int, int, int]:
        ends = sorted((max(0, high - side), min(length - side, low)))
        start = ends[0] + int(shift * (ends[1] - ends[0] + 1))
        first = min(max(round((low - start) * (maker.size / side)), 0), maker.size - 1)
        return start, first, min(max(round((high - start) * (maker.size / side)), first + 1), maker.size)

    whole, salient, shifts, expected = [], [], [], []
    for _ in range(500):
        width, height, shift = draw.randrange(8, 90), draw.randrange(8, 90), draw.random()
        left, right = sorted(draw.sample(range(width + 1), 2))
        top, bottom = sorted(draw.sample(range(height + 1), 2))
        side = min(width, height)
        x, x0, x1 = axis(width, side, left, right, shift)
        y, y0, y1 = axis(height, side, top, bottom, shift)
        whole.append([0, 0, width, height])
        salient.append([left, top, right, bottom])
        shifts.append(shift)
        expected.append(([x, y, x + side, y + side], [x0, y0, x1, y1]))
    canvases, places = maker._canvases(
        torch.tensor(whole), torch.tensor(salient), torch.tensor(shifts, dtype=torch.float64)
    )
    assert list(zip(canvases.tolist(), places.tolist(), strict=True)) == expected


def test_too_few_images_for_two_backgrounds_is_an_error() -> None:
    args = SaliencySwapArgs(scale=0.4, photometry=(PLAIN, PLAIN))
    with pytest.raises(ValueError, match="at least 3"):
        SaliencySwap(args, Photos(count=2), 16)
