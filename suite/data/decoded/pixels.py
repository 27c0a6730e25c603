"""From an image file to the pixels that training reads. One definition for both forms of an image store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from suite.data.datasets.files import decode_image
from suite.data.decoded.shape import resized_shape
from suite.data.record import Record
from suite.errors import ImageError

Pixels = NDArray[np.uint8]


def load_resized(
    path: Path, banner: int, size: int, data: bytes | None = None, *, checked: bool = False
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an image, cut off its banner, and reduce it to the store's size with a Lanczos filter.

    JPEGs are decoded at full size: decoding at a reduced size (libjpeg's scaled DCT) gives other pixels.

    Args:
        path: of the file.
        banner: rows at the bottom that are no picture.
        size: short side of the result at most, px.
        data: the file's content, where it has been read already.
        checked: the content has been checked to be whole.

    Returns:
        The RGB image, and the original's (height, width) without the banner.

    Raises:
        ImageError: the file is no whole image, or consists of the banner only.
    """
    image = decode_image(path, data, checked=checked)
    width, rows = image.width, image.height - banner
    refuse_banner_only(path, image.height, banner)
    if banner:
        image = image.crop((0, 0, width, rows))
    height, width_out = resized_shape(rows, width, size)
    if (width_out, height) != image.size:
        image = image.resize((width_out, height), Image.Resampling.LANCZOS)
    return image, (rows, width)


def refuse_banner_only(path: Path, height: int, banner: int) -> None:
    """Raise ImageError where an image of `height` rows has no row above its banner."""
    if height <= banner:
        raise ImageError(
            f"{path} has {height} rows, not more than the {banner} of the banner. Fetch the file again, then retry."
        )


def scaled_box(record: Record, original: tuple[int, int], shape: tuple[int, ...]) -> list[float]:
    """The record's official box in a resized image, cut at its edges; four NaN where there is none.

    Args:
        record: of the image.
        original: height and width of the original without the banner.
        shape: height and width of the resized image.
    """
    if record.box is None:
        return [float("nan")] * 4
    scale_y, scale_x = shape[0] / original[0], shape[1] / original[1]
    x0, y0, x1, y1 = record.box
    box = [x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y]
    return [min(max(v, 0.0), float(limit)) for v, limit in zip(box, (shape[1], shape[0]) * 2, strict=True)]
