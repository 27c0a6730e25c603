"""Localisation on maps made by hand, with numbers derived on paper, and against slow loops written from the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from methods.measures.localisation import (
    OVERLAPS,
    PixelPrecision,
    Scores,
    best_thresholds,
    energy,
    flat,
    normalised,
    overlaps,
    pointing,
)

# Two blobs on 4 x 6: a column of three on the left, a pixel at the right edge.
HAND = torch.tensor([[[0, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 4], [0, 3, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]]).float()


def box(*edges: float) -> Tensor:
    return torch.tensor([edges])


def test_the_pointing_game_by_hand() -> None:
    assert pointing(HAND, box(5, 1, 6, 2)).tolist() == [1]
    assert pointing(HAND, box(0, 0, 5, 4)).tolist() == [0]
    assert pointing(HAND, box(5.4, 0, 6, 4)).tolist() == [1]  # the pixel's centre, 5.5, is inside
    assert pointing(HAND, box(5.6, 0, 6, 4)).tolist() == [0]
    tie = HAND.clone()
    tie[0, 2, 1] = 4
    assert pointing(tie, box(0, 0, 2, 4)).tolist() == [0.5]


def test_energy_by_hand() -> None:
    assert energy(HAND, box(1, 1, 2, 4)).tolist() == [0.6]  # 2 + 3 + 1 of 10
    assert energy(HAND, box(1.5, 1, 2, 3)).tolist() == [0.25]  # half of 2 + 3
    assert energy(HAND, box(1, 1.5, 2, 2.25)).tolist() == [0.175]  # half of 2, a quarter of 3
    assert energy(HAND, box(0, 0, 6, 4)).tolist() == [1]


def test_overlaps_by_hand() -> None:
    """Normalised: 2 -> .5, 3 -> .75, 1 -> .25, 4 -> 1. The box of the left column shrinks as the threshold rises."""
    left = box(1, 0, 2, 4)  # four pixels
    found = overlaps(HAND, left, [0, 0.25, 0.5, 0.75, 1])
    assert found.tolist() == [[4 / 24, 3 / 4, 2 / 4, 1 / 4, 0]]
    assert overlaps(HAND, box(5, 1, 6, 3), [0.25, 1]).tolist() == [[0.5, 0.5]]  # the other region's box


def test_one_map_for_many_images_is_looked_into_once() -> None:
    _, boxes, _ = random_maps(20, 3)
    expanded = HAND.expand(20, -1, -1)
    assert np.array_equal(overlaps(expanded, boxes, [0.2, 0.7]), overlaps(expanded.clone(), boxes, [0.2, 0.7]))


def test_regions_touch_at_corners_and_never_across_images() -> None:
    corner = torch.zeros(2, 4, 4)
    corner[:, 1, 1] = corner[:, 2, 2] = 1
    corner[1, 2, 2] = 0
    whole = torch.tensor([[1.0, 1, 3, 3], [1, 1, 3, 3]])
    assert overlaps(corner, whole, [0.5]).tolist() == [[1], [0.25]]


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_map_without_contrast_is_the_whole_image(value: float) -> None:
    maps, object_box = torch.full((1, 4, 6), value), box(1, 1, 4, 3.0)
    assert flat(maps).tolist() == [True]
    share = 6 / 24
    assert pointing(maps, object_box).tolist() == [share]
    assert energy(maps, object_box).tolist() == [share]
    assert overlaps(maps, object_box, [0, 0.5, 1]).tolist() == [[share] * 3]


def test_thresholds_are_the_best_ones_and_of_equals_the_lowest() -> None:
    found = np.array([[0.1, 0.4, 0.4, 0.8], [0.1, 0.5, 0.6, 0.2], [0.0, 0.3, 0.3, 0.1]])
    assert best_thresholds(found, [0, 0.2, 0.4, 0.6]) == (0.2, 0.2, 0.6)


def random_maps(number: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth maps with several regions, boxes with fractions, masks; one map without contrast, one all zero."""
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(number, 1, 4, 5, generator=rng) ** 3
    maps = torch.nn.functional.interpolate(small, (12, 15), mode="bilinear", align_corners=False)[:, 0]
    maps[0], maps[1] = 0.7, 0
    corners = torch.rand(number, 2, 2, generator=rng).sort(dim=1).values * torch.tensor([15, 12])
    masks = torch.rand(number, 12, 15, generator=rng) < 0.3
    return maps, corners.reshape(number, 4), masks


