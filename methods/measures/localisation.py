"""How well maps find objects: pure functions of maps [N, H, W] and official boxes [N, 4], image by image.

Boxes are left, top, right, bottom in pixels of the map, fractions allowed; pixel i covers [i, i + 1). A constant
map, such as a Grad-CAM that is zero everywhere, counts as the whole image in every measure.

pointing   is the highest place inside the box?          Zhang et al. 2016, arXiv:1608.00507
energy     share of the map's sum inside the box         Wang et al. 2020, arXiv:1910.01279, section 4.2
boxacc     does the box around a connected region of the map overlap with the official box by at least .3, .5, .7?
           maxboxacc is the mean of the three            Choe et al. 2020, arXiv:2001.07437; V2 in arXiv:2007.04178
pxap       average precision of all pixels of all images, by masks instead of boxes           arXiv:2001.07437

Differs from these: ties share the hit of the pointing game, which here has no tolerance around the box; Choe et al.
take the best threshold of each overlap on the images they test on, here it is chosen on training images; they scale
a map without contrast to zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OVERLAPS = (0.3, 0.5, 0.7)
_BINS = 1000  # of a map's range, for pxap: arXiv:2001.07437's


def pointing(maps: Tensor, boxes: Tensor) -> Tensor:
    """float64 [N]: 1 where the highest pixel's centre is in the box; of several highest ones, the share that is.

    Pixels within a hundred-thousandth of the map's range are equally high: enlarging a small map makes plateaus, which
    rounding, different on every device, would break up.
    """
    height, width = maps.shape[1:]
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    left, top, right, bottom = boxes[:, :, None].unbind(dim=1)  # [N, 1] each
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]  # [N, H, W]
    high, low = maps.amax(dim=(1, 2), keepdim=True), maps.amin(dim=(1, 2), keepdim=True)
    highest = maps >= high - 1e-5 * (high - low)
    return (highest & inside).sum(dim=(1, 2)).double() / highest.sum(dim=(1, 2))


def energy(maps: Tensor, boxes: Tensor) -> Tensor:
    """float64 [N]: the share of the map's sum that lies in the box, pixels on its edge counted by the part inside.

    Maps must not be negative.
    """
    maps = torch.where(flat(maps)[:, None, None], torch.ones_like(maps), maps).double()
    rows = _covered(boxes[:, 1], boxes[:, 3], maps.shape[1])
    columns = _covered(boxes[:, 0], boxes[:, 2], maps.shape[2])
    return torch.einsum("nhw,nh,nw->n", maps, rows, columns).div(maps.sum(dim=(1, 2))).clamp_max(1)


def flat(maps: Tensor) -> Tensor:
    """bool [N]: no contrast."""
    return maps.amax(dim=(1, 2)) == maps.amin(dim=(1, 2))


def normalised(maps: Tensor) -> Tensor:
    """Each map stretched to 0 .. 1; one without contrast becomes 1 everywhere."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / torch.where(high > low, high - low, 1), torch.ones_like(maps))


def overlaps(maps: Tensor, boxes: Tensor, thresholds: Sequence[float]) -> NDArray[np.float64]:
    """[N, T]: the best intersection over union of the official box with the box of any 8-connected region of the
    pixels that reach a threshold, 0 <= threshold <= 1, of the normalised map. Regions of one map that was expanded to
    many images are looked for once."""
    alike = maps.stride(0) == 0
    scaled, official = normalised(maps[:1] if alike else maps).numpy(), boxes.double().numpy()
    best = np.zeros((len(maps), len(thresholds)))
    for column, threshold in enumerate(thresholds):
        owners, regions = _region_boxes(scaled >= threshold)
        if alike:
            owners, regions = np.repeat(np.arange(len(maps)), len(regions)), np.tile(regions, (len(maps), 1))
        np.maximum.at(best[:, column], owners, _intersection_over_union(regions, official[owners]))
    return best


