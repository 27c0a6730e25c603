"""Exchanged objects and backgrounds, pixel by pixel on pictures whose colours say where they come from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.measures.counterfactuals import (
    COUNTERFACTUAL_KINDS,
    CounterfactualKind,
    Counterfactuals,
    cover,
    mean_box,
    tile_box,
)


class Drawn:
    """Images of 8 x 10 whose background is 10 x (index + 1), with an object of 200 + index in the box 2, 3, 5, 6."""

    def __init__(self, number: int, without: int | None = None) -> None:
        self.number, self.without = number, without

    def __len__(self) -> int:
        return self.number

    def image(self, index: int) -> Tensor:
        picture = torch.full((3, 8, 10), 10 * (index + 1), dtype=torch.uint8)
        picture[:, 3:6, 2:5] = 200 + index
        return picture

    def saliency(self, index: int) -> Tensor:
        """The object but for one corner of its box, and a stray spot that is no part of it."""
        values = torch.zeros(1, 8, 10, dtype=torch.uint8)
        values[:, 3:6, 2:5] = 180
        values[:, 3, 2] = 20
        values[:, 0, 9] = 180
        return values

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        return (0, 0, 10, 8) if index == self.without else (2, 3, 5, 6)


def made(source: Drawn, labels: list[int], seed: int = 0) -> Counterfactuals:
    return Counterfactuals(source, torch.tensor(labels), 0.3, "tile", seed)


def colours(image: Tensor) -> set[int]:
    return set(image.flatten().tolist())


def test_each_kind_holds_what_its_name_says() -> None:
    images = made(Drawn(4), [0, 0, 1, 1])
    pictures = {kind: images.make(0, kind) for kind in COUNTERFACTUAL_KINDS}
    assert colours(pictures["original"]) == {10, 200}
    assert colours(pictures["foreground"]) == {0, 200}
    assert colours(pictures["background_only"]) == {10}
    assert colours(pictures["mixed_same"]) == {200, 20}  # the other image of class 0
    assert colours(pictures["mixed_rand"]) in ({200, 30}, {200, 40})
    object_places = pictures["foreground"][0] == 200
    assert int(object_places.sum()) == 8  # nine in the box without the corner; the stray spot is background
    for kind in ("mixed_same", "mixed_rand"):
        assert torch.equal(pictures[kind][0] == 200, object_places)
    assert all(picture.shape == (3, 8, 10) and picture.dtype == torch.uint8 for picture in pictures.values())


def test_backgrounds_are_drawn_evenly_and_never_from_the_wrong_class() -> None:
    labels = [0, 0, 0, 1, 1, 2]
    source = Drawn(6)
    counts = torch.zeros(6, 6)
    for seed in range(200):
        images = made(source, labels, seed)
        for kind, own in (("mixed_same", True), ("mixed_rand", False)):
            for index, partner in enumerate(images.partners[kind]):
                if index != 5 or not own:
                    assert partner != index
                    assert (labels[partner] == labels[index]) == own
                    counts[index, partner] += 1
    assert images.partners["mixed_same"][5] == 5  # alone in its class
    assert images.without_partner == 1
    assert 70 < counts[0, 1] < 130  # one of two: 100 expected
    assert 40 < counts[0, 5] < 95  # one of three: 67 expected
    assert made(source, labels, 3).partners == made(source, labels, 3).partners


def test_an_image_without_a_box_is_left_out_and_gives_no_background() -> None:
    images = made(Drawn(4, without=1), [0, 0, 1, 1])
    assert images.positions == [0, 2, 3]
    assert images.labels.tolist() == [0, 1, 1]
    assert colours(images.make(0, "mixed_same")) == {200, 10}  # alone now: its own background
    for seed in range(20):
        again = made(Drawn(4, without=1), [0, 0, 1, 1], seed)
        kinds: tuple[CounterfactualKind, ...] = ("mixed_same", "mixed_rand")
        assert all(20 not in colours(again.make(index, kind)) for index in range(3) for kind in kinds)


def numbered(height: int, width: int) -> Tensor:
    """Every pixel another value."""
    return torch.arange(height * width, dtype=torch.uint8).view(1, height, width).repeat(3, 1, 1)


@pytest.mark.parametrize(
    ("box", "taken_from"),  # per pixel of the box, row by row: the (row, column) it repeats
    [
        ((2, 1, 5, 5), [(r, c) for r in (1, 2, 3, 4) for c in (5, 6, 7)]),  # right: three columns are the largest strip
        ((4, 1, 7, 5), [(r, c) for r in (1, 2, 3, 4) for c in (0, 1, 2)]),  # left
        ((1, 2, 2, 5), [(2, 2), (3, 2), (4, 2)]),  # right: a box of one column takes its first
        ((0, 2, 8, 4), [(r, c) for r in (0, 1) for c in range(8)]),  # above, of equal strips the first
        ((0, 1, 8, 4), [(r, c) for r in (4, 5, 4) for c in range(8)]),  # below, repeated: two rows for three
        ((3, 0, 8, 6), [(r, c) for r in range(6) for c in (0, 1, 2, 0, 1)]),  # left, repeated
    ],
)
def test_a_box_is_filled_by_repeating_the_largest_strip(
    box: tuple[int, int, int, int], taken_from: list[tuple[int, int]]
) -> None:
    image = numbered(6, 8)
    left, top, right, bottom = box
    filled = tile_box(image, box)
    assert filled[0, top:bottom, left:right].flatten().tolist() == [row * 8 + column for row, column in taken_from]
    outside = torch.ones(6, 8, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(filled[:, outside], image[:, outside])


def test_a_box_is_filled_with_the_mean_of_what_is_outside() -> None:
    image = torch.tensor([[[10, 20], [90, 40]]], dtype=torch.uint8).repeat(3, 1, 1)
    assert mean_box(image, (0, 1, 1, 2))[0].tolist() == [[10, 20], [23, 40]]  # 70 / 3


def test_a_background_of_another_shape_is_cut_at_its_centre_not_squeezed() -> None:
    image = numbered(6, 8)
    assert torch.equal(cover(image, (6, 8)), image)
    assert torch.equal(cover(image, (6, 4)), image[:, :, 2:6])
    assert torch.equal(cover(image, (3, 8)), image[:, 1:4])
    assert cover(image, (12, 12)).shape == (3, 12, 12)