def test_everything_equals_slow_loops() -> None:
    maps, boxes, _ = random_maps(20, 0)
    tried = [step / 10 for step in range(10)]
    found = overlaps(maps, boxes, tried)
    for index in range(len(maps)):
        m, b = maps[index].double().numpy(), boxes[index].double().tolist()
        assert pointing(maps, boxes)[index] == pytest.approx(slow_pointing(m, b))
        assert energy(maps, boxes)[index] == pytest.approx(slow_energy(m, b), abs=1e-6)
        for column, threshold in enumerate(tried):
            single = maps[index].numpy()  # thresholds compare in single precision, as the maps come
            assert found[index, column] == pytest.approx(slow_overlap(single, b, threshold)), (index, threshold)


def slow_pointing(m: np.ndarray, b: list[float]) -> float:
    places = [(y, x) for y in range(m.shape[0]) for x in range(m.shape[1]) if m[y, x] >= m.max() - 1e-5 * np.ptp(m)]
    hits = [b[0] <= x + 0.5 < b[2] and b[1] <= y + 0.5 < b[3] for y, x in places]
    return sum(hits) / len(hits)


def slow_energy(m: np.ndarray, b: list[float]) -> float:
    if m.max() == m.min():
        m = np.ones_like(m)

    inside = 0.0
    for y in range(m.shape[0]):
        for x in range(m.shape[1]):
            tall = max(0.0, min(y + 1, b[3]) - max(y, b[1]))
            wide = max(0.0, min(x + 1, b[2]) - max(x, b[0]))
            inside += m[y, x] * tall * wide
    return inside / float(m.sum())


def slow_overlap(m: np.ndarray, b: list[float], threshold: float) -> float:
    """Flood fill; best overlap over all regions."""
    span = m.max() - m.min()
    salient = {
        (y, x)
        for y in range(m.shape[0])
        for x in range(m.shape[1])
        if span == 0 or (m[y, x] - m.min()) / span >= threshold
    }
    best = 0.0
    while salient:
        region, todo = set(), [salient.pop()]
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & salient
            salient -= near
            todo += near
        ys, xs = [y for y, _ in region], [x for _, x in region]
        found = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
        wide = max(0.0, min(found[2], b[2]) - max(found[0], b[0]))
        tall = max(0.0, min(found[3], b[3]) - max(found[1], b[1]))
        union = (found[2] - found[0]) * (found[3] - found[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall
        best = max(best, wide * tall / union)
    return best


def test_pxap_by_hand_and_against_scikit_learn() -> None:
    """Scores 1, .5, .5, 0 with objects first and third: precision 1, 2/3 (both .5 together), at recall 1/2, 1."""
    hand = PixelPrecision()
    hand.add(torch.tensor([[[2.0, 1], [1, 0]]]), torch.tensor([[[True, False], [True, False]]]))
    assert hand.value() == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)

    maps, _, masks = random_maps(20, 1)
    scores = PixelPrecision()
    for start in range(0, 20, 7):  # in batches
        scores.add(maps[start : start + 7], masks[start : start + 7])
    binned = torch.floor(normalised(maps).double() * 1000)
    expected = average_precision_score(masks.flatten().numpy(), binned.flatten().numpy())
    assert scores.value() == pytest.approx(expected, abs=1e-12)


def test_percentages_are_means_over_images_whatever_the_batches() -> None:
    maps, boxes, masks = random_maps(20, 2)
    chosen = (0.2, 0.5, 0.6)
    one, many = Scores(chosen), Scores(chosen)
    one.add(maps, boxes, masks)
    for start in range(0, 20, 3):
        many.add(maps[start : start + 3], boxes[start : start + 3], masks[start : start + 3])
    assert one.percentages() == pytest.approx(many.percentages())
    values = one.percentages()
    assert values["flat"] == 10  # two of twenty
    assert values["pointing"] == pytest.approx(100 * float(pointing(maps, boxes).mean()))
    accuracies = [values[f"boxacc_{100 * wanted:.0f}"] for wanted in OVERLAPS]
    assert accuracies[1] == 100 * np.mean(overlaps(maps, boxes, chosen)[:, 1] >= 0.5)
    assert values["maxboxacc"] == pytest.approx(np.mean(accuracies))
