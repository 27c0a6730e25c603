"""The salient box of a saliency map, and the overlap of two boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from suite.data.record import Box

if TYPE_CHECKING:
    import numpy.typing as npt

_FULL = 0.95  # share of the image's area from which on a box is no information

Reason = Literal["empty", "small", "full"]


def salient_box(saliency: npt.NDArray[np.uint8], threshold: float, min_side: float) -> tuple[Box, Reason | None]:
    """The tight box of the largest 8-connected region where the map [H, W] reaches `threshold` x its maximum.

    The whole image, with the reason, where there is no usable box: the map is black ("empty"), the box is narrower or
    lower than `min_side` of the image ("small"), or covers 95 % of its area ("full").

    The largest region, because one stray blob would stretch a box of all pixels. Mean overlap of u2netp's boxes with
    the official ones of 1,128 CUB photographs: .829 at threshold 0.3 and .814 at 0.5; .816 for all pixels above 0.5.
    """
    from scipy import ndimage

    height, width = saliency.shape
    whole = Box(0, 0, width, height)
    peak = int(saliency.max())
    if peak == 0:
        return whole, "empty"
    regions, count = ndimage.label(saliency >= max(threshold * peak, 1), structure=np.ones((3, 3)))
    if count > 1:
        sizes = np.bincount(regions.ravel())
        sizes[0] = 0  # what is not salient
        regions = regions == sizes.argmax()
    rows, columns = np.flatnonzero(regions.any(axis=1)), np.flatnonzero(regions.any(axis=0))
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    if box.x1 - box.x0 < min_side * width or box.y1 - box.y0 < min_side * height:
        return whole, "small"
    if area(box) >= _FULL * area(whole):
        return whole, "full"
    return box, None


def area(box: Box) -> float:
    """Area in square pixels; 0 for a box whose right edge is left of its left one, or bottom above top."""
    return max(0.0, box.x1 - box.x0) * max(0.0, box.y1 - box.y0)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1."""
    shared = area(Box(max(a.x0, b.x0), max(a.y0, b.y0), min(a.x1, b.x1), min(a.y1, b.y1)))
    union = area(a) + area(b) - shared
    return shared / union if union > 0 else 0.0