def best_thresholds(best_overlaps: NDArray[np.float64], thresholds: Sequence[float]) -> tuple[float, ...]:
    """For each of OVERLAPS the threshold at which most images reach it; of equally good ones the lowest.

    Args:
        best_overlaps: [N, T] from `overlaps` on images that are not tested on.
        thresholds: the T that were tried, ascending.
    """
    return tuple(thresholds[int((best_overlaps >= wanted).mean(axis=0).argmax())] for wanted in OVERLAPS)


class PixelPrecision:
    """The average precision of pixels as a detector of the object, over all images added."""

    def __init__(self) -> None:
        self._object = torch.zeros(_BINS + 1, dtype=torch.float64)  # pixels of the object by score
        self._rest = torch.zeros_like(self._object)

    def add(self, maps: Tensor, masks: Tensor) -> None:
        """Maps [N, H, W] and what is object in them, bool [N, H, W]."""
        scores = (normalised(maps).double() * _BINS).long()
        self._object += torch.bincount(scores[masks], minlength=_BINS + 1)
        self._rest += torch.bincount(scores[~masks], minlength=_BINS + 1)

    def value(self) -> float:
        """Sum over the scores, highest first, of precision x growth in recall; NaN where no pixel is object."""
        hits, wrong = self._object.flip(0).cumsum(0), self._rest.flip(0).cumsum(0)
        grown = self._object.flip(0) / self._object.sum()
        return float((hits / (hits + wrong).clamp_min(1) * grown).sum().clamp_max(1))


class Scores:
    """All measures of one kind of map, added up batch by batch so that no more maps than a batch are held.

    Args:
        thresholds: one for each of OVERLAPS, chosen elsewhere.
    """

    def __init__(self, thresholds: Sequence[float]) -> None:
        self._thresholds = tuple(thresholds)
        self._found: dict[str, list[Tensor]] = {}
        self._pixels: PixelPrecision | None = None

    def add(self, maps: Tensor, boxes: Tensor, masks: Tensor | None = None) -> None:
        """Maps [N, H, W], not negative; boxes [N, 4]; masks, where known, bool [N, H, W]."""
        best_overlaps = torch.from_numpy(overlaps(maps, boxes, self._thresholds))
        new = {"pointing": pointing(maps, boxes), "energy": energy(maps, boxes), "flat": flat(maps).double()}
        for column, wanted in enumerate(OVERLAPS):
            new[f"boxacc_{100 * wanted:.0f}"] = (best_overlaps[:, column] >= wanted).double()
        for name, values in new.items():
            self._found.setdefault(name, []).append(values)
        if masks is not None:
            self._pixels = self._pixels or PixelPrecision()
            self._pixels.add(maps, masks)

    def percentages(self) -> dict[str, float]:
        """pointing, energy, boxacc_30, _50, _70, their mean maxboxacc, pxap where masks are known; in percent.

        And flat, the percentage of maps without contrast.
        """
        means = {name: 100 * float(torch.cat(values).mean()) for name, values in self._found.items()}
        means["maxboxacc"] = sum(means[f"boxacc_{100 * wanted:.0f}"] for wanted in OVERLAPS) / len(OVERLAPS)
        if self._pixels is not None:
            means["pxap"] = 100 * self._pixels.value()
        return means


def _covered(low: Tensor, high: Tensor, pixels: int) -> Tensor:
    """float64 [N, pixels]: how much of each pixel lies between low and high [N]."""
    first = torch.arange(pixels).double()
    inside = torch.minimum(high[:, None].double(), first + 1) - torch.maximum(low[:, None].double(), first)
    return inside.clamp(0, 1)


def _region_boxes(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The image [M] and the tight box [M, 4] of every 8-connected region of masks [N, H, W]."""
    from scipy import ndimage

    within_an_image = np.zeros((3, 3, 3), bool)
    within_an_image[1] = True
    regions, _ = ndimage.label(masks, structure=within_an_image)
    places = [place for place in ndimage.find_objects(regions) if place is not None]
    owners = np.array([image.start for image, _, _ in places], np.int64)
    boxes = [(x.start, y.start, x.stop, y.stop) for _, y, x in places]
    return owners, np.array(boxes, np.float64).reshape(-1, 4)


def _intersection_over_union(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """[M] of boxes [M, 4] pair by pair; 0 where neither has an area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float64)
